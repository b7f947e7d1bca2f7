"""Where a result comes from: solver, game, seed and versions, as text."""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from zlib import crc32

import numpy as np

from mpo_games.protocol import Solver


def spell(solver: Solver) -> str:
    """The solver's settings as text; a function is named, not located, so equal runs read equal."""
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", repr(solver))


def _describe(game: Any) -> str:
    """The game's class and, of its payoffs, shape and checksum: enough to tell two games apart."""
    name = type(game).__name__
    if hasattr(game, "game"):
        return f"{name} of {_describe(game.game)}"
    payoff = getattr(game, "payoff", None)
    if not isinstance(payoff, np.ndarray):
        return name
    size = " x ".join(map(str, payoff.shape))
    return f"{name} {size}, checksum {crc32(payoff.tobytes()):08x}"


def _provenance(game: Any, solver: Solver, seed: int) -> dict[str, Any]:
    return {
        "game": _describe(game),
        "solver": spell(solver),
        "seed": int(seed),
        "versions": dict(_versions()),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("mpo-games", "numpy", "scipy", "numba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
