"""Small networks that play trees, and a tokenizer of characters, for the tests of such games."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Regex, models, pre_tokenizers
from torch import Tensor, nn

import mpo_games as mg
import mpo_llm as ml
from mpo_llm.responses import Ids
from mpo_llm.trees import Compact, Fit, TextTreeGame, compact

END = 1
"""The id that ends a response in the tokenizer's language."""


def characters() -> Any:
    """A tokenizer whose tokens are characters."""
    signs = ["?", "<end>", *map(chr, range(32, 63)), *map(chr, range(64, 127)), "\n"]
    made = tokenizers.Tokenizer(models.WordLevel({s: i for i, s in enumerate(signs)}, "?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", unk_token="?"
    )


def speller(folder: Path) -> Path:
    """A tiny model that reads and writes characters."""
    tokenizer = characters()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def network(words: Compact, *, seed: int = 0, double: bool = False, prefixes: bool = False) -> Any:
    """A small transformer for compact tokens, whose head is large enough for uneven play."""
    torch.manual_seed(seed)
    module = ml.SmallTransformer(words.vocabulary, words.context, width=16, layers=1)
    nn.init.normal_(module.head.weight, std=0.3)
    module = module.double() if double else module
    return ml.PlainNetwork(module, context=words.context, prefixes=prefixes)


def game(name: str = "kuhn_poker", fit: Fit = Fit(), **options: Any) -> TextTreeGame:
    """A tree of OpenSpiel that a small transformer plays in compact tokens."""
    tree = mg.load(name).with_dilation(mg.dilation.payoff_scaled)
    words = compact(tree)
    start = ml.TokenPolicy.of(network(words, **options), words.decoding)
    return TextTreeGame(tree, start, words.describe, words.say, fit=fit)


class Unconditional(nn.Module):
    """The same next-token logits whatever was said before: it ignores its prompt."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits.expand(*ids.shape, -1)


class Tabulated(nn.Module):
    """Logits of its own for each prompt, and for each of its beginnings."""

    def __init__(self, words: Compact, prompts: Sequence[Ids]) -> None:
        super().__init__()
        begun = {p[:k] for p in prompts for k in range(1, len(p) + 1)}
        self.base = words.vocabulary
        keys = sorted(self._key(ids) for ids in begun)
        self.register_buffer("keys", torch.tensor(keys))
        self.logits = nn.Parameter(torch.zeros(len(keys), words.vocabulary, dtype=torch.float64))

    def _key(self, ids: Ids) -> int:
        key = 0
        for i in ids:
            key = key * (self.base + 1) + i + 1
        return key

    def forward(self, ids: Tensor) -> Tensor:
        key, keys = torch.zeros_like(ids[:, 0]), []
        for column in ids.T:
            key = key * (self.base + 1) + column + 1
            keys.append(key)
        where = torch.searchsorted(self.keys, torch.stack(keys, 1))  # type: ignore[arg-type]
        # Padding is no beginning of a prompt, and nobody asks for its logits.
        return self.logits[where.clamp(max=len(self.logits) - 1)]
