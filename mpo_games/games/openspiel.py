"""OpenSpiel's games (Lanctot et al. 2019) in sequence form, and policies to and from OpenSpiel."""

from __future__ import annotations

import difflib
import importlib.util
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.games.tree_builder import TreeBuilder
from mpo_games.interrupts import unmasking
from mpo_games.policies.dilation import unit
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Indices

if TYPE_CHECKING:
    # Only for annotations: OpenSpiel is optional, and slow to import.
    import pyspiel
    from open_spiel.python.policy import TabularPolicy as OpenSpielTable

FORMAT = 2
"""The version of the layout of cached files. A file of another version is not read."""

LARGEST, PLAYS = 1e9, 31
"""`PLAYS` random plays estimate the number of leaves of a game. The game is refused if the median
estimate is above `LARGEST`, a number that fits into no memory."""

WORTH_CACHING = 2000
"""The number of leaves from which a compiled game is kept on disk. Smaller games compile in
milliseconds."""


@unmasking
def compile_game(
    game: str | pyspiel.Game,
    *,
    dilation: Dilation = unit,
    progress: bool = False,
) -> SequenceFormGame:
    """The sequence form of a two-player zero-sum game of OpenSpiel with perfect recall.

    `game` is a game string, which may hold parameters, or a `pyspiel.Game`. A simultaneous game is
    first converted by OpenSpiel's turn-based transform. Compiled games of `WORTH_CACHING` or more
    leaves are kept on disk, in the folder `MPO_GAMES_CACHE` or in the user's cache directory. With
    `progress` a terminal shows a bar if compiling takes more than a second.

    Raises:
        ValueError: for a game that OpenSpiel does not know; that does not have two players, zero
            sum, explicit chance outcomes and perfect recall; or that is far too large, such as
            chess.
        ImportError: if OpenSpiel is not installed.
    """
    source = turn_based(game)
    path = _cache_path(source)
    if path is not None:
        # A damaged file can fail in any way (zip, zlib, JSON, shapes). It is then overwritten.
        with suppress(Exception):
            return _unpack(path.read_bytes(), dilation, str(source))
    _require_size(source)
    builder = _walk(source, progress)
    compiled = builder.finish(dilation, str(source))
    if path is not None and len(builder.payoffs) >= WORTH_CACHING:
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            write_bytes(path, _pack(compiled))
    return compiled


def names() -> tuple[str, ...]:
    """The names of OpenSpiel's games; an empty tuple if OpenSpiel is not installed."""
    if importlib.util.find_spec("pyspiel") is None:
        return ()
    return tuple(_pyspiel().registered_names())


def spell(name: str, parameters: Mapping[str, Any]) -> str:
    """OpenSpiel's string for a game with parameters, such as `liars_dice(dice_sides=4)`."""
    inside = ",".join(f"{key}={value}" for key, value in parameters.items())
    return f"{name}({inside})" if inside else name


def to_openspiel(
    source: pyspiel.Game, game: SequenceFormGame, policy: TreeplexPolicy
) -> OpenSpielTable:
    """The policy as OpenSpiel's `TabularPolicy` of `source`, a game string or a `pyspiel.Game`.

    `game` is the result of `compile_game(source)`, `policy` one of its policies. `ValueError` for a
    batch of policies, and if `source` is another game.
    """
    table = _open_spiel_policy().TabularPolicy(turn_based(source))
    return write_table(table, game, policy)


def from_openspiel(game: SequenceFormGame, table: OpenSpielTable) -> TreeplexPolicy:
    """The policy of a compiled game that plays like `table`, OpenSpiel's `TabularPolicy`.

    `ValueError` for a table of another game, or if its rows are not distributions.
    """
    rows = table.action_probability_array[_cells(game, table)]
    # In the table's own type, whose rounding says how far from 1 its rows may sum.
    probs = np.ones(game.tree.sequences, dtype=rows.dtype)
    probs[2:] = rows
    return TreeplexPolicy.from_probs(game.tree, game.geometry, probs)


def write_table(
    table: OpenSpielTable, game: SequenceFormGame, policy: TreeplexPolicy
) -> OpenSpielTable:
    """Write the probabilities of `policy` into `table`, OpenSpiel's `TabularPolicy`; return it."""
    if policy.coordinates.shape != (game.tree.sequences,):
        raise ValueError(
            f"`policy` must be one policy of `game`, of shape ({game.tree.sequences},), "
            f"got {policy.coordinates.shape}."
        )
    table.action_probability_array[_cells(game, table)] = policy.probs[2:]
    return table


def turn_based(game: str | pyspiel.Game) -> pyspiel.Game:
    """The `pyspiel.Game` to compile: loaded if `game` is a string, checked, and turn-based."""
    pyspiel = _pyspiel()
    loaded = _load(pyspiel, game) if isinstance(game, str) else game
    kind = loaded.get_type()
    if loaded.num_players() != 2:
        raise ValueError(f"`game` must have two players: {loaded} has {loaded.num_players()}.")
    if kind.utility != pyspiel.GameType.Utility.ZERO_SUM:
        raise ValueError(f"`game` must be zero-sum: {loaded} is {kind.utility.name.lower()}.")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError(f"`game` must list its chance outcomes: {loaded} only samples them.")
    if not kind.provides_information_state_string:
        raise ValueError(f"`game` must name its information states: {loaded} does not.")
    if kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
        return pyspiel.convert_to_turn_based(loaded)
    return loaded


def _pyspiel() -> ModuleType:
    try:
        import pyspiel
    except ImportError as error:
        raise ImportError(
            'OpenSpiel is not installed: run `pip install "mpo-games[openspiel]"`.'
        ) from error
    module: ModuleType = pyspiel
    return module


def _open_spiel_policy() -> ModuleType:
    _pyspiel()
    from open_spiel.python import policy

    module: ModuleType = policy
    return module


def _load(pyspiel: ModuleType, name: str) -> pyspiel.Game:
    short, known = name.partition("(")[0].strip(), pyspiel.registered_names()
    if short not in known:
        close = difflib.get_close_matches(short, known, n=3)
        hint = f": did you mean {' or '.join(close)}?" if close else "."
        raise ValueError(f"`game`: OpenSpiel has no game {short!r}{hint}")
    try:
        return pyspiel.load_game(name)
    except pyspiel.SpielError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"`game`: OpenSpiel cannot load {name!r}: {reason}.") from error


def _require_size(source: pyspiel.Game) -> None:
    """Refuse a game that has far more than `LARGEST` leaves, by Knuth's estimate (1975).

    The product of the numbers of choices along a random play has the number of leaves as its mean.
    If a game fits into memory, then by Markov's inequality few plays estimate more than `LARGEST`,
    and certainly not half of them. So the median decides.
    """
    rng, found = np.random.default_rng(0), []
    for _ in range(PLAYS):
        state, leaves = source.new_initial_state(), 1.0
        while leaves <= LARGEST and not state.is_terminal():
            legal = state.legal_actions()
            leaves *= len(legal)
            state.apply_action(legal[rng.integers(len(legal))])
        found.append(leaves)
    if np.median(found) > LARGEST:
        raise ValueError(
            f"`game` must fit into memory: {source} has more than {LARGEST:.0e} histories."
        )


def _walk(source: pyspiel.Game, progress: bool) -> TreeBuilder:
    """Every history of the game, depth first, in the order of OpenSpiel's own algorithms."""
    builder = TreeBuilder()
    # A stack instead of recursion, whose depth Python limits. `share` is a node's part of the bar.
    stack = [(source.new_initial_state(), (0, 1), 1.0, 1.0)]
    # Only a walk needs the bar, and an import of the package should stay light.
    from tqdm import tqdm

    bar = tqdm(
        total=1.0,
        delay=1.0,
        desc=source.get_type().short_name,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        disable=None if progress else True,
    )
    with bar:
        while stack:
            state, at, chance, share = stack.pop()
            if state.is_terminal():
                builder.payoff(at, chance, state.returns()[0])
                bar.update(share)
            elif state.is_chance_node():
                outcomes = [(a, p) for a, p in state.chance_outcomes() if p > 0]
                share /= len(outcomes)
                # Reversed, because the stack gives back the last entry first.
                for action, p in reversed(outcomes):
                    stack.append((state.child(action), at, chance * p, share))
            else:
                player, legal = state.current_player(), tuple(state.legal_actions())
                sequences = builder.state(player, state.information_state_string(), legal, at)
                share /= len(legal)
                for sequence, action in zip(reversed(sequences), reversed(legal), strict=True):
                    there = (sequence, at[1]) if player == 0 else (at[0], sequence)
                    stack.append((state.child(action), there, chance, share))
    return builder


def _cells(game: SequenceFormGame, table: OpenSpielTable) -> tuple[Indices, Indices]:
    """The row and the column of each action in OpenSpiel's `TabularPolicy`, `(sequences - 2,)`."""
    tree = game.tree
    if len(set(tree.labels)) != tree.states:
        raise ValueError("`game` has one name for states of both players: no table can hold it.")
    try:
        rows = [table.state_lookup[label] for label in tree.labels]
    except KeyError as error:
        message = f"The table has no information state {error}: it is of another game."
        raise ValueError(message) from error
    columns = np.array([int(a) for a in tree.actions[2:]])
    return np.repeat(rows, np.diff(tree.offset)), columns


def _cache_path(source: pyspiel.Game) -> Path | None:
    """The file that keeps the compiled game; None if its string does not determine the game."""
    name = str(source)
    pyspiel = _pyspiel()
    registered = set(pyspiel.registered_names())
    # The file or the Python code behind a name may change. A matrix made by hand has no name.
    if "filename=" in name or "python" in name or type(source).__module__ != "pyspiel":
        return None
    # A game inside a game, as in `misere(game=...)`, must be registered as well.
    if not registered.issuperset(re.findall(r"(\w+)\(", name)):
        return None
    base = os.environ.get("MPO_GAMES_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) if base else Path(user) / "mpo-games"
    key = sha256(f"{name}\n{pyspiel.__version__}\n{FORMAT}".encode()).hexdigest()
    return folder / f"{source.get_type().short_name}-{key[:32]}.npz"


def _pack(game: SequenceFormGame) -> bytes:
    # JSON: an array of strings pads each to the longest, and one of objects needs pickle.
    names = json.dumps([game.tree.labels, game.tree.actions]).encode()
    content = io.BytesIO()
    np.savez_compressed(
        content,
        parent=game.tree.parent,
        offset=game.tree.offset,
        split=game.tree.split,
        names=np.frombuffer(names, dtype=np.uint8),
        row=game.row,
        column=game.column,
        chance=game.chance,
        payoff=game.payoff,
    )
    return content.getvalue()


def _unpack(content: bytes, dilation: Dilation, source: str) -> SequenceFormGame:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        labels, actions = json.loads(file["names"].tobytes())
        tree = Tree(
            file["parent"], file["offset"], int(file["split"]), tuple(labels), tuple(actions)
        )
        row, column, chance, payoff = (file[n] for n in ("row", "column", "chance", "payoff"))
    return SequenceFormGame(tree, row, column, chance, payoff, dilation, source)
