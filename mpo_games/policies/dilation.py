r"""Weights of the dilated entropy: how much an information state resists being moved.

Each is a function `(game) -> weights`, one positive number per information state, computed
bottom-up. `unit` is what the MMD paper and OpenSpiel use; `payoff_scaled` measures the payoff at
stake below a state, so that a step moves every state alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpo_games.kernels import trees as kernels
from mpo_games.protocol import Array

if TYPE_CHECKING:
    from mpo_games.games.sequence_form import SequenceFormGame
    from mpo_games.policies.treeplex import Tree, TreeplexPolicy


def unit(game: SequenceFormGame) -> Array:
    """`w_j = 1`."""
    return np.ones(game.tree.states)


def kroer(game: SequenceFormGame) -> Array:
    """`w_j = 2 + 2 max_a sum of the weights below a` (Kroer et al. 2020)."""
    return _bottom_up(game.tree, 2.0)


def farina(game: SequenceFormGame) -> Array:
    """`w_j = 1 + max_a sum of the weights below a` (Farina, Kroer & Sandholm 2021)."""
    return _bottom_up(game.tree, 1.0)


def payoff_scaled(game: SequenceFormGame, policy: TreeplexPolicy | None = None) -> Array:
    r"""The payoff at stake below each state, in units of payoff.

    $$t = |K|\,z',\quad
    P_j = \max_{a\in j} \big(t_a + \textstyle\sum_{j'\text{ below }a} P_{j'}\big),\quad
    w_j = \max(P_j,\ 10^{-6}\,\bar P_{\text{root}})$$

    at the plan $z'$ of `policy` (uniform when None), floored by a fifth of uniform play so that no
    branch counts for nothing.
    """
    tree, probs = game.tree, 1.0 / game.tree.choices
    if policy is not None:
        probs = 0.8 * policy.probs + 0.2 * probs
    plan = kernels.realisation_plan(tree.parent, tree.offset, probs)
    sizes = np.abs(game.payoff)
    stakes = np.abs(kernels.bilinear(game.row, game.column, sizes, plan, kernels.BOTH))
    value, best = kernels.best_response(tree.parent, tree.offset, stakes[None])
    return np.asarray(np.maximum(value[0, best[0]], 1e-6 * value[0, :2].mean()))


def _bottom_up(tree: Tree, base: float) -> Array:
    """`w_j = base (1 + max_a sum of the weights below a)`."""
    below = np.zeros(tree.sequences)
    weights = np.empty(tree.states)
    for j in range(tree.states - 1, -1, -1):
        weights[j] = base * (1.0 + below[tree.offset[j] : tree.offset[j + 1]].max())
        below[tree.parent[j]] += weights[j]
    return weights
