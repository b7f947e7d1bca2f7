"""A game tree with a given sequence form.

A sequence form says which pairs of sequences end a play, and not in which order the moves were
made. This module finds an order: a tree with the same information states, whose payoffs are the
same for every policy. Where the sequence form allows it, chance moves with its own probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mpo_games.games.gambit.text import summing_to_1
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy

PLANS = 3
"""Chance is found by the weights that parts of the game have under this many random plans: what
chance alone decides has the same weight under all."""

SAME = 1e-9
"""The relative difference of weights that are the same up to rounding."""


@dataclass(frozen=True, slots=True)
class ChanceNode:
    """Chance moves; the nodes that follow come next, in this order."""

    probabilities: list[Fraction]


@dataclass(frozen=True, slots=True)
class DecisionNode:
    """A player moves at information state `state`; the nodes that follow come next."""

    state: int


@dataclass(frozen=True, slots=True)
class EndNode:
    """Player 0 receives `value`."""

    value: float


@dataclass(frozen=True, slots=True)
class _Part:
    """The entries of the sequence form that lie below a node."""

    entries: list[int]
    depth: tuple[int, int]
    """How many moves of each player lie above."""
    above: tuple[int, int]
    """Each player's sequence at the node."""
    reach: float
    """The probability of the chance moves above."""


TreeNode = ChanceNode | DecisionNode | EndNode


def nodes_of(game: SequenceFormGame) -> list[TreeNode]:
    """The nodes of a tree for `game`, each before those that follow it, depth first.

    `x' A y` is the same for all plans, and the information states and their actions are the same.
    """
    tree = game.tree
    found: list[TreeNode] = []
    paths = _paths(game)
    rows = np.repeat(np.arange(tree.sequences), np.diff(game.row)).tolist()
    pairs = list(zip(rows, game.column.tolist(), strict=True))
    weigh = _weights(game, pairs)
    stack = [_Part(list(range(len(pairs))), (0, 0), (0, 1), 1.0)]
    while stack:
        part = stack.pop()
        if not part.entries:  # the action ends the play without a payoff
            found.append(EndNode(0.0))
            continue
        # The next state of each player on the way to each entry; -1 if there is none.
        following = [
            tuple(
                paths[side][part.depth[k]][0] if part.depth[k] < len(paths[side]) else -1
                for k, side in enumerate(pairs[e])
            )
            for e in part.entries
        ]
        mover = next(
            (k for k in (0, 1) if following[0][k] >= 0 and len({f[k] for f in following}) == 1),
            None,
        )
        if mover is not None:
            state = following[0][mover]
            found.append(DecisionNode(state))
            below: dict[int, list[int]] = {
                s: [] for s in range(tree.offset[state], tree.offset[state + 1])
            }
            for e in part.entries:
                below[paths[pairs[e][mover]][part.depth[mover]][1]].append(e)
            depth = (part.depth[0] + (mover == 0), part.depth[1] + (mover == 1))
            # Reversed, because the stack gives back the last part first.
            for s in reversed(below):
                above = (s, part.above[1]) if mover == 0 else (part.above[0], s)
                stack.append(_Part(below[s], depth, above, part.reach))
        elif len(part.entries) == 1:
            (e,) = part.entries
            # Equal to `chance` where chance moves as in the original game: then exact.
            same = abs(part.reach - game.chance[e]) <= SAME * part.reach
            found.append(EndNode(float(game.payoff[e] / (game.chance[e] if same else part.reach))))
        else:
            groups = _groups(part, following, weigh)
            exact = summing_to_1([float(weigh(g, part.above)[0]) for g in groups])
            found.append(ChanceNode(exact))
            stack += [
                _Part(g, part.depth, part.above, part.reach * float(p))
                for g, p in reversed(list(zip(groups, exact, strict=True)))
            ]
    return found


def _groups(
    part: _Part,
    following: list[tuple[int, ...]],
    weigh: Callable[[list[int], tuple[int, int]], np.ndarray],
) -> list[list[int]]:
    """The entries, divided as chance divides them.

    By the next state of player 0, of player 1, or of both, whichever is a move of chance alone.
    """
    for keys in ([f[0] for f in following], [f[1] for f in following], following):
        groups: dict[object, list[int]] = {}
        for entry, key in zip(part.entries, keys, strict=True):
            groups.setdefault(key, []).append(entry)
        found = list(groups.values())
        if len(found) > 1:
            weights = (weigh(group, part.above) for group in found)
            if all(np.ptp(w) <= SAME * w[0] for w in weights):
                break
    # If none is, chance draws a pair of next states that play may then contradict, with payoff 0.
    return found


def _paths(game: SequenceFormGame) -> list[list[tuple[int, int]]]:
    """For each sequence, the states on the way to it and the sequences of the moves there."""
    tree = game.tree
    paths: list[list[tuple[int, int]]] = [[], []]
    # A state stands after the states above it.
    for j, parent in enumerate(tree.parent.tolist()):
        for sequence in range(tree.offset[j], tree.offset[j + 1]):
            paths.append([*paths[parent], (j, sequence)])
    return paths


def _weights(
    game: SequenceFormGame, pairs: list[tuple[int, int]]
) -> Callable[[list[int], tuple[int, int]], np.ndarray]:
    """`weigh(entries, above)`: their chance times the plans from `above` on, for each plan."""
    tree, rng = game.tree, np.random.default_rng(0)
    plans = []
    for _ in range(PLANS):
        draws = rng.uniform(0.5, 1.5, size=tree.sequences)
        sums = np.add.reduceat(draws, tree.offset[:-1]) if tree.states else np.empty(0)
        draws[2:] /= np.repeat(sums, np.diff(tree.offset))
        draws[:2] = 1.0
        plans.append(TreeplexPolicy.from_probs(tree, game.geometry, draws).plan)
    plan = np.array(plans)
    row, column = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    each = game.chance * plan[:, row] * plan[:, column]

    def weigh(entries: list[int], above: tuple[int, int]) -> np.ndarray:
        reached = plan[:, above[0]] * plan[:, above[1]]
        return np.asarray(each[:, entries].sum(axis=-1) / reached)

    return weigh
