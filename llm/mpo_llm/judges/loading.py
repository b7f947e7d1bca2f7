"""The judge that a configuration names: any factory, by module or file."""

from __future__ import annotations

from mpo_llm import factories
from mpo_llm.config import JudgeConfig
from mpo_llm.judges.protocol import Judge


def load(settings: JudgeConfig) -> Judge:
    """The judge that the factory returns. `ValueError` if it cannot be found or called."""
    named = ("judge.factory", "judge.options")
    judge: Judge = factories.make("a judge", settings.factory, settings.options, named=named)
    return judge
