"""Any causal module as a network."""

from __future__ import annotations

from typing import Protocol, final, runtime_checkable
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from mpo_games.protocol import Indices
from mpo_llm.networks.base import Head, Network
from mpo_llm.networks.decoders import Decoder, RecomputingDecoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.networks.trie import Branching, Trie


@runtime_checkable
class Sized(Protocol):
    """A module that says what it can read, like `SmallTransformer`."""

    vocabulary: int
    """Ids below it."""
    context: int
    """The largest number of tokens in a row."""


@final
class PlainNetwork(Network):
    """A network made of any module `ids (N, W) -> logits (N, W, V)`.

    The module must be causal, because it gets no mask: padding stands after all tokens of a row and
    must not change them. Its logits take the place of states. `context` is the largest number of
    tokens of a prompt and its response; a module that is `Sized` is given no more than it can read,
    without it. `offload` keeps the weights of policies in CPU memory. With `prefixes` a token that
    several rows begin with alike is run once, which saves much where prompts begin alike; the
    module must be `Branching`, like `SmallTransformer`, else `ValueError`.
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
        self._sized = _sized(module)
        self._branching = module if prefixes and isinstance(module, Branching) else None
        # The gradients of a step run the same inputs again and again.
        self._tries: WeakKeyDictionary[Inputs, Trie] = WeakKeyDictionary()

    @property
    def context(self) -> int | None:
        return self._context

    @property
    def vocabulary(self) -> int | None:
        return None if self._sized is None else self._sized.vocabulary

    def require_room(self, sizes: Indices, steps: Indices) -> None:
        super().require_room(sizes, steps)
        # The last token of a response is predicted and never read.
        longest = int((sizes + steps).max(initial=0)) - 1
        if self._sized is not None and longest > self._sized.context:
            raise ValueError(
                f"The module reads {longest} tokens, a prompt and all of its response but the last "
                f"one, and its context is {self._sized.context}: shorten prompts or `max_tokens`."
            )

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


def _sized(module: nn.Module) -> Sized | None:
    """The module, if it is `Sized`."""
    # Somebody else's module may mean another thing by these names, such as a list of words.
    if not isinstance(module, Sized):
        return None
    counts = (module.vocabulary, module.context)
    return module if all(isinstance(count, int) for count in counts) else None
