"""Decoders: with the model's key-value cache, and without one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.networks.inputs import Inputs, right_aligned

Run = Callable[[Tensor, Tensor | None, Tensor | None, Any], tuple[Tensor, Any]]
"""From ids, mask and positions `(R, W)` and a cache (None begins one) to states and the cache.
Without a mask nothing is padding, and without positions columns are counted."""

ROOM = 64
"""Tokens for which a cache gets room at a time."""


class Decoder(Protocol):
    """Next-token logits of a batch of rows that grow token by token."""

    def next(self, tokens: Tensor | None) -> Tensor:
        """Append `tokens` `(N,)`, or nothing if None, and return the logits after them, `(N, V)`.

        The first call has no tokens to append: its logits are those after the prompts.
        """
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with the given rows `(M,)` alone; a row that is named twice is copied."""
        ...


class CachedDecoder:
    """A decoder with the model's cache of keys and values, or of recurrent states."""

    def __init__(
        self, run: Run, logits: Callable[[Tensor], Tensor], rows: Tensor, lengths: Tensor
    ) -> None:
        self._run, self._logits = run, logits
        self._length = lengths
        self._cache: Any = None
        self._ids = rows
        self._mask: Tensor | None = None
        self._positions: Tensor | None = None
        # Without a mask a model may take a faster kernel.
        if int(lengths.min()) < rows.shape[1]:
            self._ids, self._mask, self._positions = right_aligned(rows, lengths)

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self._ids, self._positions = tokens[:, None], self._length[:, None]
            if self._mask is not None:
                self._mask = nn.functional.pad(self._mask, (0, 1), value=True)
            self._length = self._length + 1
        states, self._cache = self._run(self._ids, self._mask, self._positions, self._cache)
        if tokens is None:
            _give_room(self._cache, masked=self._mask is not None)
        return self._logits(states[:, -1])

    def keep(self, rows: Tensor) -> None:
        # Unlike `batch_select_indices`, layers of every kind have it.
        self._cache.reorder_cache(rows)
        self._length = self._length[rows]
        if self._mask is not None:
            self._mask = self._mask[rows]


def _give_room(cache: Any, *, masked: bool) -> None:
    """Let the layers of a cache that append to their keys and values do so in place."""
    # Only a network of transformers has a cache, and others need no transformers.
    from transformers.cache_utils import DynamicLayer

    layers: list[Any] = getattr(cache, "layers", [])
    for layer in layers:
        if type(layer) is DynamicLayer and layer.is_initialized:
            setattr(layer, "update", _Room(layer).update)  # noqa: B010
            # Of such layers transformers does not ask, at every token, whether the mask masks
            # anything: to be told is to wait for the device.
            setattr(layer, "is_compileable", masked)  # noqa: B010


class _Room:
    """Buffers for the keys and values of a layer, with room for the tokens to come.

    By itself the layer copies all that it has for every token.
    """

    def __init__(self, layer: Any) -> None:
        # The layer has this object's method. If each held the other, the cache would stay in
        # memory until Python looks for such circles, which may be long after the last token.
        self._layer = weakref.ref(layer)
        self._seen: Tensor | None = None
        self._buffers: list[Tensor] = []

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append `(R, heads, tokens, size)`, and return all keys and values."""
        layer = self._layer()
        assert layer is not None
        start = layer.keys.shape[-2]
        stop = start + keys.shape[-2]
        # Rows may have been taken out or copied, which makes new tensors.
        if layer.keys is not self._seen or stop > self._buffers[0].shape[-2]:
            self._buffers = [_roomy(held, stop) for held in (layer.keys, layer.values)]
        for buffer, new in zip(self._buffers, (keys, values), strict=True):
            buffer[..., start:stop, :] = new
        layer.keys, layer.values = (buffer[..., :stop, :] for buffer in self._buffers)
        self._seen = layer.keys
        return layer.keys, layer.values


def _roomy(held: Tensor, least: int) -> Tensor:
    """What is held `(R, heads, tokens, size)`, with room for more tokens behind it."""
    found = held.new_empty((*held.shape[:-2], least + ROOM, held.shape[-1]))
    found[..., : held.shape[-2], :] = held
    return found


class RecomputingDecoder:
    """A decoder without a cache: for every token it runs the whole rows again."""

    def __init__(self, last: Callable[[Inputs], Tensor], rows: Tensor, lengths: Tensor) -> None:
        # A copy, because `next` increments it in place.
        self._last, self._rows, self._lengths = last, rows, lengths.clone()

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            # The longest row may have been left out, but to know its length would be to wait.
            self._rows = nn.functional.pad(self._rows, (0, 1))
            self._rows.scatter_(1, self._lengths[:, None], tokens[:, None])
            self._lengths += 1
        # Responses to one prompt often agree at first, so equal rows are run once.
        keys = torch.cat([self._lengths[:, None], self._rows], dim=1)
        distinct, where = torch.unique(keys, dim=0, return_inverse=True)
        return self._last(Inputs.whole(distinct[:, 1:], distinct[:, 0]))[where]

    def keep(self, rows: Tensor) -> None:
        self._rows, self._lengths = self._rows[rows], self._lengths[rows]
