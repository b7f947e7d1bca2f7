"""Talking to a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm.config import Config, ModelConfig
from mpo_llm.engines import Autoregressive, Engine, sample
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Message, written
from mpo_llm.training import assemble, checkpoint


def load(model: str, max_tokens: int, temperature: float) -> tuple[TokenPolicy, Any, Engine]:
    """The policy of a checkpoint or a run, or a model that was not trained here; its tokenizer, and
    the engine that its configuration names."""
    trained = (Path(model) / checkpoint.HEADER).exists() or (Path(model) / "config.yaml").exists()
    config = checkpoint.config_of(model) if trained else Config(ModelConfig(model))
    generation = replace(config.generation, max_tokens=max_tokens, temperature=temperature)
    config = replace(config, generation=generation)
    policy, tokenizer = assemble.start(config)
    if trained:
        policy = checkpoint.policy_of(model, policy)
    return policy, tokenizer, assemble.engine(config)


def converse(
    policy: TokenPolicy,
    tokenizer: Any,
    lines: Iterable[str],
    rng: np.random.Generator,
    system: str | None = None,
    engine: Engine = Autoregressive(),
) -> Iterator[str]:
    """An answer to each line, all that was said before in mind."""
    said: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    chat = getattr(tokenizer, "chat_template", None) is not None
    for line in lines:
        said.append({"role": "user", "content": line})
        drawn = sample(policy, [written(tokenizer, said, chat)], 1, rng, engine)
        answer = str(tokenizer.decode(drawn.ids(0), skip_special_tokens=True))
        said.append({"role": "assistant", "content": answer})
        yield answer
