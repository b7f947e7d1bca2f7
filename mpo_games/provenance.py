"""Where a result comes from: solver, game, seed and versions, as text."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from zlib import crc32

import numpy as np

from mpo_games.protocol import Solver
from mpo_games.written import written


def spell(solver: Solver) -> str:
    """The solver's settings as text, equal for equal settings.

    A function appears by its name alone, because its address changes from run to run. All settings
    appear, also defaults, since another release may have others. This is no repr: files hold it.
    """
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", _spelled(solver))


def _spelled(value: Any) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{p.name}={_spelled(getattr(value, p.name))}" for p in fields(value) if p.repr)
        return f"{type(value).__qualname__}({', '.join(parts)})"
    if type(value) is tuple:
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(_spelled, value))}{comma})"
    if type(value) is list:
        return f"[{', '.join(map(_spelled, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{_spelled(k)}: {_spelled(v)}' for k, v in value.items())}}}"
    return repr(value)


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


ARRAYS = ("parent", "offset", "row", "column", "chance", "payoff", "weights")
"""The attributes that hold the arrays of a game."""

SETTINGS = ("split", "sigma", "samples", "trajectories", "exploration", "duels", "feed")
"""The attributes that hold what else decides a game: numbers, and functions by their names."""


def fingerprint(game: object) -> str:
    """A checksum of all that decides the game, where `describe` says its kind and payoffs.

    Two trees may have the same payoffs, and two noisy games the same inner one. The attributes are
    listed, so that one that a later release adds does not part runs of the same game.
    """
    checksum = 0
    for part in (game, getattr(game, "tree", None)):
        for name in ARRAYS:
            array = getattr(part, name, None)
            if isinstance(array, np.ndarray):
                said = f"{name} {array.shape} {array.dtype.str}".encode()
                checksum = crc32(np.ascontiguousarray(array).tobytes(), crc32(said, checksum))
        for name in SETTINGS:
            setting = getattr(part, name, None)
            if setting is not None:
                setting = getattr(setting, "__name__", setting)
                checksum = crc32(f"{name} {setting}".encode(), checksum)
    inner = getattr(game, "game", None)
    within = "" if inner is None else f"{fingerprint(inner)}."
    return f"{within}{checksum:08x}"


def another_game(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """How the games of two provenances differ, for a sentence; nothing if they are the same.

    Runs saved before release 0.3 have no fingerprint: of these the descriptions are compared.
    """
    # On one line, whatever an edited file holds.
    earlier, game = theirs.get("fingerprint"), " ".join(theirs["game"].split())
    if ours["game"] != game:
        return f"{game}, not {ours['game']}"
    if earlier is not None and earlier != ours["fingerprint"]:
        return f"{game} as here, but with other information states, chances or settings"
    return ""


def other_payoffs(game: object, theirs: Mapping[str, Any]) -> str:
    """How the payoffs behind `game` differ from those of a provenance; nothing if they do not.

    Noise around a game, and another view of it, do not count: their policies are those of the game.
    Runs saved before release 0.3 have no fingerprint: of these the descriptions are compared.
    """
    ours = {"game": describe(game), "fingerprint": fingerprint(game)}
    one, other = (" ".join(each["game"].rpartition(" of ")[2].split()) for each in (ours, theirs))
    # Without its class, of which there may be a subclass.
    (mine, bits), (its, others) = (
        each.partition(" ")[2].split(", checksum ", 1) if ", checksum " in each else (each, "")
        for each in (one, other)
    )
    if bits and mine == its and bits != others:
        # A file has no payoffs, only their checksum, so there is nothing to compare up to rounding.
        return (
            f"it is one of {other}, not of {one}: payoffs that differ in one last digit are other "
            "payoffs, so build the game as it was built then"
        )
    if one.partition(" ")[2] != other.partition(" ")[2]:
        return f"it is one of {other}, not of {one}"
    earlier, now = (each.get("fingerprint", "").partition(".")[0] for each in (theirs, ours))
    if earlier and earlier != now:
        return f"it is one of {other} with other information states, chances or settings"
    return ""


def provenance(game: object, solver: Solver, seed: int) -> dict[str, Any]:
    """Game, solver, seed and versions of a run, ready for JSON."""
    return {
        "game": describe(game),
        "fingerprint": fingerprint(game),
        "solver": spell(solver),
        # For people, as `solver` is for comparing.
        "method": written(solver),
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
