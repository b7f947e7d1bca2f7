"""Games from plain Python trees, and the builder that every compiler of trees uses."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from mpo_games.checks import normalised, require_probabilities, slack
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.labelled import ordered, read, shown
from mpo_games.policies.dilation import unit
from mpo_games.policies.tree import Tree


@dataclass(frozen=True, slots=True)
class Payoff:
    """A leaf: player 0 receives `value` and player 1 pays it.

    >>> game = build_tree(Decision(0, 'start', {'only': Payoff(1.0)}))
    >>> float(game.value(game.initial_policy()))
    1.0
    """

    value: float


@dataclass(frozen=True, slots=True)
class Chance:
    """A random move: `(probability, node)` pairs whose probabilities sum to 1.

    >>> deal = Chance([(0.5, Payoff(1.0)), (0.5, Payoff(-1.0))])
    >>> build_tree(Decision(0, 'start', {'play': deal, 'leave': Payoff(0.0)}))
    SequenceFormGame: 1 information state, 4 sequences
    """

    outcomes: Sequence[tuple[float, Node]]
    """The probability of each node, and the node."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A move of `player` (0 or 1), who knows nothing but `state` and picks one of `actions`.

    >>> build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    SequenceFormGame: 1 information state, 4 sequences
    """

    player: int
    state: str
    actions: Mapping[str, Node]


Node = Payoff | Chance | Decision


def build_tree(root: Node, dilation: Dilation = unit) -> SequenceFormGame:
    """The game of a tree of `Chance`, `Decision` and `Payoff` nodes.

    `dilation` chooses the weights of its dilated entropy. A state may list its actions in another
    order at another node: they are told apart by name. `ValueError` for chances that do not sum to
    1 (up to the rounding of their type), for payoffs that are not finite, for an information state
    whose actions differ between nodes, and for imperfect recall (a state that different own actions
    lead to).

    >>> call = {'call': Payoff(-2.0), 'pass': Payoff(1.0)}
    >>> bet = {'bet': Decision(1, 'seen a bet', call), 'check': Payoff(0.0)}
    >>> build_tree(Decision(0, 'start', bet))
    SequenceFormGame: 2 information states, 6 sequences
    """
    # A stack instead of recursion: a game may be deeper than Python's limit.
    builder = TreeBuilder()
    stack: list[tuple[Node, tuple[int, int], float]] = [(root, (0, 1), 1.0)]
    while stack:
        node, at, chance = stack.pop()
        if isinstance(node, Payoff):
            builder.payoff(at, chance, node.value)
        elif isinstance(node, Chance):
            # Reversed, so that the stack yields the nodes in their written order.
            stack += [(child, at, chance * p) for p, child in reversed(_outcomes(node)) if p > 0.0]
        elif isinstance(node, Decision):
            actions = _actions(node)
            names = builder.known(node.player, node.state, tuple(actions))
            sequences = builder.state(node.player, node.state, names, at)
            for sequence, name in zip(reversed(sequences), reversed(names), strict=True):
                there = (sequence, at[1]) if node.player == 0 else (at[0], sequence)
                stack.append((actions[name], there, chance))
        else:
            raise ValueError(
                "A node must be a `Chance`, a `Decision` or a `Payoff`, "
                f"got a {type(node).__name__}."
            )
    return builder.finish(dilation)


class ImperfectRecallError(ValueError):
    """An information state is reached by different actions of its own player."""


def _outcomes(node: Chance) -> list[tuple[float, Node]]:
    """The probabilities of a chance node, with sum 1, and what follows them."""
    items, names = ordered(node.outcomes, "outcomes")
    pairs = [item for item in items if isinstance(item, (tuple, list)) and len(item) == 2]
    if names is not None or len(pairs) < len(items) or not items:
        raise ValueError(
            "`outcomes` of a `Chance` must be pairs `(probability, node)`, at least one, "
            f"got {node.outcomes!r:.60}."
        )
    found = read([p for p, _ in pairs], "outcomes")
    if found.values.ndim != 1:
        raise ValueError("`outcomes` of a `Chance` must have one probability each.")
    # The sum of Python, not of NumPy: it adds in order, as it did in earlier releases.
    total, allowed = sum(found.values.tolist()), slack(found.rounding, len(pairs))
    if not (found.values >= -allowed).all() or not abs(total - 1.0) <= allowed:
        raise ValueError(
            f"Chances must be probabilities that sum to 1, got {found.values.tolist()}."
        )
    probs = require_probabilities(found.values, "outcomes", allowed)
    probs = normalised(probs, np.asarray(total), found.rounding, 1e-9)
    return list(zip(probs.tolist(), (child for _, child in pairs), strict=True))


def _actions(node: Decision) -> Mapping[Any, Node]:
    """The actions of a decision, in their order."""
    if not isinstance(node.actions, Mapping):
        raise ValueError(
            f"`actions` at {shown(node.state)} must be a mapping of names to nodes, "
            f"got a {type(node.actions).__name__}."
        )
    return node.actions


@dataclass(slots=True)
class TreeBuilder:
    """Collects information states and payoffs in the order of a depth-first walk.

    Sequences are numbered in the order of discovery, 0 and 1 the empty ones, until `finish` sorts
    them.
    """

    keys: dict[tuple[int, str], int] = field(default_factory=dict)
    """The number of each information state, by player and label."""
    players: list[int] = field(default_factory=list)
    """The player of each information state."""
    parents: list[int] = field(default_factory=list)
    """The sequence that leads to each information state."""
    names: list[tuple[Hashable, ...]] = field(default_factory=list)
    """The actions of each information state."""
    spoken: list[tuple[str, ...]] = field(default_factory=list)
    """What people call them, where that is another name."""
    first: list[int] = field(default_factory=list)
    """The sequence of each information state's first action."""
    # Machine numbers, since a large game has millions of leaves.
    leaves: array[int] = field(default_factory=lambda: array("q"))
    chances: array[float] = field(default_factory=lambda: array("d"))
    payoffs: array[float] = field(default_factory=lambda: array("d"))
    sequences: int = 2

    def known(self, player: int, label: str, actions: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
        """The actions in the order of an earlier node of the information state, if there is one.

        Other actions than at that node are given back as they are.
        """
        try:
            j = self.keys.get((player, label))
        except TypeError:
            raise ValueError(f"An information state needs a name, got {shown(label)}.") from None
        if j is None or len(actions) != len(self.names[j]):
            return actions
        return self.names[j] if set(actions) == set(self.names[j]) else actions

    def state(
        self, player: int, label: str, actions: tuple[Hashable, ...], at: tuple[int, int]
    ) -> range:
        """The sequences of the actions of an information state.

        `at` is the pair of the players' sequences at the node. `ValueError` for a state whose
        actions differ from those at an earlier node, and for imperfect recall.
        """
        if player not in (0, 1) or not isinstance(player, (int, np.integer)):
            raise ValueError(f"A decision belongs to player 0 or 1, got {shown(player)}.")
        key = (player, label)
        j = self.keys.get(key)
        if j is None:
            if not actions:
                raise ValueError(f"Information state {shown(label)} has no actions.")
            j = self.keys[key] = len(self.players)
            self.players.append(player)
            self.parents.append(at[player])
            self.names.append(actions)
            self.first.append(self.sequences)
            self.sequences += len(actions)
        elif self.parents[j] != at[player]:
            raise ImperfectRecallError(
                f"Player {player} has imperfect recall at {shown(label)}: "
                "the state is reached by different actions of their own."
            )
        elif self.names[j] != actions:
            raise ValueError(
                f"Information state {shown(label)} has different actions at two nodes."
            )
        return range(self.first[j], self.first[j] + len(self.names[j]))

    def payoff(self, at: tuple[int, int], chance: float, value: float) -> None:
        """Add a leaf at which player 0 receives `value`.

        `at` is the pair of the players' sequences there, and `chance` the probability of chance's
        moves. `ValueError` for a payoff that is not finite.
        """
        # Floats are most of a large game, and need no reading.
        if not isinstance(value, float):
            found = read(value, "payoff").values
            if found.size != 1:
                raise ValueError(f"A payoff must be one number, got shape {found.shape}.")
            value = float(found.item())
        if not isfinite(value):
            raise ValueError(f"A payoff must be finite, got {value}.")
        self.leaves.extend(at)
        self.chances.append(chance)
        self.payoffs.append(chance * value)

    def finish(
        self, dilation: Dilation = unit, source: str = "", utility_sum: float = 0.0
    ) -> SequenceFormGame:
        """The game of all states and leaves that were added.

        `source` is its OpenSpiel game string, or nothing, and `utility_sum` what both players
        receive together.
        """
        size = [len(names) for names in self.names]
        above = np.append([-1, -1], np.repeat(np.arange(len(size)), size))
        moves: list[int] = []
        for sequence in self.parents:
            moves.append(moves[above[sequence]] + 1 if sequence > 1 else 0)
        # Sorted like this, a player's states form few blocks of equal size (see `Tree.block`).
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
            ("", "", *(name for j in order for name in self.spoken[j])) if self.spoken else (),
        )
        rows, columns = number[np.array(self.leaves, dtype=np.int64)].reshape(-1, 2).T
        # Payoffs are linear in both plans, so leaves with the same pair of sequences are one entry.
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
            utility_sum,
        )
