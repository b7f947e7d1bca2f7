"""Any causal module as a network."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from mpo_llm.networks.base import Head, Network
from mpo_llm.networks.decoders import Decoder, RecomputingDecoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes


@final
class PlainNetwork(Network):
    """A network made of any module `ids (N, W) -> logits (N, W, V)`.

    The module must be causal, because it gets no mask: padding stands after all tokens of a row and
    must not change them. Its logits take the place of states. `context` is the largest W; `offload`
    keeps the weights of policies in CPU memory.
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

    def logits(self, hidden: Tensor, head: Head | None = None) -> Tensor:
        return hidden

    @property
    def _head(self) -> nn.Module | None:
        return None

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return RecomputingDecoder(self._states, rows, lengths)
