r"""Trees in sequence form: the treeplex of both players, and policies on it.

A *sequence* is a player's own actions from the root. Both players' sequences share one flat
numbering, so that a game is four arrays and a policy is one vector. The dilated entropy

$$\psi(z) = \sum_j w_j\, z_{p(j)} \sum_{a\in j} \pi_a\log\pi_a ,\qquad \pi_a = z_a / z_{p(j)}$$

(von Stengel 1996; Hoda et al. 2010) is the geometry in which MMD's linear rate is a theorem. Its
gradient is local up to terms that cancel in every mirror step,
$\nabla\psi(z)_a \simeq w_j\log\pi_a$: that is why a policy is stored, at any depth and at vanishing
reach, by its behavioural log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.kernels import smoothed_trees as smoothed
from mpo_games.kernels import trees as kernels
from mpo_games.kernels.tables import LOG_ZERO
from mpo_games.protocol import Array, Indices, Mask, Mixture


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Both players' information states and sequences, flat.

    Sequences 0 and 1 are the players' empty sequences; information state `j` has the actions
    `offset[j] ... offset[j + 1] - 1`. States are sorted parents first, player 0's before player
    1's. `ValueError` if the arrays do not say such a tree.
    """

    parent: Indices
    """The sequence that leads to each information state, `(states,)`."""
    offset: Indices
    """Where each information state's actions begin, `(states + 1,)`; `offset[0] == 2`."""
    split: int
    """The first information state of player 1."""
    labels: tuple[str, ...] = ()
    """A name of each information state (OpenSpiel's information state string), or nothing."""
    actions: tuple[int | str, ...] = ()
    """A name of each sequence's last action, or nothing."""
    owner: Indices = field(init=False)
    """The player of each sequence, `(sequences,)`."""
    choices: Array = field(init=False)
    """How many actions there are where each sequence ends, `(sequences,)`; 1 at the empty ones."""
    block: Indices = field(init=False)
    """Where blocks of states begin, and the end: equally many actions, none above another.

    Kernels take a block at a time; the fewer there are, the faster.
    """

    def __post_init__(self) -> None:
        parent, offset = self.parent, self.offset
        if parent.ndim != 1 or offset.shape != (parent.size + 1,) or offset[0] != 2:
            raise ValueError("`offset` must have one entry more than `parent` and begin with 2.")
        if (np.diff(offset) < 1).any():
            raise ValueError("Every information state needs at least one action.")
        if (parent < 0).any() or (parent >= offset[:-1]).any():
            raise ValueError("`parent` must be a sequence that stands before its state's actions.")
        if not 0 <= self.split <= parent.size:
            raise ValueError(f"`split` must lie in [0, {parent.size}], got {self.split}.")
        owner = np.append([0, 1], np.repeat(np.arange(parent.size) >= self.split, np.diff(offset)))
        object.__setattr__(self, "owner", owner.astype(np.int64))
        count = np.diff(offset)
        object.__setattr__(self, "choices", np.append([1.0, 1.0], np.repeat(count, count)))
        object.__setattr__(self, "block", _blocks(parent, offset))
        if (self.owner[parent] != (np.arange(parent.size) >= self.split)).any():
            raise ValueError("`parent` must be a sequence of the state's own player.")

    @property
    def states(self) -> int:
        """How many information states there are, of both players."""
        return int(self.parent.size)

    @property
    def sequences(self) -> int:
        """How many sequences there are, of both players."""
        return int(self.offset[-1])

    def span(self, player: int | None) -> tuple[int, int]:
        """The first information state of `player` (of both), and the one after the last."""
        return 0 if player != 1 else self.split, self.split if player == 0 else self.states

    @property
    def state_of(self) -> Indices:
        """The information state of each sequence; -1 for the empty ones."""
        state = np.full(self.sequences, -1, dtype=np.int64)
        state[2:] = np.repeat(np.arange(self.states), np.diff(self.offset))
        return state


@dataclass(frozen=True, slots=True, eq=False)
class TreeplexPolicy:
    """A behavioural policy of both players with the geometry of its tree.

    Build one with `uniform`, `center` or `from_probs`. With a `gamma` the dilated entropy is that
    of `pi = (1 - gamma) x + gamma u`, play `x` with a share of uniform play `u` at every
    information state, in which an action of probability 0 comes back as fast as it went
    (`smoothed_kernels`; `SmoothedEntropy` is the same on a simplex).
    """

    tree: Tree
    weights: Array
    """The dilated entropy's weight of each information state, in units of payoff, `(states,)`."""
    coordinates: Array
    """`log pi` (log-probability) of each sequence's last action, `(..., sequences)`; 0 for the
    empty ones."""
    plan: Array
    """Realisation plan: the product of the player's own probabilities, `(..., sequences)`."""
    gamma: float = 0.0
    """The share of uniform play in the entropy, in [0, 1)."""

    @classmethod
    def uniform(cls, tree: Tree, weights: Array) -> TreeplexPolicy:
        """Uniform at every information state."""
        return cls.from_probs(tree, weights, 1.0 / tree.choices)

    @classmethod
    def center(cls, tree: Tree, weights: Array) -> TreeplexPolicy:
        """The minimiser of the dilated entropy: the magnet of a plain entropy bonus.

        It plays an action in proportion to the (weighted) number of pure strategies behind it.
        """
        zero = np.zeros(tree.sequences)
        log_p, plan = kernels.dilated_step(
            tree.parent, tree.offset, tree.block, weights, zero, zero, zero, 1.0, 0.0
        )
        return cls(tree, weights, log_p, plan)

    @classmethod
    def from_probs(cls, tree: Tree, weights: Array, probs: ArrayLike) -> TreeplexPolicy:
        """The policy with the given behavioural probabilities, `(..., sequences)`.

        A probability of 0 is stored as a finite logarithm, so that it can come back.
        `ValueError` for anything that is not a distribution at every information state.
        """
        p = np.array(probs, dtype=np.float64)
        if p.shape[-1:] != (tree.sequences,):
            raise ValueError(f"`probs` must be (..., {tree.sequences}), got shape {p.shape}.")
        p[..., :2] = 1.0
        if not np.isfinite(p).all() or (p < 0).any():
            raise ValueError("`probs` must be finite and non-negative.")
        if not np.allclose(np.add.reduceat(p, tree.offset[:-1], axis=-1), 1.0, rtol=0, atol=1e-8):
            raise ValueError("`probs` must sum to 1 at every information state.")
        return cls._playing(tree, weights, p, 0.0)

    @classmethod
    def from_plan(cls, plan: Array, spare: Self) -> Self:
        """The policy with a given realisation plan, playing like `spare` where it never comes."""
        tree = spare.tree
        lead, (flow, rest) = runs(plan, spare.coordinates)
        return spare._reshaped(lead, *kernels.behaviour(tree.parent, tree.offset, flow, rest))

    @classmethod
    def _playing(cls, tree: Tree, weights: Array, probs: Array, gamma: float) -> Self:
        return cls._at(tree, weights, _log((1.0 - gamma) * probs + gamma / tree.choices), gamma)

    @classmethod
    def _at(cls, tree: Tree, weights: Array, log_pi: Array, gamma: float) -> Self:
        lead, (probs,) = runs(_behaviour(tree, log_pi, gamma))
        plan = kernels.realisation_plan(tree.parent, tree.offset, probs)
        log_pi = np.ascontiguousarray(log_pi)
        return cls(tree, weights, log_pi, plan.reshape(*lead, -1), gamma)

    @property
    def geometry(self) -> str:
        """What tells apart two policies of a tree whose coordinates mean different things."""
        return f"gamma={self.gamma}" if self.gamma else ""

    @property
    def probs(self) -> Array:
        """Behavioural probabilities, `(..., sequences)`; 1 for the empty sequences."""
        return _behaviour(self.tree, self.coordinates, self.gamma)

    @property
    def log_probs(self) -> Array:
        """Behavioural log-probabilities."""
        return self.coordinates if not self.gamma else _log(self.probs)

    @property
    def point(self) -> Array:
        """The policy as the point in which utilities are linear: its realisation plan."""
        return self.plan

    def at(self, point: Array) -> Self:
        """The policy of this geometry with a given realisation plan, `(..., sequences)`; its own
        probabilities where the plan never comes."""
        plain = self.from_plan(point, self.within(self.weights, 0.0))
        return plain.within(self.weights, self.gamma)

    def playing(self, probs: Array) -> Self:
        """The policy of this geometry with the given behavioural probabilities."""
        return self._playing(self.tree, self.weights, probs, self.gamma)

    def within(self, weights: Array, gamma: float) -> Self:
        """The same play in another geometry."""
        if gamma == self.gamma:
            if weights is self.weights:
                return self
            return type(self)(self.tree, weights, self.coordinates, self.plan, gamma)
        return self._playing(self.tree, weights, self.probs, gamma)

    def mirror_step(
        self, q: Array, magnet: Self | None, *, eta: Any, alpha: Any, player: int | None = None
    ) -> Self:
        """The closed-form dilated step, bottom-up then top-down (Sokota et al. 2023, section 4).

        `q` is `(..., sequences)`; `eta` and `alpha` are floats, or arrays over the leading axes.
        `ValueError` for a pull (`alpha` other than 0) without a magnet.
        """
        if magnet is None and np.any(alpha):
            raise ValueError(f"`alpha` must be 0 without a magnet, got {alpha}: pass `magnet`.")
        pull = self.coordinates if magnet is None else magnet.coordinates
        if self.gamma:
            return self._smoothed_step(q, pull, eta, alpha, player)
        settings = (
            (eta, alpha) if isinstance(eta, np.ndarray) or isinstance(alpha, np.ndarray) else ()
        )
        lead: tuple[int, ...] = ()
        start, push, towards = self.coordinates, np.ascontiguousarray(q), pull
        if settings or not start.ndim == q.ndim == pull.ndim == 1:
            lead, (start, push, towards) = runs(start, push, pull, over=settings)
        if lead:
            eta, alpha = (np.broadcast_to(x, lead).astype(float).ravel() for x in (eta, alpha))
        else:
            eta, alpha = float(eta), float(alpha)
        tree = self.tree
        log_p, plan = kernels.dilated_step(
            tree.parent, tree.offset, tree.block, self.weights, start, push, towards, eta, alpha
        )
        moved = self._reshaped(lead, log_p, plan)
        if player is None:
            return moved
        log_p, plan = (
            np.where(tree.owner == player, new, old)
            for new, old in ((moved.coordinates, self.coordinates), (moved.plan, self.plan))
        )
        return type(self)(tree, self.weights, log_p, plan)

    def _smoothed_step(
        self, q: Array, pull: Array, eta: Any, alpha: Any, player: int | None
    ) -> Self:
        if not q.ndim == self.coordinates.ndim == pull.ndim == 1:
            raise ValueError("`q` must be one vector: smoothed trees are stepped one by one.")
        tree = self.tree
        first, last = tree.span(player)
        log_pi, plan = smoothed.smoothed_step(
            tree.parent,
            tree.offset,
            tree.block,
            self.weights,
            self.gamma,
            self.coordinates,
            self.plan,
            q,
            pull,
            float(eta),
            float(alpha),
            first,
            last,
        )
        return type(self)(tree, self.weights, log_pi, plan, self.gamma)

    def regrets(self, q: Array, player: int | None = None) -> Array:
        """The counterfactual regrets of the gradient `q`, `(..., sequences)`: what each action is
        worth beyond its state, times the others' reach, where play goes on by this policy."""
        tree = self.tree
        lead, (log_p, gradient) = runs(self.log_probs, q)
        first, last = tree.span(player)
        found = kernels.regrets(tree.parent, tree.offset, log_p, gradient, first, last)
        return found.reshape(*lead, -1) if lead else found

    def centred(self, values: Array) -> Array:
        """`values - <p, values>` at every information state."""
        lead, (probs, worth) = runs(self.probs, values)
        found = kernels.centred(self.tree.offset, probs, worth)
        return found.reshape(*lead, -1) if lead else found

    def matching(self, weights: Array, player: int | None = None) -> Self:
        """Plays in proportion to the positive `weights`, uniformly where there are none."""
        tree = self.tree
        lead, (push, log_p, plan) = runs(weights, self.coordinates, self.plan)
        first, last = tree.span(player)
        log_p, plan = kernels.matching(tree.parent, tree.offset, push, log_p, plan, first, last)
        return self._reshaped(lead, log_p, plan)

    def owned(self, player: int) -> Mask:
        """A mask of the sequences of `player`."""
        return np.asarray(self.tree.owner == player)

    def _reshaped(self, lead: tuple[int, ...], log_p: Array, plan: Array) -> Self:
        if lead:
            log_p, plan = log_p.reshape(*lead, -1), plan.reshape(*lead, -1)
        return type(self)(self.tree, self.weights, log_p, plan)

    def penalise(self, q: Array, magnet: Self, *, alpha: Any) -> Array:
        """`q - alpha * w * log(self / magnet)`: the gradient of the dilated divergence."""
        drift = self._gradient() - magnet._gradient()
        return np.asarray(q - np.asarray(alpha)[..., None] * drift)

    def _gradient(self) -> Array:
        gradient = np.empty_like(self.coordinates)
        for index in np.ndindex(gradient.shape[:-1]):
            gradient[index] = smoothed.gradient(
                self.tree.parent,
                self.tree.offset,
                self.weights,
                self.gamma,
                self.coordinates[index],
            )
        return gradient

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture in the dilated geometry; `0 <= weight <= 1`, else `ValueError`."""
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"`weight` must lie in [0, 1], got {weight}.")
        if weight == 1.0:
            return other
        nothing = np.zeros(self.coordinates.shape)
        return self.mirror_step(nothing, other, eta=1.0, alpha=weight / (1.0 - weight))

    def smooth(self, share: float) -> Self:
        """`(1 - share) self + share uniform` at every information state."""
        return self.playing((1.0 - share) * self.probs + share / self.tree.choices)

    def snapshot(self) -> Self:
        """The policy itself: trees are immutable."""
        return self

    def divergence(self, other: Self) -> Array:
        """Bregman divergence of each player, `sum_j w_j z_p KL(self_j || other_j)`, `(..., 2)`."""
        drift, split = self.coordinates - other.coordinates, self.tree.split
        if self.gamma:
            parent, count = self.tree.parent, np.diff(self.tree.offset)
            reach = np.ones_like(drift)
            reach[..., 2:] = np.repeat(self.plan[..., parent], count, axis=-1)
            term = reach * np.exp(self.coordinates) * drift / (1.0 - self.gamma) ** 2
        else:
            term = self.plan * np.where(self.plan > 0, drift, 0.0)
        states = np.add.reduceat(term, self.tree.offset[:-1], axis=-1) * self.weights
        return np.stack([states[..., :split].sum(-1), states[..., split:].sum(-1)], axis=-1)

    def with_side(self, other: Self, player: int) -> Self:
        """The policy whose `player` plays like `other`."""
        middle = self.tree.offset[self.tree.split]
        own = slice(2, middle) if player == 0 else slice(middle, None)
        coordinates, plan = self.coordinates.copy(), self.plan.copy()
        coordinates[..., own], plan[..., own] = other.coordinates[..., own], other.plan[..., own]
        return type(self)(self.tree, self.weights, coordinates, plan, self.gamma)

    @property
    def extent(self) -> float:
        """The unit of `distance`: the root of the weights, as far as they are reached."""
        return math.sqrt(smoothed.reached(self.tree.parent, self.weights, self.plan))

    def distance(self, other: Self) -> float:
        r"""Local length of the way from `other`: the root of the symmetrised dilated divergence
        (at the mean reach of every state)."""
        return math.sqrt(
            smoothed.squared_distance(
                self.tree.parent,
                self.tree.offset,
                self.weights,
                self.gamma,
                self.coordinates,
                self.plan,
                other.coordinates,
                other.plan,
            )
        )

    def dual_norm(self, q: Array, other: Self) -> float:
        """Length of `q` in the norm dual to `distance`, here (see `squared_dual_norm`)."""
        return self._length(q, True)

    def magnitude(self, q: Array) -> float:
        """The dual norm of `q` with every `c` at 0: what its rounding errors are relative to."""
        return self._length(np.abs(q), False)

    def _length(self, q: Array, centred: bool) -> float:
        tree, geometry = self.tree, (self.weights, self.gamma)
        return math.sqrt(
            smoothed.squared_dual_norm(
                tree.parent, tree.offset, *geometry, self.coordinates, self.plan, q, centred
            )
        )

    def replace(self, coordinates: Array) -> Self:
        """The policy with other log-probabilities (how a saved run is restored)."""
        return self._at(self.tree, self.weights, coordinates, self.gamma)

    def with_weights(self, weights: Array) -> Self:
        """The same play in another geometry."""
        return self.within(weights, self.gamma)


def _log(probs: Array) -> Array:
    """Logarithms; that of 0 is stored as a finite one, so that it can come back."""
    return np.log(probs, out=np.full(probs.shape, LOG_ZERO), where=probs > 0)


def _behaviour(tree: Tree, log_pi: Array, gamma: float) -> Array:
    if not gamma:
        return np.asarray(np.exp(log_pi))
    probs = np.empty_like(log_pi)
    for index in np.ndindex(probs.shape[:-1]):
        probs[index] = smoothed.behaviour(tree.offset, log_pi[index], gamma)
    return probs


def realisation_plan(opponent: TreeplexPolicy | Mixture[TreeplexPolicy]) -> Array:
    """The (signed) realisation plan of an opponent, `(..., sequences)`."""
    if not isinstance(opponent, Mixture):
        return opponent.plan
    plan = opponent.weights[0] * opponent.policies[0].plan
    for weight, policy in zip(opponent.weights[1:], opponent.policies[1:], strict=True):
        plan = plan + weight * policy.plan
    return plan


def runs(*arrays: Array, over: tuple[Any, ...] = ()) -> tuple[tuple[int, ...], Sequence[Array]]:
    """The leading axes of `arrays` (and of `over`) together, and the arrays as kernels take them:
    vectors where there are no such axes, else matrices with a row per run."""
    for array in arrays:
        if array.ndim > 1 or over:
            break
    else:  # much the most frequent case, and the quickest way to see it
        return (), arrays
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in arrays), *(np.shape(x) for x in over))
    flat = (-1,) if lead else ()
    wide = (np.broadcast_to(a, (*lead, a.shape[-1])) for a in arrays)
    return lead, [np.ascontiguousarray(a).reshape(*flat, a.shape[-1]) for a in wide]


def _blocks(parent: Indices, offset: Indices) -> Indices:
    size, begin = np.diff(offset), [0]
    for j in range(1, parent.size):
        if size[j] != size[begin[-1]] or parent[j] >= offset[begin[-1]]:
            begin.append(j)
    return np.array([*begin[: parent.size], parent.size], dtype=np.int64)
