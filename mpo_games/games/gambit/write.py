"""Games in the file formats of Gambit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mpo_games.checks import require_kind
from mpo_games.games.gambit.text import quote, spelled, written
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.sequence_tree import ChanceNode, EndNode, nodes_of
from mpo_games.labelled import names_of
from mpo_games.protocol import Array

PLAYERS = ("Player 1", "Player 2")
"""The names of the players, whom games here only number."""


def to_efg(
    game: MatrixGame | PreferenceGame | SequenceFormGame,
    title: str = "",
    players: Sequence[str] = PLAYERS,
) -> str:
    """The game as the text of a Gambit file `.efg`, an extensive game.

    Player 1 of the file is player 0 here. Information states, actions and responses keep their
    names. A tree keeps no order of moves that are independent of each other, so the file's tree is
    one with the same information states and, for all policies, the same payoffs. In a matrix game
    player 2 moves without seeing player 1's move; in a preference game chance first draws the
    context, and the two players receive `P` and `1 - P`.

    `ValueError` for a batch of games.

    >>> print(to_efg(load('matching_pennies')).splitlines()[0])
    EFG 2 R "" { "Player 1" "Player 2" }
    """
    if isinstance(game, SequenceFormGame):
        return _tree_file(game, title, players)
    tables, names, contexts, total = _tables(game)
    lines = [_header("EFG 2 R", title, players)]
    if len(tables) > 1:
        # Contexts are equally likely: metrics of a preference game are means over them.
        moves = " ".join(f"{quote(name)} 1/{len(tables)}" for name in contexts)
        lines.append(f'c "" 1 "" {{ {moves} }} 0')
    outcome = 0
    for number, (table, context) in enumerate(zip(tables, contexts, strict=True), start=1):
        label = quote(context if len(tables) > 1 else "")
        first, second = (_list(side) for side in names)
        lines.append(f'p "" 1 {number} {label} {first} 0')
        for row in table.tolist():
            lines.append(f'p "" 2 {number} {label} {second} 0')
            for value in row:
                outcome += 1
                lines.append(f't "" {outcome} "" {_pair(value, total)}')
    return "\n".join(lines) + "\n"


def to_nfg(
    game: MatrixGame | PreferenceGame, title: str = "", players: Sequence[str] = PLAYERS
) -> str:
    """The game as the text of a Gambit file `.nfg`, a strategic game.

    Player 1 of the file is the row player. Actions and responses keep their names; without names
    the file says how many there are. In a preference game the players receive `P` and `1 - P`.
    `ValueError` for a batch of games, for several contexts, and for a tree, whose strategies are
    too many (see `to_efg`).

    >>> print(to_nfg(load('matching_pennies')).splitlines()[0])
    NFG 1 R "" { "Player 1" "Player 2" }
    """
    if isinstance(game, SequenceFormGame):
        raise ValueError("A tree has too many strategies for a .nfg file: write it by `to_efg`.")
    tables, names, _, total = _tables(game)
    if len(tables) > 1:
        raise ValueError(
            f"A .nfg file holds one table, and the game has {len(tables)} contexts: write it by "
            "`to_efg`."
        )
    # The strategy of player 1 changes fastest.
    payoffs = [" ".join(_both(v, total)) for v in tables[0].T.ravel().tolist()]
    sides = [_list(side) if game.actions else str(len(side)) for side in names]
    strategies = f"{{ {' '.join(sides)} }}"
    return "\n".join([_header("NFG 1 R", title, players), strategies, "", *payoffs]) + "\n"


def _tables(
    game: MatrixGame | PreferenceGame,
) -> tuple[Array, list[list[Hashable]], list[Hashable], float]:
    """Player 1's payoffs in each context, the actions' names, the contexts', and the sum."""
    require_kind("game", game, (MatrixGame, PreferenceGame), "a game, like `MatrixGame(payoff)`")
    preferences = isinstance(game, PreferenceGame)
    table = game.preferences if isinstance(game, PreferenceGame) else game.payoff[None]
    if table.ndim != 3:
        raise ValueError(f"A Gambit file holds one game, not a batch of shape {table.shape[:-3]}.")
    sides: list[list[Hashable]] = [list(range(1, size + 1)) for size in table.shape[1:]]
    if game.actions:
        sides = [list(side) for side in (game.actions * 2)[:2]]
    named = list(game.contexts) if isinstance(game, PreferenceGame) else []
    return table, sides, named or list(range(1, len(table) + 1)), 1.0 if preferences else 0.0


def _tree_file(game: SequenceFormGame, title: str, players: Sequence[str]) -> str:
    tree, total = game.tree, game.utility_sum
    split = np.array([j >= tree.split for j in range(tree.states)], dtype=np.int64)
    labels = tree.labels or [str(j) for j in range(tree.states)]
    actions = tree.actions or [str(s) for s in range(tree.sequences)]
    lists = [
        _list(actions[begin:end])
        for begin, end in zip(tree.offset[:-1], tree.offset[1:], strict=True)
    ]
    lines = [_header("EFG 2 R", title, players)]
    chances = outcomes = 0
    for node in nodes_of(game):
        if isinstance(node, ChanceNode):
            chances += 1
            moves = " ".join(
                f'"{k}" {spelled(p)}' for k, p in enumerate(node.probabilities, start=1)
            )
            lines.append(f'c "" {chances} "" {{ {moves} }} 0')
        elif isinstance(node, EndNode):
            outcomes += 1
            lines.append(f't "" {outcomes} "" {_pair(node.value, total)}')
        else:
            j = node.state
            number = j + 1 - split[j] * tree.split
            lines.append(f'p "" {split[j] + 1} {number} {quote(labels[j])} {lists[j]} 0')
    return "\n".join(lines) + "\n"


def _header(kind: str, title: str, players: Sequence[str]) -> str:
    require_kind("title", title, str, "text")
    return f"{kind} {quote(title)} {_list(names_of(players, 'players', 2))}\n"


def _list(names: Sequence[object]) -> str:
    return f"{{ {' '.join(quote(name) for name in names)} }}"


def _pair(value: float, total: float) -> str:
    return f"{{ {', '.join(_both(value, total))} }}"


def _both(value: float, total: float) -> tuple[str, str]:
    """Both payoffs, whose sum is exactly `total`: Gambit adds without rounding."""
    first = written(value)
    return spelled(first), spelled(written(total) - first)
