"""The objects behind the arguments of the command line: games, policies, saved runs, files."""

from __future__ import annotations

import json
import warnings
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os.path import relpath
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

import mpo_games as mg
from mpo_games import atomic, npz
from mpo_games.cli import battle_list, meaning
from mpo_games.cli.csv_table import Table, read_csv
from mpo_games.compat.earlier_names import respelled
from mpo_games.games import catalogue
from mpo_games.games.battles import Battles
from mpo_games.games.gambit.efg import read_efg
from mpo_games.games.gambit.nfg import read_nfg
from mpo_games.games.memory import MAX_MEMORY
from mpo_games.games.noisy import NoisyGame
from mpo_games.protocol import Array, Game, P, Solver
from mpo_games.provenance import spell
from mpo_games.written import counted

TABLES = (".csv", ".tsv", ".npy")
FILES = (*TABLES, ".efg", ".nfg")
"""The endings of the files that a command reads, tables and Gambit's; in capitals, too."""

Loaded = mg.MatrixGame | mg.PreferenceGame | mg.SequenceFormGame
"""The games that a command can solve."""


def load(text: str, kind: meaning.Kind, max_memory: float = MAX_MEMORY) -> tuple[str, Loaded]:
    """A description of the game for the final table, and the game.

    `text` is a .csv, .tsv, .npy, .efg or .nfg file, or a name with its parameters,
    `NAME:key=1,other=2`. `kind` says what a table holds; `auto` decides by the entries, and refuses
    what is doubtful. A named game may take `max_memory` GiB.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix in TABLES:
        table = read_csv(path) if suffix != ".npy" else Table(_array(path))
        return _game_of(text, table, kind)
    if kind != "auto":
        raise ValueError(f"`--kind` is for {' and '.join(TABLES)} files, not for {text!r}.")
    if suffix == ".nfg":
        game, total = read_nfg(path)
        return f"{text}{_together(total)}", game
    if suffix == ".efg":
        tree = read_efg(path)
        return f"{text}{_together(tree.utility_sum)}", tree
    if _is_file(path):
        raise ValueError(
            f"Cannot read {text!r}: a game is a file that ends in {', '.join(FILES)}, or a name."
        )
    name, _, tail = text.partition(":")
    parameters: dict[str, Any] = {}
    for item in filter(None, tail.split(",")):
        key, _, value = item.partition("=")
        if key in parameters:
            raise ValueError(f"{text!r} sets the parameter {key!r} twice.")
        if key in ("name", "max_memory"):
            # `catalogue.load` has arguments of these names.
            raise ValueError(f"No game has a parameter {key!r}: `--max-memory` is an option.")
        try:
            parameters[key] = literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"Parameters of a game are numbers, `NAME:key=1,other=2`, got {item!r}. A game "
                "within a game is written in brackets, `misere(game=kuhn_poker())`."
            ) from error
    try:
        return text, catalogue.load(name, max_memory=max_memory, **parameters)
    except ValueError as error:
        # The argument of a function is an option here.
        said = (
            str(error).replace("`max_memory`", "`--max-memory`").replace("`game` must", "GAME must")
        )
        raise ValueError(said.replace("`name`: the", "the")) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file
        return False


def _together(total: float) -> str:
    return f", both players receive {total:g} together" if total else ""


def _game_of(text: str, table: Table, kind: meaning.Kind) -> tuple[str, Loaded]:
    """The description of a table, and its game. Names of rows and columns become the actions'."""
    values, rows, columns = table.values, table.rows, table.columns
    square = meaning.squared(table)
    read_as = kind
    if kind == "auto":
        balanced = square is not None and meaning.is_preference(square)
        read_as = "preference" if balanced else "payoff"
        if not balanced:
            meaning.require_told(text, square)
    if read_as == "payoff" and values.ndim != 2:
        raise ValueError(f"{text!r} must hold one payoff matrix, got shape {values.shape}.")
    if read_as != "payoff" and square is None:
        if rows is not None and columns is not None and len(rows) == len(columns):
            raise ValueError(
                f"{text!r}: the names of the columns must be those of the rows, "
                f"got {', '.join(columns)} and {', '.join(rows)}."
            )
        raise ValueError(f"{text!r} must be square, got shape {values.shape}.")
    try:
        game: Loaded
        if square is None or read_as == "payoff":
            n, m = values.shape
            named = rows is not None or columns is not None
            actions = (rows or range(n), columns or range(m)) if named else None
            game = mg.MatrixGame(values, actions)
        elif read_as == "wins":
            wins = mg.builders.from_wins(square.values).preferences
            game = mg.PreferenceGame(wins, square.names)
        else:
            game = mg.PreferenceGame(meaning.preferences(text, square), square.names)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(repr(text)) else f"{text!r}: {said}") from error
    # The description says which one, because `auto` may not have decided as the user meant.
    size = " x ".join(map(str, values.shape))
    return f"{text}, read as {size} {meaning.WORDS[read_as]}", game


def ranked(text: str, kind: meaning.Kind | Literal["battles"]) -> tuple[Battles, str]:
    """What the file `text` tells `rank`: battles, numbers of wins, or preferences.

    With a sentence on how its columns were read, if their names do not tell.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"`rank` reads files that end in {' or '.join(TABLES)}, not {text!r}.")
    if suffix == ".npy":
        if kind == "battles":
            raise ValueError(f"{text!r} holds numbers, and no battles.")
        return meaning.battles(text, Table(_array(path)), kind), ""
    battles = battle_list.read(path, kind == "battles") if kind in ("auto", "battles") else None
    if battles is not None:
        return battles
    return meaning.battles(text, read_csv(path, missing=True), cast(meaning.Kind, kind)), ""


def _array(path: Path) -> Array:
    """The numbers in a .npy file, in their own precision."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # NumPy only warns of an empty file.
            warnings.simplefilter("error")
            found = np.load(file, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except (ValueError, TypeError, EOFError, Warning, MemoryError) as error:
        raise ValueError(
            f"{str(path)!r} does not hold an array of numbers (pickled objects are never read)."
        ) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{str(path)!r} is an archive of arrays: save one array by `np.save`.")
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{str(path)!r} must hold real numbers, it holds {found.dtype}.")
    if found.ndim < 2 or 0 in found.shape:
        raise ValueError(f"{str(path)!r} must hold a matrix of numbers, got shape {found.shape}.")
    return found


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
            f"`--start` must have {counted(game.players, 'row')} separated by `/`, got {text!r}."
        ) from error
    except ValueError as error:
        legal = np.atleast_2d(game.initial_policy().legal)
        wanted = " and ".join(dict.fromkeys(str(n) for n in legal.sum(axis=-1).ravel().tolist()))
        raise ValueError(
            f"`--start` must have {wanted} probabilities in a row, which sum to 1, got {text!r}."
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


def sourced(
    solution: mg.Solution[P], game: str, kind: meaning.Kind, solver: str, path: Path | None
) -> mg.Solution[P]:
    """The solution with a note of what the command line called game and solver, for `show`.

    The file of a game is noted twice: by its place, and by the way to it from the folder of `path`,
    where the solution is saved. The second holds when a folder with both is moved.
    """
    source = {"game": game, "kind": kind, "solver": solver}
    if _is_file(Path(game)):
        source["game"] = str(Path(game).resolve())
        # There is no way between two drives of Windows.
        with suppress(ValueError):
            folder = Path() if path is None else path.parent
            source["beside"] = relpath(source["game"], folder.resolve())
    provenance = {**solution.provenance, "source": source}
    return replace(solution, provenance=provenance)


def saved(path: Path, game: str | None, kind: meaning.Kind) -> tuple[str, mg.Solution[Any]]:
    """The name of the game, and the solution that was saved to `path`.

    The game is `game`, or the one that the file names. `ValueError` if it names none.
    """
    if game is None:
        game, kind = _source(path)
    name, exact = load(game, kind)
    # Noise around a game changes no policy: a run under noise is loaded by the game without it.
    return name, mg.Solution.load(path, exact)


def _source(path: Path) -> tuple[str, meaning.Kind]:
    """What the command line called the game of a saved solution, and the kind of its table."""
    try:
        source = json.loads(str(npz.read(path)["header"]))["provenance"].get("source")
        named = None if source is None else (_found(path, source), source["kind"])
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {str(path)!r} to show.") from error
    # A foreign file can fail in any way: zip, zlib, JSON, shapes.
    except Exception as error:
        raise ValueError(f"{str(path)!r} is not a saved solution.") from error
    if named is None or named[1] not in get_args(meaning.Kind):
        raise ValueError(
            f"{str(path)!r} does not say which game it solves: add it, "
            f"`mpo-games show {path} GAME`."
        )
    return named


def _found(path: Path, source: Mapping[str, str]) -> str:
    """The game of a saved solution: where it stands from the file, if it is there still."""
    beside = path.parent / source.get("beside", "")
    return str(beside if _is_file(beside) else source["game"])


def require_writable(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Raise `ValueError` unless the value of `option` names a file that can be written."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ValueError(f"`{option}` must end in {' or '.join(suffixes)}, got {str(path)!r}.")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"`{option}` must be a file in a folder that exists, got {str(path)!r}.")
    atomic.require_writable(option, path)
