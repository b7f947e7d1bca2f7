"""Pinned memory, and its copies from and to the device, which the host does not wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def is_pinned(tensor: Tensor, device: Any = None) -> bool:
    """Whether a tensor has pinned memory: `Tensor.is_pinned`."""
    return tensor.is_cpu and hasattr(tensor.untyped_storage(), "pinned")


def pin_memory(tensor: Tensor, device: Any = None) -> Tensor:
    """A copy in pinned memory, or the tensor if it is there: `Tensor.pin_memory`."""
    return tensor if is_pinned(tensor) else _new(tensor, tensor.dtype).copy_(tensor)


def empty_like(tensor: Tensor, make: Any = torch.empty_like, **given: Any) -> Tensor:
    """`torch.empty_like`, in pinned memory if that is asked for."""
    if given.pop("pin_memory", False):
        return _new(tensor, given.get("dtype") or tensor.dtype)
    found: Tensor = make(tensor, **given)
    return found


def _new(like: Tensor, dtype: torch.dtype) -> Tensor:
    # Some checks run on CUDA as well, where memory must be pinned in truth.
    found = torch.empty(like.shape, dtype=dtype, pin_memory=torch.cuda.is_available())
    storage: Any = found.untyped_storage()
    storage.pinned = True
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Copy:
    host: Tensor
    content: Tensor
    """What is copied."""
    to_host: bool

    def end(self) -> None:
        if self.to_host:
            self.host.copy_(self.content)
        elif not torch.equal(_bytes(self.host), _bytes(self.content)):
            raise RuntimeError("Pinned memory was written to while it was copied to the device.")


class Copies:
    """The copies that the host has not waited for.

    Those to the host arrive when they end; until then there is NaN. Those to the device are made
    at once, and looked at again when they end.
    """

    def __init__(self) -> None:
        self._open: list[_Copy] = []

    def begin(self, source: Tensor, target: Tensor, *, to_host: bool) -> None:
        """Copy between tensors, both of which are shown as tensors of the CPU."""
        host = target if to_host else source
        # The device works in order: for it, earlier copies of this memory have ended.
        self.end(host)
        self._open.append(_Copy(host, source.to(host.dtype, copy=True), to_host))
        if to_host:
            target.fill_(torch.nan if target.is_floating_point() else 1)
        else:
            target.copy_(source)

    def end(self, host: Tensor | None = None) -> None:
        """End all copies, or those with the memory of a tensor. `RuntimeError` if the host has
        written to what it copied to the device."""
        for copy in list(self._open):
            if host is None or _memory(copy.host) == _memory(host):
                self._open.remove(copy)
                copy.end()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
