"""A conversation with a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm.config import Config, ModelConfig
from mpo_llm.engines import Autoregressive, Engine, sample
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import Message, encode
from mpo_llm.rows import short
from mpo_llm.training import assemble, checkpoint


def load(
    model: str, max_tokens: int, temperature: float, own_engine: bool = False
) -> tuple[TokenPolicy, Any, Engine]:
    """Load a policy, its tokenizer and its engine from a checkpoint, a run's folder, or any model.

    The engine is the one that the configuration names, or with `own_engine` the built-in one.
    `max_tokens` limits an answer; `temperature` divides the logits. `ValueError` if there is no
    such model.
    """
    # A run's folder and a checkpoint are recognised by their files; any other name is a model's.
    trained = (Path(model) / checkpoint.HEADER).exists() or (Path(model) / "config.yaml").exists()
    config = checkpoint.config_of(model) if trained else Config(ModelConfig(model))
    generation = replace(config.generation, max_tokens=max_tokens, temperature=temperature)
    config = replace(config, generation=generation)
    config = assemble.own_engine(config) if own_engine else config
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
    """Answer each line as the next message of one conversation.

    `lines` are the user's messages. Each answer is drawn when the iterator reaches it. `system` is
    a system message to begin with. Without a chat template, the messages are joined by empty lines.
    `ValueError` for a message after which the model has no room for an answer.
    """
    messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    chat = getattr(tokenizer, "chat_template", None) is not None
    for line in lines:
        messages.append({"role": "user", "content": line})
        try:
            # Half a surrogate pair, which a terminal passes on for bytes that are no text.
            line.encode()
            prompt = encode(tokenizer, messages, chat)
            assemble.room(policy).require(prompt, tokenizer)
        except ValueError as error:
            reason = "it is no text" if isinstance(error, UnicodeError) else error
            raise ValueError(
                f"The conversation cannot go on after {short(line)}: {reason}"
            ) from error
        drawn = sample(policy, [prompt], 1, rng, engine)
        answer = assemble.answer(policy, tokenizer, drawn.ids(0))
        messages.append({"role": "assistant", "content": answer})
        yield answer
