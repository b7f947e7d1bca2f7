"""The judge that a configuration names, by module or file: a judge, or a factory of one."""

from __future__ import annotations

from mpo_llm import factories, judges
from mpo_llm.config import JudgeConfig
from mpo_llm.judges import named
from mpo_llm.judges.protocol import Judge

KNOWN = tuple(
    f"{judges.__name__}:{name}"
    for name, function in vars(judges).items()
    if getattr(function, "__module__", "") == named.__name__
)
"""The addresses of the factories that are built in."""


def load(settings: JudgeConfig) -> Judge:
    """The judge that the factory returns, or is. `ValueError` if it cannot be found or called."""
    judge: Judge = factories.make(
        "a judge",
        settings.factory,
        settings.options,
        named=("judge.factory", "judge.options"),
        itself=("prompts", "a", "b"),
        known=KNOWN,
    )
    return judge
