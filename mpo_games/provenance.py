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
    """The solver's settings as text, equal for equal settings.

    A function appears by its name alone, because its address changes from run to run.
    """
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", repr(solver))


def describe(game: object) -> str:
    """The class of the game, with the shape and the checksum of its payoffs if it has an array.

    This is enough to refuse a resumed run on another game.
    """
    name = type(game).__name__
    # Asked by name, since `isinstance` with a Protocol would take longer than a short run.
    inner, payoff = getattr(game, "game", None), getattr(game, "payoff", None)
    if inner is not None:
        return f"{name} of {describe(inner)}"
    if not isinstance(payoff, np.ndarray):
        return name
    size = " x ".join(map(str, payoff.shape))
    return f"{name} {size}, checksum {crc32(payoff.tobytes()):08x}"


def provenance(game: object, solver: Solver, seed: int) -> dict[str, Any]:
    """Game, solver, seed and versions of a run, ready for JSON."""
    return {
        "game": describe(game),
        "solver": spell(solver),
        # JSON refuses the integers of NumPy.
        "seed": int(seed),
        # A copy, because all runs share the cached one.
        "versions": dict(_versions()),
    }


# Reading the metadata of four packages takes longer than a short run.
@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("mpo-games", "numpy", "scipy", "numba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
