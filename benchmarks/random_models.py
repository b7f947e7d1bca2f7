"""Models of a known shape with random weights: speed does not need trained ones.

`python benchmarks/random_models.py SHAPE FOLDER` saves a model in bfloat16, with a tokenizer that
has as many words as the model has logits. Such a model hardly ever ends a response, so that
responses have the full length whoever trains it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers

SPECIAL = ("<pad>", "<end>", "<user>", "<bot>", "?")
TEMPLATE = (
    "{% for m in messages %}<{{ 'bot' if m['role'] == 'assistant' else 'user' }}> "
    "{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)
SHAPES: Mapping[str, tuple[type[Any], dict[str, Any]]] = {
    "tiny": (
        transformers.Qwen2Config,
        {
            "vocab_size": 512,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "tie_word_embeddings": True,
        },
    ),
    "1.5B": (
        transformers.Qwen2Config,
        {
            "vocab_size": 151936,
            "hidden_size": 1536,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "intermediate_size": 8960,
            "tie_word_embeddings": True,
        },
    ),
    "7B": (
        transformers.LlamaConfig,
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "tie_word_embeddings": False,
        },
    ),
}
"""Qwen2-1.5B and Llama-7B, and one for tests."""


def build(shape: str) -> Any:
    """The model, on the device that is torch's default."""
    kind, sizes = SHAPES[shape]
    config = kind(**sizes, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def tokenizer(vocabulary: int) -> Any:
    """A tokenizer of so many tokens, each a word: all that a model draws can be decoded."""
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), vocabulary))]
    table = models.WordLevel({word: i for i, word in enumerate(words)}, "?")
    backend = tokenizers.Tokenizer(table)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", pad_token="<pad>", unk_token="?"
    )
    found.add_special_tokens({"additional_special_tokens": ["<user>", "<bot>"]})
    found.chat_template = TEMPLATE
    return found


def prompts(shape: str, count: int, words: int) -> tuple[str, ...]:
    """`count` prompts of `words / 2` to `words` random words."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(words // 2, words, count, endpoint=True)
    vocabulary = SHAPES[shape][1]["vocab_size"]
    drawn = (rng.integers(len(SPECIAL), vocabulary, length) for length in lengths)
    return tuple(" ".join(f"w{i}" for i in ids) for ids in drawn)


def save(shape: str, folder: Path) -> None:
    """Write the model and its tokenizer to a folder."""
    torch.manual_seed(0)
    # Billions of random numbers are drawn faster on a GPU.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = build(shape)
    model.save_pretrained(folder)
    tokenizer(model.config.vocab_size).save_pretrained(folder)


if __name__ == "__main__":
    save(sys.argv[1], Path(sys.argv[2]))
