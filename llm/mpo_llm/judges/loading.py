"""The judge that a configuration names, by module or file: a judge, or a factory of one."""

from __future__ import annotations

from mpo_llm import factories
from mpo_llm.config import JudgeConfig
from mpo_llm.judges.protocol import Judge


def load(settings: JudgeConfig) -> Judge:
    """The judge that the factory returns, or is. `ValueError` if it cannot be found or called."""
    judge: Judge = factories.make(
        "a judge",
        settings.factory,
        settings.options,
        named=("judge.factory", "judge.options"),
        itself=("prompts", "a", "b"),
    )
    return judge
