"""What is refused before torch is imported, which takes longer than to find it."""

from __future__ import annotations

from mpo_llm.config import Config
from mpo_llm.game_settings import SMALL
from mpo_llm.networks.hub import require_model


def require_runnable(config: Config) -> None:
    """`ValueError` for a run without prompts, judge or model."""
    if not config.game.name:
        for name, value, example in (
            ("prompts.source", config.prompts.source, "prompts.jsonl"),
            ("judge.factory", config.judge.factory, "mpo_llm.judges:everyday"),
        ):
            if not value:
                raise ValueError(
                    f"`{name}` is not set: write `{name}: {example}`, for example, or `game: "
                    "kuhn_poker` in the place of prompts and judge."
                )
    if config.model.name != SMALL:
        require_model(config.model.name)
