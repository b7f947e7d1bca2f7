r"""Feedback from self-play: what the episodes so far say of chance's moves and of the payoffs.

The gradient of a tree is linear in the opponent's plan, with one coefficient for each ending:
chance's probability of it times its payoff. So an estimate of these coefficients is an estimated
tree, whose feedback the core computes. An ending that has never been seen counts 0. Every estimate
needs the tree of the players' own decisions, which actions are legal, and

| estimate | what else it needs to know | unbiased |
| --- | --- | --- |
| `own_ratios` | of each episode, both players' probabilities of their own moves | yes |
| `balanced` | of each ending, its probability under all policies so far | if they are fixed |
| `counted_deals` | after an episode, what was dealt | no: an ending not yet seen counts 0 |

The second is the balance heuristic (Veach & Guibas 1995). It has less variance than the first, and
the third has far less than both, since it counts the deals of all episodes together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import numpy as np

from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.sequence_tree import ChanceNode, DecisionNode, nodes_of
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices

IN_MEMORY = "pool/"
"""How the names of a log's arrays in a state's memory begin."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """All episodes so far, by their endings: the entries of the tree's payoff matrix."""

    seen: Array
    """How often each ending was reached, `(entries,)`."""
    expected: Array
    """How often it would have been reached if chance always led there, `(entries,)`: the sum over
    all episodes of both players' probability of their moves."""
    inverse: Array
    """The sum over the episodes that ended there of one over that probability, `(entries,)`."""

    @classmethod
    def empty(cls, game: SequenceFormGame) -> Self:
        """No episode."""
        none = np.zeros(game.payoff.size)
        return cls(none, none, none)

    @classmethod
    def drawn(
        cls, game: SequenceFormGame, played: TreeplexPolicy, count: int, rng: np.random.Generator
    ) -> Self:
        """`count` episodes in which both seats are played by `played`."""
        moves = played.plan[rows_of(game)] * played.plan[game.column]
        reach = np.cumsum(game.chance * moves)
        # The probabilities of all endings add up to 1 only up to rounding.
        ends = np.searchsorted(reach, rng.uniform(size=count) * reach[-1], side="right")
        seen = np.bincount(ends, minlength=game.payoff.size).astype(np.float64)
        return cls.ended(game, played, seen, count)

    @classmethod
    def ended(cls, game: SequenceFormGame, played: TreeplexPolicy, seen: Array, count: int) -> Self:
        """`count` episodes in which both seats were played by `played`, by their endings."""
        moves = played.plan[rows_of(game)] * played.plan[game.column]
        inverse = np.where(seen > 0.0, seen / np.where(seen > 0.0, moves, 1.0), 0.0)
        return cls(seen, count * moves, inverse)

    @classmethod
    def remembered(cls, memory: Mapping[str, Any]) -> Self | None:
        """The log in a state's memory; None if there is none."""
        names = [IN_MEMORY + part.name for part in fields(cls)]
        return cls(*(memory[name] for name in names)) if names[0] in memory else None

    def as_memory(self) -> dict[str, Any]:
        """What `remembered` reads."""
        return {IN_MEMORY + part.name: getattr(self, part.name) for part in fields(self)}

    def joined(self, other: Self) -> Self:
        """These episodes and those of `other`."""
        parts = (getattr(self, p.name) + getattr(other, p.name) for p in fields(self))
        return type(self)(*parts)

    @property
    def episodes(self) -> float:
        """How many there are."""
        return float(self.seen.sum())


class Estimate(Protocol):
    """Estimates chance's probability of each ending, `(entries,)`; 0 where none was seen."""

    def __call__(self, game: SequenceFormGame, log: Log, /) -> Array: ...


def own_ratios(game: SequenceFormGame, log: Log) -> Array:  # noqa: ARG001
    """Each episode by its own probabilities, as logged when it was played."""
    return np.asarray(log.inverse / max(log.episodes, 1.0))


def balanced(game: SequenceFormGame, log: Log) -> Array:  # noqa: ARG001
    """How often an ending was seen, over how often all policies so far would have led there."""
    seen = log.seen > 0.0
    return np.where(seen, log.seen / np.where(seen, log.expected, 1.0), 0.0)


def counted_deals(game: SequenceFormGame, log: Log) -> Array:
    """The shares of chance's moves among all episodes in which chance made the same moves before.

    `ValueError` for a tree whose chance looks at what the players did.
    """
    known = _DEALS.get(game)
    if known is None:
        known = _DEALS[game] = _deals(game)
    found = (log.seen > 0.0).astype(np.float64)
    for above, below in known:
        there = above >= 0
        whole, part = (
            np.bincount(group[there], log.seen[there], int(group.max(initial=-1)) + 1)
            for group in (above, below)
        )
        share = part[below[there]] / np.maximum(whole[above[there]], 1.0)
        found[there] *= share
    return found


def estimated(game: SequenceFormGame, log: Log, estimate: Estimate) -> SequenceFormGame:
    """The tree with the payoffs, times chance, that the episodes say it has."""
    return game.with_payoff(estimate(game, log) * (game.payoff / game.chance))


def rows_of(game: SequenceFormGame) -> Indices:
    """Player 0's sequence of every ending, `(entries,)`."""
    return np.repeat(np.arange(game.tree.sequences), np.diff(game.row))


Level = tuple[Indices, Indices]
"""For each ending, the group of deals above a move of chance and the group after it, `(entries,)`;
-1 where chance has moved no more."""

_DEALS: WeakKeyDictionary[SequenceFormGame, list[Level]] = WeakKeyDictionary()


def _deals(game: SequenceFormGame) -> list[Level]:
    """Groups of endings with the same moves of chance, move by move."""
    paths = _chance_paths(game)
    odds: dict[tuple[int, ...], float] = {}
    for entry, path in enumerate(paths):
        first = odds.setdefault(path, float(game.chance[entry]))
        if abs(first - float(game.chance[entry])) > 1e-9 * first:
            raise ValueError(
                "`counted_deals` is for trees in which chance does not look at the players' moves, "
                "and in this one it does: use `balanced`."
            )
    levels = []
    for depth in range(max(map(len, paths), default=0)):
        numbers: dict[tuple[int, ...], int] = {}
        groups = [
            [
                numbers.setdefault(path[:k], len(numbers)) if len(path) > depth else -1
                for path in paths
            ]
            for k in (depth, depth + 1)
        ]
        levels.append((np.array(groups[0]), np.array(groups[1])))
    return levels


def _chance_paths(game: SequenceFormGame) -> list[tuple[int, ...]]:
    """The moves of chance on the way to each ending, by their places among those possible."""
    tree = game.tree
    pairs = zip(rows_of(game).tolist(), game.column.tolist(), strict=True)
    entry_of = {pair: entry for entry, pair in enumerate(pairs)}
    found: list[tuple[int, ...]] = [()] * game.payoff.size
    # What is to come: each player's sequence and chance's moves there. The next is the last.
    ahead: list[tuple[tuple[int, int], tuple[int, ...]]] = [((0, 1), ())]
    for node in nodes_of(game):
        at, path = ahead.pop()
        if isinstance(node, ChanceNode):
            moves = range(len(node.probabilities))
            ahead += [(at, (*path, i)) for i in reversed(moves)]
        elif isinstance(node, DecisionNode):
            j = node.state
            own = reversed(range(tree.offset[j], tree.offset[j + 1]))
            ahead += [((s, at[1]) if j < tree.split else (at[0], s), path) for s in own]
        elif at in entry_of:
            found[entry_of[at]] = path
    return found
