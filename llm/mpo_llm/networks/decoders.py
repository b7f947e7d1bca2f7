"""Decoders: with the model's key-value cache, and without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.networks.inputs import Inputs

Run = Callable[[Tensor, Tensor, Tensor, Any], tuple[Tensor, Any]]
"""From ids, mask and positions `(R, W)` and a cache (None begins one) to states and the cache."""


def right_aligned(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left-aligned `rows` `(N, P)` of `lengths` `(N,)`, moved to the right: ids, mask, positions.

    What follows a row then follows its last token at once. Attention windows, biases by distance
    and recurrent layers, which count columns, count tokens. Masked columns have position 0.
    """
    columns = torch.arange(rows.shape[1], device=rows.device)
    positions = columns - (rows.shape[1] - lengths)[:, None]
    mask, positions = positions >= 0, positions.clamp(min=0)
    return rows.gather(1, positions), mask, positions


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
        self._ids, self._mask, self._positions = right_aligned(rows, lengths)
        self._length = lengths
        self._cache: Any = None

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self._ids, self._positions = tokens[:, None], self._length[:, None]
            self._mask = nn.functional.pad(self._mask, (0, 1), value=True)
            self._length = self._length + 1
        states, self._cache = self._run(self._ids, self._mask, self._positions, self._cache)
        return self._logits(states[:, -1])

    def keep(self, rows: Tensor) -> None:
        # Unlike `batch_select_indices`, layers of every kind have it.
        self._cache.reorder_cache(rows)
        self._mask, self._length = self._mask[rows], self._length[rows]


class RecomputingDecoder:
    """A decoder without a cache: for every token it runs the whole rows again."""

    def __init__(self, last: Callable[[Inputs], Tensor], rows: Tensor, lengths: Tensor) -> None:
        # A copy, because `next` increments it in place.
        self._last, self._rows, self._lengths = last, rows, lengths.clone()

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            if int(self._lengths.max()) == self._rows.shape[1]:
                self._rows = nn.functional.pad(self._rows, (0, 1))
            self._rows.scatter_(1, self._lengths[:, None], tokens[:, None])
            self._lengths += 1
        # Responses to one prompt often agree at first, so equal rows are run once.
        keys = torch.cat([self._lengths[:, None], self._rows], dim=1)
        distinct, where = torch.unique(keys, dim=0, return_inverse=True)
        return self._last(Inputs.whole(distinct[:, 1:], distinct[:, 0]))[where]

    def keep(self, rows: Tensor) -> None:
        self._rows, self._lengths = self._rows[rows], self._lengths[rows]
