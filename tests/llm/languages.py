"""Small enumerable games and their networks, which the tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mpo_llm as ml

SYMBOLS, LENGTH = 3, 3
"""27 responses of fixed length; 1 + 3 + 9 + 27 = 40 with `eos` as a fourth symbol."""

FIXED = ml.Decoding(LENGTH, vocabulary=SYMBOLS)
ENDED = ml.Decoding(LENGTH, eos=SYMBOLS, vocabulary=SYMBOLS + 1)
PROMPTS = ((4,), (5, 1))
"""Of different lengths."""


class PrefixTable(nn.Module):
    """A free row of logits for every prefix: any distribution over responses can be had.

    No prompt begins with id 0, and nothing is predicted from more than `longest` tokens.
    """

    def __init__(self, vocabulary: int, longest: int) -> None:
        super().__init__()
        self.base = vocabulary
        self.rows = nn.Embedding(self.base**longest, vocabulary)
        nn.init.normal_(self.rows.weight, std=0.7)

    def forward(self, ids: Tensor) -> Tensor:
        index, logits = torch.zeros_like(ids[:, 0]), []
        for t in range(ids.shape[1]):
            index = (index * self.base + ids[:, t]) % self.rows.num_embeddings
            logits.append(self.rows(index))
        return torch.stack(logits, 1)


def table_network(seed: int = 0) -> ml.PlainNetwork:
    torch.manual_seed(seed)
    return ml.PlainNetwork(PrefixTable(6, 4).double())


def transformer(seed: int = 0, sharpness: float = 20.0, **options: Any) -> ml.PlainNetwork:
    """Near uniform at a `sharpness` of 1."""
    torch.manual_seed(seed)
    module = ml.SmallTransformer(6, 5, width=16, **options).double()
    with torch.no_grad():
        module.head.weight.mul_(sharpness)
    return ml.PlainNetwork(module, context=5)


def preferences(decoding: ml.Decoding, prompts: int = 1, seed: int = 0) -> np.ndarray:
    """Cyclic: a sum of two rock-paper-scissors planes, squashed; no response beats all others."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(prompts, len(ml.all_responses(decoding)), 4))
    turned = np.stack([-u[..., 1], u[..., 0], -u[..., 3], u[..., 2]], axis=-1)
    return 0.5 + 0.5 * np.tanh(u @ np.swapaxes(turned, -1, -2))


def game(
    network: ml.Network,
    decoding: ml.Decoding = FIXED,
    proximal: ml.Proximal = ml.Proximal(),
    *,
    prompts: tuple[tuple[int, ...], ...] = PROMPTS[:1],
    samples: int | None = None,
    seed: int = 0,
) -> ml.EnumerableGame:
    start = ml.TokenPolicy.of(network, decoding, proximal)
    return ml.EnumerableGame(start, prompts, preferences(decoding, len(prompts), seed), samples)
