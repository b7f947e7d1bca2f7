"""Two-player zero-sum extensive-form games with perfect recall, in sequence form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from mpo_games.kernels import trees as kernels
from mpo_games.policies import dilation
from mpo_games.policies.treeplex import Tree, TreeplexPolicy, realisation_plan, runs
from mpo_games.protocol import Array, Indices, Mixture

GAMMA = 0.1
"""The share of uniform play in the smoothed dilated entropy."""


@dataclass(frozen=True, eq=False)
class SequenceFormGame:
    """Player 0 receives `x' A y` and player 1 `-x' A y`, `x` and `y` their realisation plans.

    `A` is sparse: `row` is a CSR row pointer over all sequences, `column`, `chance` and `payoff`
    its entries, from player 0's sequences to player 1's. An entry gathers the leaves at which the
    players' own actions are those two sequences. Compile a game from OpenSpiel
    (`openspiel.compile_game`) or build it from Python data (`tree_builder.build`).

    `weights` says which dilated entropy its policies move in.
    """

    tree: Tree
    row: Indices
    column: Indices
    chance: Array
    """The probability that chance plays its part of an entry: `sum chance x y = 1` in any play."""
    payoff: Array
    """Player 0's payoff of an entry times its chance."""
    weights: Callable[[SequenceFormGame], Array] = dilation.unit
    source: str = ""
    """The OpenSpiel game string that it was compiled from, or nothing."""
    scale: Array = field(init=False)
    """The weights themselves, `(states,)`."""

    def __post_init__(self) -> None:
        owner, row, column = self.tree.owner, self.row, self.column
        if row.shape != (owner.size + 1,) or row[0] or row[-1] != self.payoff.size:
            raise ValueError("`row` must be a CSR row pointer over all sequences.")
        if (np.diff(row) < 0).any():
            raise ValueError("`row` must not fall: it is a CSR row pointer.")
        known = column.shape == self.payoff.shape and ((column >= 0) & (column < owner.size)).all()
        if not known or (owner[column] != 1).any():
            raise ValueError("`column` must name a sequence of player 1 for every payoff.")
        if np.diff(row)[owner == 1].any():
            raise ValueError("`row` must be empty at the sequences of player 1.")
        if self.chance.shape != self.payoff.shape or not (self.chance > 0).all():
            raise ValueError("`chance` must be a positive number for every payoff.")
        if not np.isfinite(self.payoff).all():
            raise ValueError("`payoff` must be finite: it holds NaN or infinity.")
        scale = np.asarray(self.weights(self), dtype=np.float64)
        if scale.shape != (self.tree.states,) or not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError("`weights` must give a finite positive number per information state.")
        object.__setattr__(self, "scale", scale)

    @property
    def players(self) -> int:
        """2."""
        return 2

    @property
    def bound(self) -> Array:
        """`max |A|`: the size of step OpenSpiel takes is `alpha / bound^2`."""
        return np.asarray(np.abs(self.payoff).max(initial=0.0))

    def with_weights(self, weights: Callable[[SequenceFormGame], Array]) -> Self:
        """The same game in another dilated entropy (see `dilation`)."""
        return replace(self, weights=weights)

    def with_payoff(self, payoff: Array) -> Self:
        """The same tree with other payoffs at its `(row, column)` entries."""
        return replace(self, payoff=np.ascontiguousarray(payoff, dtype=np.float64))

    def initial_policy(self) -> TreeplexPolicy:
        """Uniform at every information state."""
        return TreeplexPolicy.uniform(self.tree, self.scale)

    def uniform(self) -> TreeplexPolicy:
        """Uniform play (in unit weights, whatever the game's)."""
        return TreeplexPolicy.uniform(self.tree, np.ones(self.tree.states))

    def center(self) -> TreeplexPolicy:
        """The magnet of a plain entropy bonus: the minimiser of the dilated entropy."""
        return TreeplexPolicy.center(self.tree, self.scale)

    def feedback(
        self,
        policy: TreeplexPolicy,
        opponent: TreeplexPolicy | Mixture[TreeplexPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The gradient in sequence form, `[A y, -A' x]` in one vector, `(..., sequences)`.

        `ValueError` for a policy of another game: of another kind, or number of sequences.
        """
        plan = self._plan(policy if opponent is None else opponent)
        side = kernels.BOTH if player is None else player
        if plan.ndim == 1:
            return kernels.bilinear(self.row, self.column, self.payoff, plan, side)
        flow = plan.reshape(-1, plan.shape[-1])
        return kernels.bilinear(self.row, self.column, self.payoff, flow, side).reshape(plan.shape)

    def _plan(self, policy: TreeplexPolicy | Mixture[TreeplexPolicy]) -> Array:
        """The plan, checked: kernels would read past its end."""
        if not isinstance(policy, (TreeplexPolicy, Mixture)):
            raise ValueError(
                "`policy` must be a TreeplexPolicy like `game.initial_policy()`, "
                f"got {type(policy).__name__}."
            )
        plan, sequences = realisation_plan(policy), self.row.size - 1
        if plan.shape[-1] != sequences:
            raise ValueError(
                f"`policy` must have {sequences} sequences like `game.initial_policy()`, "
                f"got {plan.shape[-1]}: it is of another game."
            )
        return plan

    def duality_gap(self, policy: TreeplexPolicy) -> Array:
        """The sum of both players' best-response values (NashConv)."""
        return self.gap(policy, self.feedback(policy))

    def gap(self, policy: TreeplexPolicy, q: Array) -> Array:
        """The duality gap of the policy whose own feedback is `q`."""
        lead, (push,) = runs(q)
        value, _ = kernels.best_response(self.tree.parent, self.tree.offset, push)
        total: Array = value[..., 0] + value[..., 1]
        return total.reshape(lead) if lead else total

    def smoothed(self, policy: TreeplexPolicy) -> tuple[TreeplexPolicy, float]:
        """The same play in the smoothed dilated entropy, weighted by the payoff at stake there, and
        what that costs: a pass over the payoffs is an evaluation."""
        return policy.within(dilation.payoff_scaled(self, policy), GAMMA), 1.0

    def regularised_gap(
        self, policy: TreeplexPolicy, magnet: TreeplexPolicy, alpha: float
    ) -> Array:
        r"""Duality gap of the game whose players pay $\alpha$ times the dilated divergence to
        `magnet`: `alpha D(policy || its regularised best response)`, without cancellation."""
        if not alpha >= 0.0:
            raise ValueError(f"`alpha` must be at least 0, got {alpha}.")
        if alpha == 0.0:
            return self.duality_gap(policy)
        q = self.feedback(policy)
        response = magnet.mirror_step(q, None, eta=1.0 / alpha, alpha=0.0)
        return np.asarray(alpha * policy.divergence(response).sum(axis=-1))

    def best_response(self, policy: TreeplexPolicy) -> TreeplexPolicy:
        """A pure best response of each player, also where play does not come."""
        q = self.feedback(policy)
        probs = np.zeros(q.shape)
        probs[..., :2] = 1.0
        flat = q.reshape(-1, q.shape[-1])
        _, best = kernels.best_response(self.tree.parent, self.tree.offset, flat)
        np.put_along_axis(probs.reshape(flat.shape), best, 1.0, axis=-1)
        return policy.playing(probs)

    def value(self, policy: TreeplexPolicy) -> Array:
        """Player 0's expected payoff, `x' A y`."""
        return np.asarray(np.sum(policy.plan * self.feedback(policy, player=0), axis=-1))

    def divergence(self, policy: TreeplexPolicy, other: TreeplexPolicy) -> Array:
        """The dilated Bregman divergence `D(policy || other)`, summed over the players."""
        return np.asarray(policy.divergence(other).sum(axis=-1))

    def average(self, mixture: Mixture[TreeplexPolicy]) -> TreeplexPolicy:
        """The policy whose realisation plan is the mixture's (Kuhn 1953)."""
        return mixture.policies[0].at(realisation_plan(mixture))
