"""The processes that share the work of a run.

Every process holds the same state and draws the same random numbers. Only work is divided: the
prompts that are answered, the responses that are scored and trained on, the pairs that are judged.
Results are gathered and gradients are summed, so all processes go on with the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

LONGEST = timedelta(hours=2)
"""How long a process waits for the others' objects. Meanwhile one of them may load a judge, ask it
about its pairs or write a checkpoint."""

OTHERS = {"DeepSpeed": "ACCELERATE_USE_DEEPSPEED", "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM"}
"""Other ways to share weights, and the variable by which Accelerate's launcher asks for each."""


class Processes(Protocol):
    """The processes of a run, seen from one of them. All of them must call each method."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def gather(self, part: T) -> list[T]:
        """The parts of all processes, in the order of their ranks."""
        ...

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        ...

    def collect(self, tensor: Tensor) -> list[Tensor] | None:
        """The tensors of all processes, in the order of their ranks; None in all but the first.

        They must be alike in shape and dtype.
        """
        ...

    def add(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The sums of the tensors over the processes, by name; a name that is missing counts as 0.

        The given tensors become their sums in place. The result also has the names that only other
        processes gave. `ValueError` if a name has two shapes or dtypes.
        """
        ...


class OneProcess:
    """A run in one process."""

    rank, size = 0, 1

    def gather(self, part: T) -> list[T]:
        return [part]

    def largest(self, number: int) -> int:
        return number

    def collect(self, tensor: Tensor) -> list[Tensor] | None:
        return [tensor]

    def add(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return tensors


class Distributed:
    """The processes of `torch.distributed`, which must have been initialised (Accelerate does).

    Objects and all that lies in CPU memory go over gloo. So no GPU waits with them, and the time
    limit of NCCL, some minutes, does not count.
    """

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._host = torch.distributed.new_group(backend="gloo", timeout=LONGEST)

    def gather(self, part: T) -> list[T]:
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, part, group=self._host)
        return parts

    def largest(self, number: int) -> int:
        found = torch.tensor(number)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, self._host)
        return int(found)

    def collect(self, tensor: Tensor) -> list[Tensor] | None:
        # NCCL knows nothing of tensors in CPU memory.
        group = self._host if tensor.device.type == "cpu" else None
        first = self.rank == 0
        parts = [torch.empty_like(tensor) for _ in range(self.size)] if first else None
        torch.distributed.gather(tensor, parts, group=group)
        return parts

    def add(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The sums by name, as in `Processes`: one all-reduce for each dtype."""
        # An expert without tokens on this process has no gradient here, but may have one elsewhere.
        # Added up by position, other weights would get its gradient.
        known: dict[str, tuple[torch.Size, torch.dtype]] = {}
        for theirs in self.gather({name: (t.shape, t.dtype) for name, t in tensors.items()}):
            for name, kind in theirs.items():
                if known.setdefault(name, kind) != kind:
                    raise ValueError(
                        f"The processes have unlike tensors {name!r}: {known[name]} and {kind}."
                    )
        here = next((t.device for t in tensors.values()), torch.device("cpu"))
        found = {
            name: tensors[name] if name in tensors else torch.zeros(shape, dtype=dtype, device=here)
            for name, (shape, dtype) in known.items()
        }
        # Sorted, because all processes must reduce the dtypes in the same order.
        for dtype in sorted({t.dtype for t in found.values()}, key=str):
            alike = [t for t in found.values() if t.dtype == dtype]
            whole = torch.cat([t.reshape(-1) for t in alike])
            torch.distributed.all_reduce(whole)
            at = 0
            for t in alike:
                t.copy_(whole[at : at + t.numel()].view_as(t))
                at += t.numel()
        return found


def by_first(processes: Processes, function: Callable[[], T]) -> T:
    """What `function` returns in the first process, in all of them; also its errors."""
    found: T | Exception | None = None
    if processes.rank == 0:
        try:
            found = function()
        # The others would wait for the first one for ever.
        except Exception as error:
            found = error
    first, *_ = processes.gather(found)
    if isinstance(first, Exception):
        raise first
    return first  # type: ignore[return-value]


def share(processes: Processes, count: int) -> slice:
    """The slice of `count` items that this process works on; all slices are about equally long."""
    # The same arithmetic on every process gives each item to exactly one of them.
    bounds = [count * rank // processes.size for rank in (processes.rank, processes.rank + 1)]
    return slice(*bounds)


def in_step(processes: Processes, parts: Sequence[T]) -> list[T | None]:
    """The parts of this process, followed by None until every process has equally many items.

    With sharded weights all processes take part in every pass through the network. A process with
    fewer parts than the others would leave them waiting.
    """
    most = processes.largest(len(parts))
    return [*parts, *[None] * (most - len(parts))]


def asked_to_shard() -> bool:
    """Whether the launcher was asked for FSDP. `ValueError` if it was asked for another way."""
    for name, variable in OTHERS.items():
        if os.environ.get(variable) == "true":
            raise ValueError(
                f"{name} is not supported: processes share weights by FSDP, "
                "`accelerate launch --use_fsdp --fsdp_version 2`."
            )
    # Accelerate itself does not shard on CPUs.
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"
