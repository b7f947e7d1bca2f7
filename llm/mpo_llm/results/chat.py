"""Talking to a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm.config import Config, GenerationConfig, ModelConfig
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Message, encode
from mpo_llm.training import assemble, checkpoint


def load(model: str, max_tokens: int, temperature: float) -> tuple[TokenPolicy, Any]:
    """The policy of a checkpoint or a run, or a model that was not trained here."""
    if (Path(model) / checkpoint.HEADER).exists() or (Path(model) / "config.yaml").exists():
        policy, tokenizer = checkpoint.load_policy(model)
        decoding = replace(policy.decoding, max_tokens=max_tokens, temperature=temperature)
        return replace(policy, decoding=decoding), tokenizer
    generation = GenerationConfig(max_tokens=max_tokens, temperature=temperature)
    return assemble.start(Config(ModelConfig(model), generation=generation))


def converse(
    policy: TokenPolicy,
    tokenizer: Any,
    lines: Iterable[str],
    rng: np.random.Generator,
    system: str | None = None,
) -> Iterator[str]:
    """An answer to each line, all that was said before in mind."""
    said: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    chat = getattr(tokenizer, "chat_template", None) is not None
    for line in lines:
        said.append({"role": "user", "content": line})
        drawn = policy.sample([encode(tokenizer, said, chat)], 1, rng)
        answer = str(tokenizer.decode(drawn.ids(0), skip_special_tokens=True))
        said.append({"role": "assistant", "content": answer})
        yield answer
