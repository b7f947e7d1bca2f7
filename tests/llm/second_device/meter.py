"""What a device counts: kernels, waits, copies and allocations, by place in the code."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

from torch import Tensor

Counts = Counter[tuple[str, str]]
"""Amounts by what is counted and by place: `("aten::nonzero", "autoregressive.py:96")`."""

TO_DEVICE, TO_HOST = "to the device", "to the host"

_OWN = tuple(str(Path(__file__).with_name(name)) for name in ("backend.py", "meter.py"))


class Meter:
    """The counts of a device since the last `reset`.

    A place is the innermost line of `mpo_llm` that runs. Autograd runs the backward pass in a
    thread of its own, so its place is `"backward"`, except for hooks and recomputed layers.
    """

    def __init__(self) -> None:
        # The backward pass counts from its own thread.
        self._lock = threading.RLock()
        self.held = 0
        """Bytes that live tensors hold now, whenever they were allocated."""
        self.reset()

    def reset(self) -> None:
        """Forget all counts but the bytes held; the peak starts from these."""
        self.kernels: Counts = Counter()
        """Kernels that were launched, by operation."""
        self.waits: Counts = Counter()
        """Times that the host would wait for the device, by reason."""
        self.copies: Counts = Counter()
        """Bytes that were copied `TO_DEVICE` and `TO_HOST`."""
        self.doubles: Counts = Counter()
        """Numbers in double precision that kernels made, by operation; scalars are left out."""
        self.allocations: Counts = Counter()
        """Bytes that were allocated, by operation."""
        self.peak = self.held
        """The largest number of bytes held."""
        self.peak_place = ("", "")
        """The operation and the place that reached it."""

    def count(self, counts: Counts, what: str, amount: int = 1) -> None:
        """Add to one of this meter's counts."""
        with self._lock:
            counts[what, _place()] += amount

    def allocated(self, tensor: Tensor, operation: str) -> None:
        """Count the bytes of a tensor's storage, until the tensor is freed."""
        size = tensor.untyped_storage().nbytes()
        key = operation, _place()
        with self._lock:
            self.allocations[key] += size
            self.held += size
            if self.held > self.peak:
                self.peak, self.peak_place = self.held, key
        weakref.finalize(tensor, self._freed, size).atexit = False

    def _freed(self, size: int) -> None:
        with self._lock:
            self.held -= size

    def report(self, unit: float = 1.0, most: int = 12) -> str:
        """The counts as text: the largest of each kind, in the mean over `unit` things."""
        lines = [f"held {self.held}, peak {self.peak} at {' '.join(self.peak_place)}"]
        for name in ("waits", "copies", "doubles", "kernels", "allocations"):
            counts: Counts = getattr(self, name)
            lines.append(f"{name} {counts.total() / unit:.2f}")
            lines += [
                f"  {amount / unit:10.2f}  {what}  {place}"
                for (what, place), amount in counts.most_common(most)
            ]
        return "\n".join(lines)


def _place() -> str:
    """`file.py:line` of the innermost line of the adapter, or else of the innermost caller."""
    frame: FrameType | None = sys._getframe(1)
    other: FrameType | None = None
    while frame is not None:
        whose = _whose(frame.f_code.co_filename)
        if whose == "ours":
            return _line(frame)
        if other is None and whose == "a caller's":
            other = frame
        frame = frame.f_back
    return "backward" if other is None else _line(other)


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


@cache
def _whose(file: str) -> str:
    # Remembered, because every operation looks through all frames.
    if "/mpo_llm/" in file:
        return "ours"
    return "torch's" if "/torch/" in file or file in _OWN else "a caller's"


@contextmanager
def measured(meter: Meter) -> Iterator[Meter]:
    """Within this context the meter counts from 0."""
    meter.reset()
    yield meter
