"""Any causal module as a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from mpo_llm.networks.base import Decoder, Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes


@final
class PlainNetwork(Network):
    """A network made of any module `ids (N, W) -> logits (N, W, V)`.

    The module must be causal, because it gets no mask: padding stands after all tokens of a row and
    must not change them. Its logits take the place of states. `context` is the largest W; `offload`
    keeps the weights of stored policies in CPU memory.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        context: int | None = None,
        offload: bool = False,
        processes: Processes = OneProcess(),
    ) -> None:
        super().__init__(module, offload, processes)
        self._context = context

    @property
    def context(self) -> int | None:
        return self._context

    def _states(self, inputs: Inputs) -> Tensor:
        logits: Tensor = self._module(inputs.ids)
        return logits[inputs.row, inputs.column]

    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        return hidden

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _RecomputingDecoder(self._states, rows, lengths)


class _RecomputingDecoder:
    """A decoder without a cache: for every token it runs the whole rows again."""

    def __init__(self, states: Callable[[Inputs], Tensor], rows: Tensor, lengths: Tensor) -> None:
        # A copy, because `next` increments it in place.
        self._states, self._rows, self._lengths = states, rows, lengths.clone()

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            if int(self._lengths.max()) == self._rows.shape[1]:
                self._rows = nn.functional.pad(self._rows, (0, 1))
            self._rows.scatter_(1, self._lengths[:, None], tokens[:, None])
            self._lengths += 1
        # Responses to one prompt often agree at first, so equal rows are run once.
        keys = torch.cat([self._lengths[:, None], self._rows], dim=1)
        distinct, where = torch.unique(keys, dim=0, return_inverse=True)
        return self._states(Inputs.whole(distinct[:, 1:], distinct[:, 0]))[where]

    def keep(self, rows: Tensor) -> None:
        self._rows, self._lengths = self._rows[rows], self._lengths[rows]
