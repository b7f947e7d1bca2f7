"""Runs at a table of Kuhn poker, which the tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpo_llm.config import Config
from mpo_llm.training import config_file


def config(folder: Path, steps: int = 3, **sections: Any) -> Config:
    """A small transformer that plays Kuhn poker, in `folder`."""
    found: dict[str, Any] = {
        "model": {"name": "small_transformer"},
        "game": "kuhn_poker",
        "fit": {"updates": 3},
        "budget": {"steps": steps},
        "evaluation": {"every": 1},
        "output": {"folder": str(folder), "checkpoint_every": 2, "trackers": []},
    }
    return config_file.parse(Config, found | sections)
