r"""The geometry of a tree: what "close" means in a mirror step on realisation plans.

The dilated entropy of a realisation plan $z$ is the negative entropy of play at every information
state $j$, times a weight and the probability that the player's own actions lead there:

$$\psi(z) = \sum_j w_j\, z_{p(j)} \sum_{a\in j} \pi_a\log\pi_a ,\qquad \pi_a = z_a / z_{p(j)}$$

(von Stengel 1996; Hoda et al. 2010). It is the geometry in which MMD's linear rate is a theorem.
Its gradient is local up to terms that cancel in every mirror step,
$\nabla\psi(z)_a \simeq w_j\log\pi_a$. So $\log\pi$ can serve as the coordinates of a policy, and
they stay exact at any depth and at vanishing reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpo_games.checks import is_number
from mpo_games.kernels import smoothed_trees as smoothed
from mpo_games.kernels import trees as kernels
from mpo_games.kernels.scaled import root_of_squares
from mpo_games.kernels.tables import LOG_ZERO
from mpo_games.labelled import shown
from mpo_games.policies.tree import Tree, runs
from mpo_games.protocol import Array, Number


@dataclass(frozen=True, slots=True, eq=False)
class DilatedEntropy:
    r"""The dilated entropy with given weights, plain or smoothed by a share of uniform play.

    $$d(z) = \sum_j \frac{w_j\, z_{p(j)}}{(1-\gamma)^2}\sum_{a\in j}\pi_a\log\pi_a,\qquad
    \pi_a = (1-\gamma)\,x_a + \gamma/n_j,\quad x_a = z_a / z_{p(j)}$$

    with $n_j$ the number of actions at state $j$. At `gamma = 0` this is the plain dilated entropy.
    With a `gamma` above 0, an action of probability 0 comes back as fast as it went, as in
    `SmoothedEntropy` on a simplex. `ValueError` unless `0 <= gamma < 1`.

    The methods take the tree and a policy's coordinates `theta`, that is $\log\pi$,
    `(..., sequences)` with 0 at the empty sequences, and its realisation plan, of the same shape.

    >>> DilatedEntropy(np.array([1.0, 2.0]))
    DilatedEntropy: weights from 1 to 2
    """

    weights: Array
    """The weight of each information state, in units of payoff, `(states,)`."""
    gamma: float = 0.0
    """The share of uniform play."""

    def __repr__(self) -> str:
        least, most = (float(f(self.weights, initial=1.0)) for f in (np.min, np.max))
        smooth = f", gamma={self.gamma:.4g}" if self.gamma else ""
        return f"DilatedEntropy: weights from {least:.4g} to {most:.4g}{smooth}"

    def __post_init__(self) -> None:
        if not (is_number(self.gamma) and 0.0 <= self.gamma < 1.0):
            raise ValueError(f"`gamma` must lie in [0, 1), got {shown(self.gamma)}.")

    @property
    def plain(self) -> DilatedEntropy:
        """The same weights without smoothing; its coordinates are log-probabilities of play."""
        return DilatedEntropy(self.weights) if self.gamma else self

    def minimiser(self, tree: Tree) -> tuple[Array, Array]:
        """Coordinates and plan of the policy of least entropy value, `(sequences,)` each.

        It plays an action in proportion to the (weighted) number of pure strategies behind it.
        """
        # Coordinates of 0 are a gradient of 0: a step from there without feedback minimises.
        zero, reach = np.zeros(tree.sequences), np.ones(tree.sequences)
        return self.step(tree, zero, reach, zero, zero, 1.0, 0.0, None)

    def step(
        self,
        tree: Tree,
        theta: Array,
        plan: Array,
        q: Array,
        magnet: Array,
        eta: Number,
        alpha: Number,
        player: int | None,
    ) -> tuple[Array, Array]:
        """Coordinates and plan of the mirror step (Sokota et al. 2023, section 4).

        `q` and the coordinates `magnet` are `(..., sequences)`; `eta` and `alpha` are floats, or
        arrays over the leading axes. `player` moves the states of that player only. `ValueError`
        for a batch if `gamma` is not 0.
        """
        if self.gamma:
            return self._smoothed_step(tree, theta, plan, q, magnet, eta, alpha, player)
        # One run at float settings is the hot path of a few microseconds: it needs no other call.
        many = isinstance(eta, np.ndarray) or isinstance(alpha, np.ndarray)
        if many or not theta.ndim == q.ndim == magnet.ndim == 1:
            log_p, flow = self._batched_step(tree, theta, q, magnet, eta, alpha)
        else:
            log_p, flow = kernels.dilated_step(
                tree.parent,
                tree.offset,
                tree.block,
                self.weights,
                theta,
                np.ascontiguousarray(q),
                magnet,
                float(eta),
                float(alpha),
            )
        if player is None:
            return log_p, flow
        # This kernel, unlike the smoothed one, steps all states: restore the other player's.
        own = tree.owner == player
        return np.where(own, log_p, theta), np.where(own, flow, plan)

    def _batched_step(
        self,
        tree: Tree,
        theta: Array,
        q: Array,
        magnet: Array,
        eta: Number,
        alpha: Number,
    ) -> tuple[Array, Array]:
        lead, (start, push, pull) = runs(theta, q, magnet, over=(eta, alpha))
        # The kernel reads a number per run where there are many, and a plain float where not.
        if lead:
            eta, alpha = (np.broadcast_to(x, lead).astype(float).ravel() for x in (eta, alpha))
        else:
            eta, alpha = float(eta), float(alpha)
        log_p, plan = kernels.dilated_step(
            tree.parent, tree.offset, tree.block, self.weights, start, push, pull, eta, alpha
        )
        return log_p.reshape(*lead, -1), plan.reshape(*lead, -1)

    def _smoothed_step(
        self,
        tree: Tree,
        theta: Array,
        plan: Array,
        q: Array,
        magnet: Array,
        eta: Number,
        alpha: Number,
        player: int | None,
    ) -> tuple[Array, Array]:
        if not theta.ndim == q.ndim == magnet.ndim == 1:
            raise ValueError(
                "`q`, policy and magnet must each be one vector: a smoothed geometry steps one "
                "policy of a tree at a time."
            )
        first, last = tree.span(player)
        log_pi, flow = smoothed.smoothed_step(
            tree.parent,
            tree.offset,
            tree.block,
            self.weights,
            self.gamma,
            theta,
            plan,
            q,
            magnet,
            float(eta),
            float(alpha),
            first,
            last,
        )
        return log_pi, flow

    def probs(self, tree: Tree, theta: Array) -> Array:
        """The behavioural probabilities `x`, `(..., sequences)`; 1 at the empty sequences."""
        if not self.gamma:
            return np.asarray(np.exp(theta))
        probs = np.empty_like(theta)
        for index in np.ndindex(probs.shape[:-1]):
            probs[index] = smoothed.behaviour(tree.offset, theta[index], self.gamma)
        return probs

    def coordinates(self, tree: Tree, probs: Array) -> Array:
        """`log((1 - gamma) probs + gamma / n)`, `(..., sequences)`; the logarithm of 0 is
        `LOG_ZERO`."""
        mixed = (1.0 - self.gamma) * probs + self.gamma / tree.choices
        return np.log(mixed, out=np.full(mixed.shape, LOG_ZERO), where=mixed > 0)

    def divergence(self, tree: Tree, theta: Array, plan: Array, other: Array) -> Array:
        """The share of each state in the Bregman divergence `D(theta || other)`, `(..., states)`.

        `w_j z_p KL(pi_j || other_j) / (1 - gamma)^2`, with `z_p` the reach of the state by `plan`.
        """
        drift = theta - other
        if self.gamma:
            # `pi`, unlike the plan, stays above 0 at actions of probability 0: their terms count.
            reach = np.ones_like(drift)
            reach[..., 2:] = np.repeat(plan[..., tree.parent], np.diff(tree.offset), axis=-1)
            term = reach * np.exp(theta) * drift / (1.0 - self.gamma) ** 2
        else:
            term = plan * np.where(plan > 0, drift, 0.0)
        return np.asarray(np.add.reduceat(term, tree.offset[:-1], axis=-1) * self.weights)

    def gradient(self, tree: Tree, theta: Array) -> Array:
        """The gradient of `d` up to terms that cancel between two policies, `(..., sequences)`."""
        # The smoothed kernels are right at `gamma = 0`, too; only the plain step has a faster one.
        gradient = np.empty_like(theta)
        for index in np.ndindex(gradient.shape[:-1]):
            gradient[index] = smoothed.gradient(
                tree.parent, tree.offset, self.weights, self.gamma, theta[index]
            )
        return gradient

    def extent(self, tree: Tree, plan: Array) -> float:
        """The unit of `distance`, `(sum_j w_j z_p)^(1/2)`: each weight counts as often as `plan`
        reaches its state."""
        return math.sqrt(smoothed.reached(tree.parent, self.weights, plan))

    def distance(
        self, tree: Tree, theta: Array, plan: Array, other: Array, other_plan: Array
    ) -> float:
        """The root of the symmetrised divergence, at the mean of both plans' reach."""
        return math.sqrt(
            smoothed.squared_distance(
                tree.parent, tree.offset, self.weights, self.gamma, theta, plan, other, other_plan
            )
        )

    def dual_norm(self, tree: Tree, theta: Array, plan: Array, q: Array, centred: bool) -> float:
        """The length of `q` in the norm dual to `distance`, near this policy.

        Each state counts `q` plus the mean values of the states below, less their mean at the state
        if `centred` (see `smoothed_trees.squared_dual_norm`).
        """

        def norm(q: Array) -> float:
            return smoothed.squared_dual_norm(
                tree.parent, tree.offset, self.weights, self.gamma, theta, plan, q, centred
            )

        return root_of_squares(norm, q)
