"""The objects behind the arguments of the command line: games, policies, saved runs, files."""

from __future__ import annotations

import warnings
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.compat.earlier_names import respelled
from mpo_games.games import catalogue
from mpo_games.games.memory import MAX_MEMORY
from mpo_games.games.noisy import NoisyGame
from mpo_games.protocol import Array, Game, P, Solver
from mpo_games.provenance import spell

Loaded = mg.MatrixGame | mg.PreferenceGame | mg.SequenceFormGame
"""The games that a command can solve."""


def load(text: str, kind: str, max_memory: float = MAX_MEMORY) -> tuple[str, Loaded]:
    """A description of the game for the final table, and the game.

    `text` is a .csv or .npy file, or a name with its parameters, `NAME:key=1,other=2`. `kind` says
    what a file holds: `matrix`, `preference`, or `auto`, which decides by the entries. A named
    game may take `max_memory` GiB.
    """
    path = Path(text)
    if path.suffix in {".csv", ".npy"}:
        table = _table(path)
        # With a tolerance, because preferences in decimals add up to 1 only approximately.
        balanced = (
            table.ndim >= 2
            and table.shape[-1] == table.shape[-2]
            and (
                np.all((table >= 0) & (table <= 1))
                and np.allclose(table + np.swapaxes(table, -1, -2), 1.0, rtol=0.0, atol=1e-9)
            )
        )
        preference = balanced if kind == "auto" else kind == "preference"
        if not preference and table.ndim != 2:
            raise ValueError(f"{text!r} must hold one payoff matrix, got shape {table.shape}.")
        try:
            game: Loaded = mg.PreferenceGame(table) if preference else mg.MatrixGame(table)
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error
        # The description says which one, because `auto` may not have decided as the user meant.
        size = " x ".join(map(str, table.shape))
        return f"{text}, read as {size} {'preferences' if preference else 'payoffs'}", game
    if kind != "auto":
        raise ValueError(f"`--kind` is for .csv and .npy files, not for the game {text!r}.")
    name, _, tail = text.partition(":")
    parameters: dict[str, Any] = {}
    for item in filter(None, tail.split(",")):
        key, _, value = item.partition("=")
        try:
            parameters[key] = literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"Parameters of a game are numbers, `NAME:key=1,other=2`, got {item!r}."
            ) from error
    return text, catalogue.load(name, max_memory=max_memory, **parameters)


def _table(path: Path) -> Array:
    """The numbers in a .csv or .npy file."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # NumPy only warns of an empty file.
            warnings.simplefilter("error")
            if path.suffix == ".npy":
                return np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
            return np.loadtxt(file, delimiter=",", ndmin=2)
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except (ValueError, TypeError, EOFError, Warning) as error:
        raise ValueError(
            f"{str(path)!r} does not hold a matrix of numbers (without a header or pickles)."
        ) from error


def policy(game: Loaded, text: str) -> mg.TabularPolicy:
    """The policy of `game` that `text` writes as `0.2,0.5,0.3`, rows separated by `/`."""
    try:
        rows = [[float(p) for p in row.split(",")] for row in text.split("/")]
    except ValueError as error:
        raise ValueError(
            f"`--start` must be probabilities like 0.2,0.5,0.3 or 0.5,0.5/0.9,0.1, got {text!r}."
        ) from error
    if isinstance(game, mg.SequenceFormGame):
        raise ValueError("`--start` is for tables: the policies of a tree have no rows.")
    try:
        # A single row stands for every player.
        return game.policy(*(rows * game.players if len(rows) == 1 else rows))
    except TypeError as error:
        raise ValueError(
            f"`--start` must have {game.players} rows separated by `/`, got {text!r}."
        ) from error


def noisy(game: Loaded, sigma: float) -> Loaded | NoisyGame:
    """The game with Gaussian noise of standard deviation `sigma` on its feedback, if that is not 0.

    Raises `ValueError` for a tree.
    """
    if not sigma:
        return game
    if isinstance(game, mg.SequenceFormGame):
        raise ValueError(
            "`--noise` is for tables: a tree is sampled in Python, as `OutcomeSampling(game)`."
        )
    return NoisyGame(game, sigma)


def resumed(path: Path, game: Game[P, Any], solver: Solver) -> mg.Solution[P]:
    """The solution that was saved to `path`.

    Raises `ValueError` if it is not one of this game and solver.
    """
    solution = mg.Solution.load(path, game)
    # The spelling shows every setting. To go on with another setting would mix two runs.
    ours, theirs = spell(solver), solution.provenance["solver"]
    if respelled(ours) != respelled(theirs):
        raise ValueError(
            f"{str(path)!r} was run with {theirs}, not with {ours}: pass the same solver."
        )
    return solution


def require_writable(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Raise `ValueError` unless the value of `option` names a file that can be written."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ValueError(f"`{option}` must end in {' or '.join(suffixes)}, got {str(path)!r}.")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"`{option}` must be a file in a folder that exists, got {str(path)!r}.")
