"""A tiny model of transformers with its tokenizer, on disk, for the tests of the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers

from mpo_llm.config import Config
from mpo_llm.training.config_file import parse

WORDS = ("<pad>", "<end>", "<user>", "<bot>", *"abcdefgh", "rock", "paper", "scissors", "?")

TEMPLATE = (
    "{% for m in messages %}<{{ 'bot' if m['role'] == 'assistant' else 'user' }}> "
    "{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


RUNNABLE = "prompts: {source: prompts.jsonl}\njudge: {factory: 'tiny:judge'}\n"
"""What a file says at least, for tests of what else it says."""


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


def model(seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=1,
        pad_token_id=0,
        **options,
    )
    return transformers.LlamaForCausalLM(config)


def save(folder: Path, **options: Any) -> Path:
    """A model's folder."""
    model(**options).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def prompts(folder: Path, count: int = 4) -> Path:
    """A file of prompts of different lengths."""
    path = folder / "prompts.jsonl"
    rows = ({"prompt": " ".join("abcdefgh"[: 1 + i % 7])} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def cyclic(prompts: Any, a: Any, b: Any) -> Any:
    """A judge with a cycle: rock, paper, scissors by which word a response has most often."""
    one, two = ([_style(text) for text in texts] for texts in (a, b))
    return 0.5 + 0.4 * np.array([0, 1, -1])[np.subtract(one, two) % 3]


judges: dict[str, Any] = {"cyclic": cyclic}
"""What `judge` finds."""


def judge(name: str) -> Any:
    """The factory that runs name."""
    return judges[name]


engines: dict[str, Any] = {}
"""What `engine` finds: functions from a configuration to an engine."""


def engine(config: Config, name: str) -> Any:
    """The factory that runs name."""
    return engines[name](config)


def _style(text: str) -> int:
    return int(np.argmax([text.count(w) for w in ("rock", "paper", "scissors")]))


def config(folder: Path, **sections: Any) -> Config:
    """A run on the tiny model, in `folder`."""
    if not (folder / "model").is_dir():
        save(folder / "model")
    if not (folder / "prompts.jsonl").is_file():
        prompts(folder)
    found: dict[str, Any] = {
        "evaluation": {},
        "model": {"name": str(folder / "model")},
        "prompts": {"source": str(folder / "prompts.jsonl")},
        "generation": {"max_tokens": 5},
        "judge": {"factory": "tiny:judge", "options": {"name": "cyclic"}},
        "solver": {"samples": 4, "prompts": 2, "magnet": {"every": 2}, "feedback": "optimistic"},
        "step": {"rate": 0.01, "epochs": 2},
        "budget": {"steps": 4},
        "output": {"folder": str(folder / "run"), "checkpoint_every": 2, "trackers": []},
    }
    for name, section in sections.items():
        found[name] = {**found[name], **section} if isinstance(section, dict) else section
    return parse(Config, found)
