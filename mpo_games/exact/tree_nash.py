r"""Nash equilibria of trees, by the sequence-form linear programme (Koller, Megiddo & von Stengel).

$$\max_{x,v} v_0\quad\text{s.t.}\quad A^\top x \ge F^\top v,\; E x = e,\; x \ge 0$$

$E$ and $F$ are the flow constraints of the two treeplexes. The multipliers of the programme are
the other player's plan. HiGHS solves it, with the payoffs less a constant that rounds nothing. If
the answer has no certificate, because some payoffs are much larger than those that are played,
HiGHS tries again around the median payoff, and then a small tree is solved in decimal arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from mpo_games.exact import many_digits
from mpo_games.exact import tables as exact
from mpo_games.exact.simplex_method import STORED
from mpo_games.exact.tables import CertificateError, Equilibrium
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.shifts import centred
from mpo_games.interrupts import unmasking
from mpo_games.kernels import trees as kernels
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array

SMALL = 40_000
"""A tree is solved in decimal arithmetic if its programme has at most so many coefficients."""

CUT = 1e8
"""Payoffs are cut at this multiple of the middle ones where HiGHS tries again."""


@exact.nash.register
@unmasking
def nash_of_tree(game: SequenceFormGame) -> Equilibrium[TreeplexPolicy]:
    r"""A Nash equilibrium of a tree. At states that the plan never reaches, play is uniform.

    Raises `CertificateError` if the gap exceeds `GAP_LIMIT` times the payoffs that are played: the
    mean distance of the payoffs from the value, along the best plan of the support.
    """
    best: tuple[Equilibrium[TreeplexPolicy] | None, float] = None, np.inf
    for policy in _answers(game):
        found = _certified(game, policy)
        if best[0] is None or found[1] < best[1]:
            best = found
        if best[1] <= exact.DOUBT:
            break
    answer, share = best
    if answer is None or not share <= exact.GAP_LIMIT:  # True for NaN as well
        raise CertificateError(
            f"The best policy that was found has a duality gap of {share:.3g} times the payoffs "
            f"that are played; the limit is {exact.GAP_LIMIT:.0e}. Payoffs of the tree go up to "
            f"{float(game.bound):.3g}."
        )
    return answer


@exact.nash.register
@unmasking
def nash_of_view(game: BehaviouralGame) -> Equilibrium[TabularPolicy]:
    """The equilibrium of the tree as a table; the support is the actions that the plan reaches."""
    found = nash_of_tree(game.exact)
    support = np.zeros(game.blank.shape, dtype=bool)
    support.reshape(-1)[game.cells] = found.support[2:]
    return Equilibrium(game.table(found.policy), found.value, support, found.gap)


def _answers(game: SequenceFormGame) -> Iterator[TreeplexPolicy]:
    """Policies that may be an equilibrium, the cheapest first."""
    payoff = centred(game.payoff, game.chance)
    # Payoffs up to 1, because HiGHS's tolerances are absolute; `or 1.0` where all payoffs are 0.
    yield from _by_highs(game, payoff / (float(np.abs(payoff).max(initial=0.0)) or 1.0))
    each = game.payoff / game.chance
    middle = float(np.median(each)) if each.size else 0.0
    far = np.abs(each / 2.0 - middle / 2.0)
    unit = float(np.median(far[far > 0.0])) if far.any() else 1.0
    with np.errstate(over="ignore"):
        scaled = np.clip((each / 2.0 - middle / 2.0) / unit, -CUT, CUT)
    yield from _by_highs(game, scaled * game.chance)
    yield from _in_many_digits(game)


def _certified(
    game: SequenceFormGame, policy: TreeplexPolicy
) -> tuple[Equilibrium[TreeplexPolicy], float]:
    """The policy with its gap, and that gap divided by the payoffs that are played."""
    tree, value = game.tree, float(game.value(policy))
    owner = tree.owner

    def gradient(payoff: Array) -> Array:
        return kernels.bilinear(game.row, game.column, payoff, policy.plan, kernels.BOTH)

    # Less the value, so that the sums keep the digits of the differences.
    apart = game.payoff - value * game.chance
    q = gradient(apart)
    value += float(np.sum(policy.plan * np.where(owner == 0, q, 0.0)))
    worth, best = kernels.best_response(tree.parent, tree.offset, q)
    gap = float(worth[0] + worth[1])
    met = np.abs(gradient(np.abs(apart)))
    response = np.zeros(tree.sequences)
    response[:2], response[best] = 1.0, 1.0
    seen = kernels.realisation_plan(tree.parent, tree.offset, response) * met
    # The kernel has no -inf times 0: at every state some action is played.
    played = np.where(policy.probs > exact.SUPPORT, met, -np.inf)
    spread, _ = kernels.best_response(tree.parent, tree.offset, played)
    most = max(float(spread[0]), float(spread[1]))
    size = most + STORED / exact.GAP_LIMIT * max(
        most, *(float(seen[owner == player].sum()) for player in (0, 1))
    )
    # Gaps and values are the game's own where these are as exact.
    if game.payoff is centred(game.payoff, game.chance):
        value = float(game.value(policy))
    found = Equilibrium(policy, value, policy.plan > exact.SUPPORT, float(game.duality_gap(policy)))
    return found, gap / size if size > 0.0 else gap


def _by_highs(game: SequenceFormGame, payoff: Array) -> Iterator[TreeplexPolicy]:
    """The answer of HiGHS for the payoffs `payoff`, if it has one."""
    # Imported in the functions that need it: `import mpo_games` must not load scipy.optimize.
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack

    tree, owner = game.tree, game.tree.owner
    own, other = (np.flatnonzero(owner == player) for player in (0, 1))
    matrix = payoff_matrix(game, payoff)[own][:, other]
    flow = _flow(tree)
    mine, theirs = flow[: tree.split + 1][:, own], flow[tree.split + 1 :][:, other]
    states = tree.states - tree.split + 1
    answer: Any = linprog(
        -np.eye(1, own.size + states, own.size)[0],
        A_ub=hstack([-matrix.T, theirs.T]).tocsr(),
        b_ub=np.zeros(other.size),
        A_eq=hstack([mine, csr_array((mine.shape[0], states))]).tocsr(),
        b_eq=np.eye(1, mine.shape[0])[0],
        bounds=[(0.0, None)] * own.size + [(None, None)] * states,
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if answer.x is None or answer.status != 0:
        return
    plan = np.empty(tree.sequences)
    plan[own], plan[other] = answer.x[: own.size], -answer.ineqlin.marginals
    yield game.initial_policy().at(np.maximum(plan, 0.0))


def _in_many_digits(game: SequenceFormGame) -> Iterator[TreeplexPolicy]:
    r"""The equilibrium of a small tree in decimal arithmetic.

    With payoffs above 0 every $v$ is at least 0, and a plan may as well leave probability unused:
    $E x \le e$. So the programme is one that begins at 0.
    """
    tree, owner = game.tree, game.tree.owner
    own, other = (np.flatnonzero(owner == player) for player in (0, 1))
    split, theirs = tree.split, tree.states - tree.split
    shape = (other.size + split, own.size - 1 + theirs + 1)
    if shape[0] * shape[1] > SMALL or not game.payoff.size:
        return
    places = many_digits.digits_of(np.concatenate([game.payoff, game.chance, [0.0, 1.0]]))
    with many_digits.arithmetic(places):
        chance, payoff = many_digits.decimals(game.chance), many_digits.decimals(game.payoff)
        each = payoff / chance
        low = each.min()
        unit = each.max() - low or Decimal(1)
        positive = (payoff - low * chance) / unit + chance
        # Columns: player 0's sequences without the empty one, the root's value, the states' values.
        column = np.full(tree.sequences, -1)
        column[own[1:]] = np.arange(own.size - 1)
        root = own.size - 1
        row = np.full(tree.sequences, -1)
        row[other] = np.arange(other.size)
        matrix, limits = np.full(shape, Decimal(0)), np.full(shape[0], Decimal(0))
        for a in own:
            for k in range(game.row[a], game.row[a + 1]):
                b = row[game.column[k]]
                if a == 0:
                    limits[b] += positive[k]
                else:
                    matrix[b, column[a]] -= positive[k]
        one = Decimal(1)
        matrix[row[1], root] = one
        for j in range(split, tree.states):
            value = root + 1 + j - split
            matrix[row[tree.parent[j]], value] -= one
            matrix[row[tree.offset[j] : tree.offset[j + 1]], value] += one
        for j in range(split):
            flow = other.size + j
            matrix[flow, column[tree.offset[j] : tree.offset[j + 1]]] = one
            if tree.parent[j] == 0:
                limits[flow] = one
            else:
                matrix[flow, column[tree.parent[j]]] -= one
        gains = np.full(shape[1], Decimal(0))
        gains[root] = one
        found = many_digits.programme(matrix, limits, gains, places)
        if found is None:
            return
        plan = np.ones(tree.sequences)
        plan[own[1:]] = many_digits.floats(found[0][:root])
        plan[other] = many_digits.floats(found[1][: other.size])
    yield game.initial_policy().at(np.maximum(plan, 0.0))


def payoff_matrix(game: SequenceFormGame, entries: Array) -> Any:
    """The sparse matrix `(sequences, sequences)` of `entries`, rows of player 0, columns of 1."""
    from scipy.sparse import csr_array

    size = game.tree.sequences
    return csr_array((entries, game.column, game.row), shape=(size, size))


def _flow(tree: Tree) -> Any:
    """The flow constraints of a plan, `(states + 2, sequences)`.

    The plan is 1 at each empty sequence, and the actions of an information state sum to the plan at
    its parent. Player 0's rows come first; each player's begin with the empty sequence.
    """
    from scipy.sparse import csr_array

    size, states = np.diff(tree.offset), np.arange(tree.states)
    row = states + 1 + (states >= tree.split)
    return csr_array(
        (
            np.concatenate([[1.0, 1.0], -np.ones(tree.states), np.ones(size.sum())]),
            (
                np.concatenate([[0, tree.split + 1], row, np.repeat(row, size)]),
                np.concatenate([[0, 1], tree.parent, np.arange(2, tree.sequences)]),
            ),
        )
    )
