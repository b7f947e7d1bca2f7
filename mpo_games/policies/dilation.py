r"""Weights of the dilated entropy: how much an information state resists being moved.

Each is a function `(game) -> weights` with one positive number per information state, `(states,)`.
`unit` is what the MMD paper and OpenSpiel use; `payoff_scaled` measures the payoff at stake below a
state, so that a step moves every state alike.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np

from mpo_games.checks import require_kind, require_shape
from mpo_games.kernels import trees as kernels
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices

LEAST = 1e-290
"""Payoffs at stake below this count as 0 in `payoff_scaled`."""


class TreeGame(Protocol):
    """What weights may depend on: a tree, and the sparse payoff matrix over its sequences."""

    @property
    def tree(self) -> Tree:
        """The shape of the tree."""
        ...

    @property
    def row(self) -> Indices:
        """CSR row pointer of the payoff matrix, `(sequences + 1,)`."""
        ...

    @property
    def column(self) -> Indices:
        """Player 1's sequence of each payoff."""
        ...

    @property
    def payoff(self) -> Array:
        """Player 0's payoff of each entry, times its chance."""
        ...


def unit(game: TreeGame) -> Array:
    """`w_j = 1`."""
    return np.ones(_tree(game).states)


def kroer(game: TreeGame) -> Array:
    """`w_j = 2 + 2 max_a sum of the weights below a` (Kroer et al. 2020)."""
    return _bottom_up(_tree(game), 2.0)


def farina(game: TreeGame) -> Array:
    """`w_j = 1 + max_a sum of the weights below a` (Farina, Kroer & Sandholm 2021)."""
    return _bottom_up(_tree(game), 1.0)


def payoff_scaled(game: TreeGame, policy: TreeplexPolicy | None = None) -> Array:
    r"""The payoff at stake below each state, in units of payoff.

    $$t = (|A|\,y',\ |A|^\top x'),\quad
    P_j = \max_{a\in j} \big(t_a + \textstyle\sum_{j'\text{ below }a} P_{j'}\big),\quad
    w_j = \max(P_j,\ 10^{-6}\,\bar P_{\text{root}})$$

    with $A$ the payoff matrix, $x'$ and $y'$ the realisation plans of `policy` (uniform when None)
    with a fifth of uniform play mixed in, and $\bar P_{\text{root}}$ the mean of both players'
    stakes at the root. Where that is below `LEAST`, because all payoffs are 0, the weights are 1.
    """
    tree = _tree(game)
    probs = 1.0 / tree.choices
    if policy is not None:
        require_kind("policy", policy, TreeplexPolicy, "a policy of the game")
        require_shape("policy", policy.probs, probs)
        # Without a share of uniform play, a branch that is never reached would weigh nothing.
        probs = 0.8 * policy.probs + 0.2 * probs
    plan = kernels.realisation_plan(tree.parent, tree.offset, probs)
    sizes = np.abs(game.payoff)
    # The kernel negates player 1's half; stakes have no sign.
    stakes = np.abs(kernels.bilinear(game.row, game.column, sizes, plan, kernels.BOTH))
    value, best = kernels.best_response(tree.parent, tree.offset, stakes[None])
    root = float(value[0, :2].mean())
    # Nothing is at stake, or so little that the reciprocals of the weights would be infinite.
    if not root > LEAST:
        return unit(game)
    return np.asarray(np.maximum(value[0, best[0]], 1e-6 * root))


def _tree(game: TreeGame) -> Tree:
    """The tree of `game`; `ValueError` if it is no tree."""
    tree = getattr(game, "tree", None)
    if not isinstance(tree, Tree):
        require_kind("game", game, Tree, "a game with a tree, like `load('kuhn_poker')`")
    return cast(Tree, tree)


def _bottom_up(tree: Tree, base: float) -> Array:
    """`w_j = base (1 + max_a sum of the weights below a)`."""
    below = np.zeros(tree.sequences)
    weights = np.empty(tree.states)
    for j in range(tree.states - 1, -1, -1):
        weights[j] = base * (1.0 + below[tree.offset[j] : tree.offset[j + 1]].max())
        below[tree.parent[j]] += weights[j]
    return weights
