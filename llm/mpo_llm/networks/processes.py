"""The processes that share the work of a run.

Every process holds the same state and draws the same random numbers; what is divided is work: the
prompts that are drawn for, the rows that are run through networks, the pairs that are judged. What
each has found is gathered, so that all go on with the same, and gradients are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """Processes that share work, of which this is one."""

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gather(self, part: Any) -> list[Any]:
        """Every process's part, in their order."""
        ...

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        ...


class OneProcess:
    """One process."""

    rank, size = 0, 1

    def gather(self, part: Any) -> list[Any]:
        return [part]

    def add(self, tensors: Sequence[Tensor]) -> None:
        return None


class Distributed:
    """The processes of `torch.distributed`, as Accelerate has started them."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def gather(self, part: Any) -> list[Any]:
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, part)
        return parts

    def add(self, tensors: Sequence[Tensor]) -> None:
        """In one message for each kind of number."""
        for dtype in sorted({t.dtype for t in tensors}, key=str):
            alike = [t for t in tensors if t.dtype == dtype]
            whole = torch.cat([t.reshape(-1) for t in alike])
            torch.distributed.all_reduce(whole)
            at = 0
            for t in alike:
                t.copy_(whole[at : at + t.numel()].view_as(t))
                at += t.numel()


def share(processes: Processes, count: int) -> slice:
    """Which of `count` things this process takes: consecutive ones, as many as the others."""
    bounds = [count * rank // processes.size for rank in (processes.rank, processes.rank + 1)]
    return slice(*bounds)


def in_step(processes: Processes, parts: Sequence[T]) -> list[T | None]:
    """The parts, and None as often as it takes for every process to have as many."""
    most = max(processes.gather(len(parts)))
    return [*parts, *[None] * (most - len(parts))]
