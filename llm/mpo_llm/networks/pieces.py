"""Tensors that are changed a piece at a time, so that little of them is near at the same time."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

IN_CACHE = 2**18
"""Numbers of a group on a CPU. Seven operations, one after the other, find them in its cache."""

SHARE = 64
"""Elsewhere a group has at most this part of all numbers: an optimiser works on copies of it."""

LEAST, MOST = 2**14, 2**24
"""Bounds of that part: small groups are many calls, larger ones than this are no faster."""


class Piece(NamedTuple):
    """Some numbers of the tensor of this name, in the order in which they lie in memory."""

    name: str
    numbers: slice | None
    """None is the whole tensor, in its shape."""
    last: bool
    """Whether no piece of this tensor follows."""

    def of(self, tensor: Tensor) -> Tensor:
        """A view of this piece of the tensor."""
        return tensor if self.numbers is None else tensor.view(-1)[self.numbers]


def groups(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Iterator[list[Piece]]:
    """All pieces of the tensors, in groups. One that is not contiguous, or whose namesake among the
    `others` is not, is in one piece."""
    total = sum(t.numel() for t in tensors.values())
    on_cpu = next((t.device.type == "cpu" for t in tensors.values()), True)
    room = most = IN_CACHE if on_cpu else min(max(total // SHARE, LEAST), MOST)
    group: list[Piece] = []
    # By name, so that a tensor that the caller drops is freed.
    for name in list(tensors):
        tensor = tensors[name]
        if not (tensor.is_contiguous() and others[name].is_contiguous()):
            yield [Piece(name, None, True)]
            continue
        begin, size = 0, tensor.numel()
        while begin < size or not size:
            end = min(size, begin + room)
            group.append(Piece(name, slice(begin, end), end == size))
            room -= end - begin
            begin = end
            if not room:
                yield group
                group, room = [], most
            if not size:
                break
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class Places:
    """Where tensors are computed with, and where they are kept."""

    device: torch.device
    """Where they are computed with."""
    home: torch.device
    """Where they are kept."""

    @property
    def apart(self) -> bool:
        """Whether tensors travel between the two."""
        return self.home != self.device

    def empty(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """A new tensor at home, of the shape of another."""
        # Only from memory that the system cannot move does a GPU fetch while the host goes on.
        return torch.empty_like(like, dtype=dtype, device=self.home, pin_memory=self.apart)

    def at_home(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor at home: itself if it is there. `wait` before the host reads it."""
        dtype = dtype or tensor.dtype
        there = tensor.device.type == self.home.type and tensor.dtype == dtype
        if there and (not self.apart or tensor.is_pinned()):
            return tensor
        return self.empty(tensor, dtype).copy_(tensor, non_blocking=self.apart)

    def wait(self) -> None:
        """Until what the device was asked to send home is there."""
        if self.apart:
            # The device works in order, and this copy does not return before it has arrived.
            torch.zeros(1, device=self.device).cpu()


def give_back(device: torch.device) -> None:
    """Let the system have memory of the CPU that is free, but scattered.

    The C library keeps it, and puts new tensors beside it where they do not fit. Does nothing for
    other devices, and without the GNU C library.
    """
    trim = _trim() if device.type == "cpu" else None
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], object] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


class Drafts:
    """Tensors by name that are changed a piece at a time; the given ones are never written to.

    A piece is changed on the device. The first change of a tensor makes a new one, at home or, for
    the names that are `near`, on the device. So a copy begins to exist when it begins to differ.
    """

    def __init__(
        self,
        given: Mapping[str, Tensor],
        places: Places,
        near: Callable[[str], bool] = lambda name: False,  # noqa: ARG005
    ) -> None:
        self.tensors = dict(given)
        """The tensors as they are now: the given ones, until they are changed."""
        self._places, self._near = places, near
        self._ours: set[str] = set()
        self._new: dict[str, Tensor] = {}

    def own(self, name: str, tensor: Tensor) -> None:
        """Let `tensor` take the place of the one of that name; it may be written to."""
        self.tensors[name] = tensor
        self._ours.add(name)

    @contextmanager
    def changed(
        self, pieces: Sequence[Piece], like: Sequence[Tensor], *, keep: bool = True
    ) -> Iterator[list[Tensor]]:
        """Tensors on the device that hold the pieces; what is written to them within is kept.

        `like` are the whole tensors of the pieces' names, in the dtype that a new one gets. One
        that does not exist yet is zero at first; without `keep` it does not begin to exist.
        """
        here: list[Tensor] = []
        away: list[tuple[Tensor, Tensor]] = []
        for piece, model in zip(pieces, like, strict=True):
            known, new = self.tensors.get(piece.name), self._new.get(piece.name)
            if known is None and not keep:
                here.append(torch.zeros_like(piece.of(model)))
                continue
            if new is None:
                if piece.name in self._ours:
                    assert known is not None
                    new = known
                elif self._near(piece.name):
                    new = torch.empty_like(model)
                else:
                    new = self._places.empty(model, model.dtype)
                self._new[piece.name] = new
            target = piece.of(new)
            if new.device == self._places.device:
                found = target
                if known is None:
                    found.zero_()
                elif known is not new:
                    found.copy_(piece.of(known), non_blocking=True)
            else:
                found = (
                    torch.zeros_like(piece.of(model))
                    if known is None
                    else torch.empty_like(piece.of(model))
                )
                if known is not None:
                    found.copy_(piece.of(known), non_blocking=True)
                away.append((target, found))
            here.append(found)
        yield here
        for target, found in away:
            target.copy_(found, non_blocking=True)
        for piece in pieces:
            if piece.last and piece.name in self._new:
                self.own(piece.name, self._new.pop(piece.name))
