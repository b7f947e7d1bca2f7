"""Any causal module as a network."""

from __future__ import annotations

from typing import final
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from mpo_llm.networks.base import Head, Network
from mpo_llm.networks.decoders import Decoder, RecomputingDecoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.networks.trie import Branching, Trie


@final
class PlainNetwork(Network):
    """A network made of any module `ids (N, W) -> logits (N, W, V)`.

    The module must be causal, because it gets no mask: padding stands after all tokens of a row and
    must not change them. Its logits take the place of states. `context` is the largest W; `offload`
    keeps the weights of policies in CPU memory. With `prefixes` a token that several rows begin
    with alike is run once, which saves much where prompts begin alike; the module must be
    `Branching`, like `SmallTransformer`, else `ValueError`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        context: int | None = None,
        offload: bool = False,
        prefixes: bool = False,
        processes: Processes = OneProcess(),
    ) -> None:
        super().__init__(module, offload, processes)
        self._context = context
        if prefixes and not isinstance(module, Branching):
            raise ValueError(
                "`prefixes` needs a module with `on_trie`, like `SmallTransformer`; a "
                f"{type(module).__name__} has none."
            )
        self._branching = module if prefixes and isinstance(module, Branching) else None
        # The gradients of a step run the same inputs again and again.
        self._tries: WeakKeyDictionary[Inputs, Trie] = WeakKeyDictionary()

    @property
    def context(self) -> int | None:
        return self._context

    def _states(self, inputs: Inputs) -> Tensor:
        if self._branching is not None:
            trie = self._tries.get(inputs)
            if trie is None:
                trie = self._tries[inputs] = Trie.of(inputs)
            return self._branching.on_trie(trie)[trie.where]
        logits: Tensor = self._module(inputs.ids)
        return logits[inputs.row, inputs.column]

    def logits(self, hidden: Tensor, head: Head | None = None) -> Tensor:
        return hidden

    @property
    def _head(self) -> nn.Module | None:
        return None

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return RecomputingDecoder(self._states, rows, lengths)
