"""How far a run is: a bar on a terminal, and a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

EVERY = 30.0
"""Seconds between two lines."""


def progress(total: int | None, begun: int, *, lines: bool) -> AbstractContextManager[Any]:
    """The progress of a run up to `total` steps, if it has such a limit, from the step `begun`.

    On a terminal it is a bar. Elsewhere, such as in a log, it is `Lines` if they are asked for.
    """
    from tqdm import tqdm

    if lines and not sys.stderr.isatty():
        return Lines(total, begun)
    # None lets tqdm decide: it hides the bar if standard error is no terminal.
    bar: AbstractContextManager[Any] = tqdm(total=total, initial=begun, unit="step", disable=None)
    return bar


def hidden() -> AbstractContextManager[Any]:
    """A bar that is not shown: that of a process whose run another process tells of."""
    from tqdm import tqdm

    bar: AbstractContextManager[Any] = tqdm(disable=True)
    return bar


class Lines(AbstractContextManager["Lines"]):
    """A line after the first step, and then at most one in `EVERY` seconds."""

    def __init__(
        self, total: int | None, begun: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.begun, self.step, self.clock = total, begun, begun, clock
        self.start = clock()
        self.told: float | None = None
        self.said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def set_postfix_str(self, said: str, refresh: bool = True) -> None:
        """What the next lines say of the steps so far; it has tqdm's name."""
        self.said = f", {said}" if said else ""

    def update(self, n: int) -> None:
        """`n` more steps have been taken."""
        self.step += n
        now = self.clock()
        if self.told is None or now - self.told >= EVERY:
            self.told = now
            print(self.line(now), file=sys.stderr, flush=True)

    def line(self, now: float) -> str:
        """The step, the seconds that a step takes, and how long the others will take."""
        each = (now - self.start) / max(self.step - self.begun, 1)
        if self.total is None:
            return f"step {self.step:,}, {duration(each)} a step{self.said}"
        left = duration((self.total - self.step) * each)
        of = f"step {self.step:,} of {self.total:,}"
        return f"{of}, {duration(each)} a step, {left} left{self.said}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.25 s`, `110 s`, `12 min`, `4.5 h`."""
    if seconds < 10.0:
        return f"{seconds:.2g} s"
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60.0)
    if minutes < 120:
        return f"{minutes} min"
    hours = seconds / 3600.0
    return f"{hours:.1f} h" if hours < 10.0 else f"{hours:,.0f} h"
