"""A small causal transformer for enumerable languages, tests and teaching."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mpo_games.checks import require_count
from mpo_llm.networks.trie import Trie, attention

LARGEST = 2**28
"""The largest number of weights: a GiB in single precision."""


class SmallTransformer(nn.Module):
    """A module `ids -> logits`: pre-norm blocks, learned positions, no dropout.

    A block is attention and a perceptron of two layers. `context` is the largest number of tokens
    in a row, `width` the number d of a state's coordinates. `ValueError` for more than `LARGEST`
    weights.
    """

    def __init__(
        self, vocabulary: int, context: int, *, width: int = 32, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        for name, count in (
            ("vocabulary", vocabulary),
            ("context", context),
            ("width", width),
            ("heads", heads),
        ):
            require_count(name, count)
        require_count("layers", layers, least=0)
        if width % heads:
            raise ValueError(f"`width` must be a multiple of `heads`, got {width} and {heads}.")
        # Python's own integers, which do not overflow.
        vocabulary, context, width, layers = map(int, (vocabulary, context, width, layers))
        self.vocabulary, self.context = vocabulary, context
        count = width * (2 * vocabulary + context + 12 * width * layers)
        if count > LARGEST:
            raise ValueError(
                f"A small transformer of these sizes has about {count:.2g} weights, more than "
                f"{LARGEST:.2g}: pass a smaller `width`, `layers`, `vocabulary` or `context`, or "
                "load a model of transformers."
            )
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.5)
        # Logits start near 0, so the first policy is nearly uniform.
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Next-token logits `(N, W, V)` of ids `(N, W)`."""
        x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def on_trie(self, trie: Trie) -> Tensor:
        """Next-token logits `(N, V)` after each beginning of a trie, as `forward` has them."""
        x = self.token(trie.tokens) + self.position(trie.depths)
        for block in self.blocks:
            x = cast(_Block, block).on_trie(x, trie)
        logits: Tensor = self.head(self.norm(x))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        # Queries, keys and values in one product. Saved weights have this name.
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.mixed(self.norms[0](x)).chunk(3, dim=-1)
        )
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(-2))
        added: Tensor = x + self.mlp(self.norms[1](x))
        return added

    def on_trie(self, x: Tensor, trie: Trie) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1))
            for part in self.mixed(self.norms[0](x)).chunk(3, dim=-1)
        )
        x = x + self.out(attention(q, k, v, trie).flatten(-2))
        added: Tensor = x + self.mlp(self.norms[1](x))
        return added
