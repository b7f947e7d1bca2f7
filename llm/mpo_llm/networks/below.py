"""What lies below the trained layers of a model, which no step changes, is computed once.

With adapters in the top layers alone, the layers below them make the same states of the same rows
for every policy and at every update. They are kept, and the model is then run from the first
trained layer on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

from mpo_games.protocol import Indices

T = TypeVar("T")

ROOM = 2**28
"""Bytes of states that are kept, those used last: 256 MiB."""


class Below:
    """The layers below the first trained one, and the states that they made of some rows."""

    def __init__(self, layers: Sequence[nn.Module], room: int = ROOM) -> None:
        """`layers` are all layers of the model in their order, some of them with trained weights.

        Nothing that is trained may lie before the first of these.
        """
        first = next(i for i, layer in enumerate(layers) if _trained(layer))
        self._below, self._first = list(layers[:first]), layers[first]
        self._room = room
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    @staticmethod
    def of(model: nn.Module, layers: Sequence[nn.Module]) -> Below | None:
        """None if the first layer is trained, or anything outside the layers."""
        own = {id(p) for layer in layers for p in layer.parameters()}
        outside = any(p.requires_grad and id(p) not in own for p in model.parameters())
        if outside or not layers or _trained(layers[0]) or not any(map(_trained, layers)):
            return None
        return Below(layers)

    def run(self, rows: Indices, function: Callable[[], T]) -> T:
        """`function()`, which runs the model over `rows` `(R, W)`, without what is known of it."""
        key = repr(rows.shape).encode() + rows.tobytes()
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            with self._skipping(known):
                return function()
        seen: list[Tensor] = []
        made: list[object] = []

        def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append((args[0] if args else kwargs["hidden_states"]).detach())

        def note(_: nn.Module, __: Any, output: object) -> None:
            made.append(output)

        hooks = [
            self._first.register_forward_pre_hook(look, with_kwargs=True),
            self._below[-1].register_forward_hook(note),
        ]
        try:
            found = function()
        finally:
            for hook in hooks:
                hook.remove()
        # Only layers that are run once and make states alone can be left out.
        if len(seen) == len(made) == 1 and isinstance(made[0], Tensor):
            self._keep(key, seen[0])
        return found

    def _keep(self, key: bytes, states: Tensor) -> None:
        self._known[key] = states
        while sum(map(_bytes, self._known.values())) > self._room:
            self._known.popitem(last=False)

    @contextmanager
    def _skipping(self, states: Tensor) -> Iterator[None]:
        """Within this context the layers below do nothing, and the first trained one gets
        `states`."""

        def put(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (states, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": states}

        hook = self._first.register_forward_pre_hook(put, with_kwargs=True)
        try:
            for layer in self._below:
                # The instance's own `forward` hides that of its class.
                vars(layer)["forward"] = _nothing
            yield
        finally:
            hook.remove()
            for layer in self._below:
                vars(layer).pop("forward", None)


def _nothing(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """A layer that returns what it gets."""
    return hidden_states


def _trained(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())


def _bytes(states: Tensor) -> int:
    return states.numel() * states.element_size()
