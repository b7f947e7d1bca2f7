"""A conversation with a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_llm.config import Config, ModelConfig, PromptsConfig
from mpo_llm.conversations import Message
from mpo_llm.engines import Autoregressive, Engine, sample
from mpo_llm.policy import TokenPolicy
from mpo_llm.prompts import template_of
from mpo_llm.rows import short
from mpo_llm.templates import said
from mpo_llm.training import assemble, checkpoint


def load(
    model: str,
    max_tokens: int,
    temperature: float,
    own_engine: bool = False,
    average: bool = False,
) -> tuple[TokenPolicy, Any, Engine]:
    """Load a policy, its tokenizer and its engine from a checkpoint, a run's folder, or any model.

    The engine is the one that the configuration names, or with `own_engine` the built-in one.
    `max_tokens` limits an answer; `temperature` divides the logits. `average` takes the average of
    the weights that a run has played. `ValueError` if there is no such model or average.
    """
    trained = _is_run(model)
    config = checkpoint.config_of(model) if trained else Config(ModelConfig(model))
    if config.game.name:
        raise ValueError(
            f"{model!r} plays {config.game.name} and does not chat: `mpo-llm evaluate {model}` "
            "shows its strategy."
        )
    generation = replace(config.generation, max_tokens=max_tokens, temperature=temperature)
    config = replace(config, generation=generation)
    config = assemble.own_engine(config) if own_engine else config
    policy, tokenizer = assemble.start(config)
    if trained:
        policy = checkpoint.policy_of(model, policy, average)
    elif average:
        raise ValueError(f"{model!r} is no run, and only a run keeps an average of its weights.")
    return policy, tokenizer, assemble.engine(config)


def settings(model: str) -> PromptsConfig:
    """How a run, or a checkpoint of it, was trained to read conversations; the defaults for any
    other model."""
    return checkpoint.config_of(model).prompts if _is_run(model) else PromptsConfig()


def converse(
    policy: TokenPolicy,
    tokenizer: Any,
    lines: Iterable[str],
    rng: np.random.Generator,
    system: str | None = None,
    engine: Engine = Autoregressive(),
    settings: PromptsConfig = PromptsConfig(),
) -> Iterator[str]:
    """Answer each line as the next message of one conversation.

    `lines` are the user's messages. Each answer is drawn when the iterator reaches it. `system` is
    a system message to begin with; when None, it is that of `settings`, which also choose the chat
    template. Without a template, the messages are joined by empty lines. Thoughts are left out; an
    answer that does not follow its thoughts is a remark in brackets. `ValueError` for a message
    after which the model has no room for an answer.
    """
    template = template_of(settings, tokenizer)
    system = settings.system if system is None else system
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for line in lines:
        messages.append({"role": "user", "content": line})
        try:
            # Half a surrogate pair, which a terminal passes on for bytes that are no text.
            line.encode()
            prompt = template.encode(messages)
            assemble.room(policy).require(prompt, tokenizer)
        except ValueError as error:
            reason = "it is no text" if isinstance(error, UnicodeError) else error
            raise ValueError(
                f"The conversation cannot go on after {short(line)}: {reason}"
            ) from error
        drawn = sample(policy, [prompt], 1, rng, engine)
        ids = policy.decoding.content(drawn.ids(0))
        found = said(tokenizer, ids, template.opened(prompt))
        messages.append({"role": "assistant", "content": found.answer})
        yield found.answer if found.ended else f"[{len(ids)} tokens of thoughts, and no answer]"


def _is_run(model: str) -> bool:
    """Whether a name is a run's folder or a checkpoint; any other name is a model's."""
    return (Path(model) / checkpoint.HEADER).exists() or (Path(model) / "config.yaml").exists()
