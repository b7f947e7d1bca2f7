"""A tiny model, its prompts and its judges, the same on every machine, for stored training runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers

WORDS = ("<pad>", "<end>", "<user>", "<bot>", *"abcdefgh", "rock", "paper", "scissors", "?")

TEMPLATE = (
    "{% for m in messages %}<{{ 'bot' if m['role'] == 'assistant' else 'user' }}> "
    "{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)

JUDGE = '''"""Who beats whom: rock, paper, scissors by the word that a response has most often."""

import numpy as np


def cyclic(strength):
    def judge(prompts, a, b):
        one, two = ([style(text) for text in texts] for texts in (a, b))
        return 0.5 + strength * np.array([0, 1, -1])[np.subtract(one, two) % 3]

    return judge


def style(text):
    return int(np.argmax([text.count(word) for word in ("rock", "paper", "scissors")]))
'''


def prepare(folder: Path) -> None:
    """Everything that the stored configurations name, by paths relative to `folder`."""
    torch.set_num_threads(1)
    shape = {
        "vocab_size": len(WORDS),
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    config = transformers.LlamaConfig(**shape)
    write(folder / "model", transformers.LlamaForCausalLM(config), seed=0)
    config = transformers.LlamaConfig(**shape, num_labels=1)
    write(folder / "reward", transformers.LlamaForSequenceClassification(config), seed=1)
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    for name, count in (("prompts", 6), ("held_out", 3)):
        rows = ({"prompt": " ".join("abcdefgh"[i % 3 : 2 + i % 7])} for i in range(1, 1 + count))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def write(folder: Path, model: Any, seed: int) -> None:
    """A model's folder, its weights drawn by NumPy: no release of torch changes them."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for _, weights in sorted(model.named_parameters()):
            drawn = 0.5 * rng.normal(size=tuple(weights.shape)) + float(weights.ndim == 1)
            weights.copy_(torch.from_numpy(drawn.astype(np.float32)))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def tokenizer() -> Any:
    """A word is a token."""
    words = tokenizers.Tokenizer(models.WordLevel(dict(zip(WORDS, range(99), strict=False)), "?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<pad>", unk_token="?"
    )
    found.add_special_tokens({"additional_special_tokens": ["<user>", "<bot>"]})
    found.chat_template = TEMPLATE
    return found
