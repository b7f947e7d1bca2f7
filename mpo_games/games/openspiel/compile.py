"""OpenSpiel's games (Lanctot et al. 2019) in sequence form, and policies to and from OpenSpiel."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from math import exp, lgamma, log
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from mpo_games.games.memory import MAX_MEMORY, require_limit
from mpo_games.games.openspiel.cache import CachedGame
from mpo_games.games.openspiel.size import LEAF, too_large
from mpo_games.games.openspiel.source import parsed, parts, pyspiel_module, turn_based
from mpo_games.games.openspiel.walk import walk
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.interrupts import unmasking
from mpo_games.policies.dilation import unit
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Indices

if TYPE_CHECKING:
    # Only for annotations: OpenSpiel is optional, and slow to import.
    import pyspiel
    from open_spiel.python.policy import TabularPolicy as OpenSpielTable


@unmasking
def compile_game(
    game: str | pyspiel.Game,
    *,
    dilation: Dilation = unit,
    progress: bool = False,
    max_memory: float = MAX_MEMORY,
) -> SequenceFormGame:
    """The sequence form of a two-player game of OpenSpiel with constant sum and perfect recall.

    `game` is a game string, which may hold parameters, or a `pyspiel.Game`. A simultaneous game is
    first converted by OpenSpiel's turn-based transform. Player 0's payoffs are OpenSpiel's; player
    1 receives `utility_sum` less that, which is 0 for a zero-sum game.

    A game without information state strings is understood if it has perfect information, when the
    history names the state, or if it has observation strings: then a player knows what they
    observed at every state and did so far.

    Compiled games of 2000 or more payoffs that were given as a string are kept on disk, in the
    folder `MPO_GAMES_CACHE` or in the user's cache directory. What is read back is compared with
    the live game by random plays. With `progress` a terminal shows a bar if compiling takes more
    than a second.

    Raises:
        ValueError: for a game that OpenSpiel does not know; that does not have two players, a
            constant sum, explicit chance outcomes and perfect recall; or that takes more than
            `max_memory` GiB, such as chess.
        ImportError: if OpenSpiel is not installed.
    """
    if isinstance(game, str):
        _require_loadable(game, max_memory)
    source = turn_based(game)
    display = game.strip() if isinstance(game, str) else str(source)
    # An object's name does not identify it: that of a wrapped game may leave out the inner game.
    place = CachedGame.of(display, source) if isinstance(game, str) else None
    if place is not None and (kept := place.read(source, dilation, display)) is not None:
        return kept
    builder, total = walk(source, progress, max_memory)
    compiled = builder.finish(dilation, display, total)
    if place is not None:
        place.write(compiled)
    return compiled


def names() -> tuple[str, ...]:
    """The names of OpenSpiel's games; an empty tuple if OpenSpiel is not installed."""
    if importlib.util.find_spec("pyspiel") is None:
        return ()
    return tuple(pyspiel_module().registered_names())


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


def _open_spiel_policy() -> ModuleType:
    pyspiel_module()
    from open_spiel.python import policy

    module: ModuleType = policy
    return module


def _require_loadable(name: str, max_memory: float) -> None:
    """Refuse a game whose loading alone takes more than `max_memory` GiB.

    OpenSpiel lists all strategies when it loads Colonel Blotto, or the normal form of a tree.
    """
    limit = require_limit(max_memory)
    for part in parts(parsed(name)):
        pairs, inner = 0.0, part.get("game")
        if part["name"] == "blotto":
            coins, fields = part.get("coins", 10), part.get("fields", 3)
            if isinstance(coins, int) and isinstance(fields, int) and min(coins, fields) > 0:
                # By logarithms, since the binomial coefficient itself may have too many digits.
                pairs = 2.0 * (lgamma(coins + fields) - lgamma(coins + 1) - lgamma(fields))
        elif part["name"] == "normal_form_extensive_game" and isinstance(inner, Mapping):
            text = pyspiel_module().game_parameters_to_string(dict(inner))
            _require_loadable(text, max_memory)
            builder, _ = walk(turn_based(text), False, max_memory)
            pairs = sum(log(len(actions)) for actions in builder.names)
        if pairs > log(limit / LEAF):
            leaves = exp(min(pairs, 700.0))
            raise ValueError(too_large(name, f"at least {leaves:.0e} leaves", LEAF * leaves, limit))


def _cells(game: SequenceFormGame, table: OpenSpielTable) -> tuple[Indices, Indices]:
    """The row and the column of each action in OpenSpiel's `TabularPolicy`, `(sequences - 2,)`."""
    tree = game.tree
    if len(set(tree.labels)) != tree.states:
        raise ValueError("`game` has one name for states of both players: no table can hold it.")
    try:
        rows = [table.state_lookup[label] for label in tree.labels]
    except KeyError as error:
        message = (
            f"The table has no information state {error}: it is of another game, or of one whose "
            "strings in OpenSpiel do not tell information states apart."
        )
        raise ValueError(message) from error
    columns = np.array([int(a) for a in tree.actions[2:]])
    return np.repeat(rows, np.diff(tree.offset)), columns
