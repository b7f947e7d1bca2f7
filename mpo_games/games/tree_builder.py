"""Trees from plain Python data, and the accumulator behind every compiler of trees."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.policies.dilation import unit
from mpo_games.policies.tree import Tree


@dataclass(frozen=True, slots=True)
class Payoff:
    """A leaf: what player 0 receives and player 1 pays."""

    value: float


@dataclass(frozen=True, slots=True)
class Chance:
    """A random move: `(probability, node)` pairs whose probabilities sum to 1."""

    outcomes: Sequence[tuple[float, Node]]


@dataclass(frozen=True, slots=True)
class Decision:
    """A move of `player` (0 or 1), who sees `state` and nothing else, and picks an action."""

    player: int
    state: str
    actions: Mapping[str, Node]


Node = Payoff | Chance | Decision


def build(root: Node, dilation: Dilation = unit) -> SequenceFormGame:
    """The game of a tree of `Chance`, `Decision` and `Payoff` nodes.

    `ValueError` for chances that do not sum to 1, for an information state whose actions differ
    between nodes, and for imperfect recall (a state reached by different own actions).
    """
    builder = TreeBuilder()
    stack: list[tuple[Node, tuple[int, int], float]] = [(root, (0, 1), 1.0)]
    while stack:
        node, at, chance = stack.pop()
        if isinstance(node, Payoff):
            builder.payoff(at, chance, node.value)
        elif isinstance(node, Chance):
            total = sum(probability for probability, _ in node.outcomes)
            if abs(total - 1.0) > 1e-9 or any(p < 0 for p, _ in node.outcomes):
                raise ValueError(f"Chances must be probabilities that sum to 1, got {total}.")
            stack += [(child, at, chance * p) for p, child in reversed(node.outcomes) if p > 0]
        else:
            sequences = builder.state(node.player, node.state, tuple(node.actions), at)
            for sequence, child in zip(
                reversed(sequences), reversed(list(node.actions.values())), strict=True
            ):
                there = (sequence, at[1]) if node.player == 0 else (at[0], sequence)
                stack.append((child, there, chance))
    return builder.finish(dilation)


@dataclass(slots=True)
class TreeBuilder:
    """Collects information states and payoffs in the order of a depth-first walk."""

    keys: dict[tuple[int, str], int] = field(default_factory=dict)
    players: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    names: list[tuple[Hashable, ...]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    leaves: array[int] = field(default_factory=lambda: array("q"))
    chances: array[float] = field(default_factory=lambda: array("d"))
    payoffs: array[float] = field(default_factory=lambda: array("d"))
    sequences: int = 2

    def state(
        self, player: int, label: str, actions: tuple[Hashable, ...], at: tuple[int, int]
    ) -> range:
        """The sequences of an information state's actions, reached when both players are `at`."""
        if player not in (0, 1):
            raise ValueError(f"A decision belongs to player 0 or 1, got {player}.")
        key = (player, label)
        j = self.keys.get(key)
        if j is None:
            if not actions:
                raise ValueError(f"Information state {label!r} has no actions.")
            j = self.keys[key] = len(self.players)
            self.players.append(player)
            self.parents.append(at[player])
            self.names.append(actions)
            self.first.append(self.sequences)
            self.sequences += len(actions)
        elif self.parents[j] != at[player]:
            raise ValueError(
                f"Player {player} has imperfect recall at {label!r}: "
                "the state is reached by different actions of their own."
            )
        elif self.names[j] != actions:
            raise ValueError(f"Information state {label!r} has different actions at two nodes.")
        return range(self.first[j], self.first[j] + len(self.names[j]))

    def payoff(self, at: tuple[int, int], chance: float, value: float) -> None:
        """Player 0 receives `value` at a leaf that chance reaches with probability `chance`."""
        if not isfinite(value):
            raise ValueError(f"A payoff must be finite, got {value}.")
        self.leaves.extend(at)
        self.chances.append(chance)
        self.payoffs.append(chance * value)

    def finish(self, dilation: Dilation = unit, source: str = "") -> SequenceFormGame:
        """The game, its states sorted by player, by the number of the player's own moves before and
        by the number of actions: then kernels have few blocks."""
        size = [len(names) for names in self.names]
        above = np.append([-1, -1], np.repeat(np.arange(len(size)), size))
        moves: list[int] = []
        for sequence in self.parents:
            moves.append(moves[above[sequence]] + 1 if sequence > 1 else 0)
        order = sorted(range(len(size)), key=lambda j: (self.players[j], moves[j], size[j]))
        split = self.players.count(0)
        number = np.empty(self.sequences, dtype=np.int64)
        number[:2] = 0, 1
        offset = [2]
        for j in order:
            begin, end = offset[-1], offset[-1] + size[j]
            number[self.first[j] : self.first[j] + size[j]] = np.arange(begin, end)
            offset.append(end)
        parent = number[np.array([self.parents[j] for j in order], dtype=np.int64)]
        labels = {j: label for (_, label), j in self.keys.items()}
        tree = Tree(
            parent,
            np.array(offset, dtype=np.int64),
            split,
            tuple(labels[j] for j in order),
            ("", "", *(str(a) for j in order for a in self.names[j])),
        )
        rows, columns = number[np.array(self.leaves, dtype=np.int64)].reshape(-1, 2).T
        # Leaves with the same pair of sequences are one entry.
        key = rows * self.sequences + columns
        walk = np.argsort(key, kind="stable")
        first = np.flatnonzero(np.diff(key[walk], prepend=-1))
        row = np.zeros(self.sequences + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows[walk[first]], minlength=self.sequences), out=row[1:])
        return SequenceFormGame(
            tree,
            row,
            columns[walk[first]],
            np.add.reduceat(np.array(self.chances)[walk], first),
            np.add.reduceat(np.array(self.payoffs)[walk], first),
            dilation,
            source,
        )
