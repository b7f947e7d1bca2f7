"""The workbench: a module's trained parameters, which know whose weights they hold.

All policies of a run share one module. Whoever wants to run weights has the workbench hold them,
and nothing is put back afterwards. So weights that are run again and again are put in once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.weak import WeakIdKeyDictionary

from mpo_llm.networks.pieces import Drafts, Piece, Places

Weights = Mapping[str, Tensor]
"""The trainable tensors of a policy, by name. They are never written to, so policies share them."""

Mark = tuple[int, int]
"""Where a tensor lies, and how often it has been written to."""

_OWN: Any = WeakIdKeyDictionary()
"""By parameter, where its data lie if they may be written to: they belong to no policy. Workbenches
of the same module share it, because each of them puts in and takes out data."""


class Workbench:
    """The trained parameters of a module. `ValueError` for a module that has none.

    Weights that fit a parameter as they are (its device, its dtype) take the place of its data;
    others are copied into it, and rounded on the way. A step changes drafts of weights, in single
    precision or better: in half precision an update below the last digit would be lost.

    `reshard()` lets go of whole copies of sharded parameters, which are made of what these hold.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        offload: bool = False,
        reshard: Callable[[], None] | None = None,
    ) -> None:
        named = module.named_parameters()
        self.parameters: dict[str, nn.Parameter] = {n: p for n, p in named if p.requires_grad}
        """The module's parameters that are trained, by name."""
        if not self.parameters:
            raise ValueError("The module has no parameter that requires a gradient.")
        self.sharded = frozenset(n for n, p in self.parameters.items() if isinstance(p, DTensor))
        """Names of the sharded parameters: this process holds only some of their rows."""
        device = next(iter(self.parameters.values())).device
        self.places = Places(device, torch.device("cpu") if offload else device)
        """The device of the module, and where policies keep their weights: in CPU memory with
        `offload`, so that the device has one set of weights, that of the module."""
        self._reshard = reshard or (lambda: None)
        # FSDP keeps sharded parameters to itself.
        self._apart = self.sharded | {
            n for n, p in self.parameters.items() if p.dtype != single(p.dtype)
        }
        """Names of the parameters that are only the rounding of the drafts that are trained."""
        self._held: Weights | None = None
        self._seen: dict[str, Mark] = {}
        self._drafts: Drafts | None = None
        self._gradients: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def hold(self, weights: Weights, rounded: Weights | None = None) -> None:
        """Have the parameters hold `weights`; nothing is copied if they do already.

        `rounded` are the same weights on the module's device and in its precision, if they exist.
        """
        if weights is self._held and self._seen == self._marks():
            return
        self._require_untouched()
        self._held = None
        self._reshard()
        for name, tensor in (rounded or weights).items():
            self._put(name, tensor)
        self._held, self._seen = weights, self._marks()

    def weights(self) -> Weights:
        """The weights that the parameters hold, as policies keep them. They end the training."""
        if self._drafts is not None:
            held = self._held is self._drafts.tensors
            found = {n: self._finished(n, w) for n, w in self._drafts.tensors.items()}
            self.places.wait()
            self.end()
            # The parameters are what was trained, or its rounding.
            self._held = found if held else None
            return found
        if self._held is None or self._seen != self._marks():
            self._require_untouched()
            self._held = {n: self._read(n, p) for n, p in self.parameters.items()}
            self.places.wait()
            self._seen = self._marks()
        return self._held

    def ready(self, weights: Weights) -> Weights:
        """The weights on the module's device and in its precision; sharded ones as they are."""
        return {n: self.rounded(n, weights) for n in weights}

    def rounded(self, name: str, weights: Weights) -> Tensor:
        """One of the weights on the module's device and in its precision."""
        p, tensor = self.parameters[name], weights[name]
        if name in self.sharded or (tensor.dtype == p.dtype and tensor.device == p.device):
            return tensor
        if weights is self._held and self._seen[name] == _mark(p):
            # Nearer than home.
            return p.detach().clone()
        return tensor.to(p.device, p.dtype, non_blocking=True)

    def begin(self, weights: Weights) -> None:
        """Begin to train: hold drafts that are equal to `weights`."""
        self.end()
        self.hold(weights)
        # In the order of the module, because sums over all weights depend on it.
        given = {name: weights[name] for name in self.parameters}
        self._drafts = Drafts(given, self.places, lambda name: name not in self._apart)
        for name, p in self.parameters.items():
            p.grad = None
            if name in self._apart:
                add = partial(_add_up, self._gradients, name)
                self._hooks.append(p.register_post_accumulate_grad_hook(add))  # type: ignore[no-untyped-call]
            elif self._owns(name):
                self._drafts.own(name, p.data)
        self._held = self._drafts.tensors

    def end(self) -> None:
        """Forget drafts and gradients, if there are any."""
        if self._drafts is not None and self._held is self._drafts.tensors:
            self._held = None
        self._drafts = None
        self._reshard()
        self.clear()
        while self._hooks:
            self._hooks.pop().remove()

    def hold_drafts(self) -> None:
        """Have the parameters hold what is trained."""
        if self._drafts is not None:
            self.hold(self._drafts.tensors)

    @property
    def drafts(self) -> Weights:
        """What is trained, in its present state."""
        assert self._drafts is not None
        return self._drafts.tensors

    def replace(self, tensors: Weights) -> None:
        """Let tensors that the caller may write to at any time take the place of all drafts."""
        assert self._drafts is not None
        for name, tensor in tensors.items():
            self._drafts.own(name, tensor)
        self.refresh()

    def refresh(self) -> None:
        """Have the parameters hold the drafts as they have become."""
        self._held = None
        self.hold_drafts()

    @contextmanager
    def changed(self, pieces: Sequence[Piece], like: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Pieces of the drafts, on the device; what is written to them within is kept.

        The parameters must hold the drafts: `hold_drafts`. `like` are gradients.
        """
        assert self._drafts is not None
        with self._drafts.changed(pieces, like) as here:
            yield here
        for piece, tensor in zip(pieces, here, strict=True):
            name, p = piece.name, self.parameters[piece.name]
            if name in self._apart:
                piece.of(self._writable(name)).copy_(tensor)
            elif piece.last:
                p.data = self._drafts.tensors[name]
                _OWN[p] = p.data_ptr()
            if name in self._seen:
                self._seen[name] = _mark(p)

    @property
    def gradients(self) -> dict[str, Tensor]:
        """The gradients that have added up so far, by name, in the precision of the drafts."""
        found = {
            n: self._gradients.get(n) if n in self._apart else p.grad
            for n, p in self.parameters.items()
        }
        return {n: gradient for n, gradient in found.items() if gradient is not None}

    def set_gradient(self, name: str, gradient: Tensor) -> None:
        """Let `gradient` take the place of what has added up."""
        if name in self._apart:
            self._gradients[name] = gradient
        else:
            self.parameters[name].grad = gradient

    def take(self) -> dict[str, Tensor]:
        """The gradients, which the workbench forgets."""
        found = self.gradients
        self.clear()
        return found

    def clear(self) -> None:
        """Forget the gradients."""
        self._gradients.clear()
        for p in self.parameters.values():
            p.grad = None

    def _put(self, name: str, tensor: Tensor) -> None:
        p = self.parameters[name]
        if self._fits(name, tensor):
            p.data = tensor
            _OWN.pop(p, None)
        else:
            self._writable(name).copy_(tensor, non_blocking=True)

    def _fits(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor can take the place of a parameter's data."""
        p = self.parameters[name]
        return name not in self.sharded and tensor.dtype == p.dtype and tensor.device == p.device

    def _owns(self, name: str) -> bool:
        """Whether a parameter's data belong to no policy."""
        p = self.parameters[name]
        return bool(_OWN.get(p) == p.data_ptr())

    def _writable(self, name: str) -> Tensor:
        """The data of a parameter, which belong to no policy and are no draft."""
        p = self.parameters[name]
        # While a draft is the parameter's data, other weights must not be written to it.
        draft = self._drafts.tensors.get(name) if self._drafts else None
        drafted = draft is not None and draft.data_ptr() == p.data_ptr()
        if name not in self.sharded and (drafted or not self._owns(name)):
            p.data = torch.empty_like(p.data)
            _OWN[p] = p.data_ptr()
        # Unlike `p.data`, this counts what is written, for whoever else looks at the parameter.
        return _local(p)

    def _read(self, name: str, p: nn.Parameter) -> Tensor:
        """The weight of a policy, read from the parameter that held it first."""
        kept = self.places.at_home(_local(p))
        if name in self.sharded:
            return kept.clone() if kept.data_ptr() == _local(p).data_ptr() else kept
        if kept.data_ptr() != p.data_ptr() or name in self._apart:
            # Other weights will be copied into this parameter, so the policy has a tensor apart.
            _OWN[p] = p.data_ptr()
            return kept.clone() if kept.data_ptr() == p.data_ptr() else kept
        _OWN.pop(p, None)
        return kept

    def _finished(self, name: str, draft: Tensor) -> Tensor:
        """A draft as a policy keeps it."""
        p = self.parameters[name]
        kept = self.places.at_home(draft, single(p.dtype))
        if kept is draft and name not in self._apart:
            _OWN.pop(p, None)
        return kept

    def _marks(self) -> dict[str, Mark]:
        # FSDP moves sharded parameters as it likes.
        return {n: _mark(p) for n, p in self.parameters.items() if n not in self.sharded}

    def _require_untouched(self) -> None:
        """`ValueError` if others have written to a parameter whose data are those of a policy."""
        if self._held is None or (self._drafts and self._held is self._drafts.tensors):
            return
        for name, (place, count) in self._marks().items():
            before = self._seen[name]
            if place == before[0] and count != before[1] and not self._owns(name):
                raise ValueError(
                    f"The module's parameter {name!r} was changed from outside while it held a "
                    "policy, which must never change: train a copy of the module."
                )


def single(dtype: torch.dtype) -> torch.dtype:
    """Single precision, or `dtype` if that is more precise."""
    return torch.promote_types(dtype, torch.float32)


def _local(p: Tensor) -> Tensor:
    """The rows that this process holds of a parameter or a gradient, without its graph."""
    held: Any = p.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def _mark(p: Tensor) -> Mark:
    return p.data_ptr(), p._version


def _add_up(sums: dict[str, Tensor], name: str, p: Tensor) -> None:
    """Move a parameter's gradient to the sums, in single precision: small parts are not lost."""
    # It knows no network: a parameter and its hook would keep each other in memory for ever.
    if p.grad is None:
        return
    gradient, known = _local(p.grad), sums.get(name)
    if known is None:
        sums[name] = gradient.to(single(gradient.dtype), copy=True)
    else:
        known.add_(gradient)
    p.grad = None
