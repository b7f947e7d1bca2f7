"""Notice that mirror steps wait for processor cores which other processes keep busy.

On a CPU a mirror step only computes. Undisturbed it needs at least as much processor time as
wall-clock time, whatever part of it runs on several threads. If it needs far less, its threads
were not running. Two threads suffer most: each waits for the other after every operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

MANY = 4.0
"""So many times the processor time is far too much wall-clock time."""
LEAST = 30.0
"""Wall-clock seconds after which the ratio means something."""
Clock = Callable[[], float]


@dataclass(slots=True)
class Contention:
    """The wall-clock time and the processor time of the mirror steps of a run, in seconds."""

    wall_clock: Clock = time.perf_counter
    processor_clock: Clock = time.process_time
    """It counts all threads of this process together."""
    wall: float = 0.0
    processor: float = 0.0
    said: bool = False
    """Whether `message` has returned its sentence."""

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time within this context."""
        wall, processor = self.wall_clock(), self.processor_clock()
        try:
            yield
        finally:
            self.wall += self.wall_clock() - wall
            self.processor += self.processor_clock() - processor

    def message(self) -> str | None:
        """A sentence, once, if the mirror steps so far have waited for most of their time."""
        if self.said or self.wall < LEAST or self.wall <= MANY * self.processor:
            return None
        self.said = True
        threads = torch.get_num_threads()
        waited = (
            f"Mirror steps took {self.wall:.0f} s, but only {self.processor:.0f} s of processor "
            "time: other processes keep the cores busy."
        )
        if threads == 1:
            return f"{waited} Run fewer processes at once."
        return (
            f"{waited} The {threads} threads of this run wait for each other: set "
            "OMP_NUM_THREADS=1, or run fewer processes at once."
        )
