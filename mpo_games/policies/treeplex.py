"""Policies on trees: a distribution at every information state of both players."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import (
    require_forward,
    require_kind,
    require_no_pull,
    require_shape,
    require_share,
)
from mpo_games.labelled import shown
from mpo_games.policies.dilated_entropy import DilatedEntropy
from mpo_games.policies.tables import batch, of_tree
from mpo_games.policies.tree import Tree
from mpo_games.protocol import Array, Mask, Mixture, Number
from mpo_games.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class TreeplexPolicy:
    """A behavioural policy of both players, `(..., sequences)`, in a `geometry` of its `tree`.

    Leading axes are a batch of independent runs. Build one with `uniform` or `from_probs`.

    >>> game = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> print(game.initial_policy().table())
    player  state  action  probability   reach
         0  start  left         0.5000  1.0000
         0  start  right        0.5000  1.0000
    """

    tree: Tree
    geometry: DilatedEntropy
    coordinates: Array
    """The mirror coordinates, `(..., sequences)`; 0 for the empty ones. In the plain dilated
    entropy they are the log-probabilities of each sequence's last action."""
    plan: Array
    """The realisation plan, `(..., sequences)`: products of the player's own probabilities."""

    @classmethod
    def uniform(cls, tree: Tree, geometry: DilatedEntropy) -> Self:
        """Uniform at every information state."""
        require_kind("tree", tree, Tree, "a `Tree`, like `game.tree`")
        return cls.from_probs(tree, geometry, 1.0 / tree.choices)

    @classmethod
    def center(cls, tree: Tree, geometry: DilatedEntropy) -> Self:
        """The minimiser of the dilated entropy: the magnet of a plain entropy bonus."""
        require_kind("tree", tree, Tree, "a `Tree`, like `game.tree`")
        require_kind("geometry", geometry, DilatedEntropy, "a `DilatedEntropy`")
        return cls(tree, geometry, *geometry.minimiser(tree))

    @classmethod
    def from_probs(cls, tree: Tree, geometry: DilatedEntropy, probs: ArrayLike) -> Self:
        """The policy with the given behavioural probabilities, `(..., sequences)`.

        A probability of 0 is stored as a finite logarithm, so that it can come back. `ValueError`
        for anything that is not a distribution at every information state.
        """
        require_kind("tree", tree, Tree, "a `Tree`, like `game.tree`")
        require_kind("geometry", geometry, DilatedEntropy, "a `DilatedEntropy`")
        p = tree.require_distributions(probs)
        return cls._located(tree, geometry, geometry.coordinates(tree, p))

    @classmethod
    def _located(cls, tree: Tree, geometry: DilatedEntropy, coordinates: Array) -> Self:
        plan = tree.plan(geometry.probs(tree, coordinates))
        return cls(tree, geometry, np.ascontiguousarray(coordinates), plan)

    @property
    def probs(self) -> Array:
        """Behavioural probabilities, `(..., sequences)`; 1 for the empty sequences."""
        return self.geometry.probs(self.tree, self.coordinates)

    @property
    def log_probs(self) -> Array:
        """Behavioural log-probabilities, `(..., sequences)`; finite, also where play is 0."""
        if not self.geometry.gamma:
            return self.coordinates
        return self.within(self.geometry.plain).coordinates

    @property
    def point(self) -> Array:
        """The policy as the point in which utilities are linear: its realisation plan."""
        return self.plan

    @property
    def extent(self) -> float:
        """The unit of `distance`: the root of the sum of the weights times the reach."""
        return self.geometry.extent(self.tree, self.plan)

    @property
    def kind(self) -> str:
        """The meaning of the coordinates, as saved files name it."""
        gamma = self.geometry.gamma
        return f"TreeplexPolicy(gamma={gamma})" if gamma else "TreeplexPolicy()"

    def __repr__(self) -> str:
        return f"TreeplexPolicy: {batch(self.plan.shape[:-1])}{self.tree.size}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def table(self) -> Table:
        """A line for each information state and action, also where play does not reach them.

        `reach` is the probability that the player's own choices lead to the state.
        """
        return of_tree(self.tree, self.probs, self.plan)

    def mirror_step(
        self,
        q: Array,
        magnet: Self | None,
        *,
        eta: Number,
        alpha: Number,
        player: int | None = None,
    ) -> Self:
        """The closed-form step of the geometry; see `DilatedEntropy.step` and `Policy.mirror_step`.

        `ValueError` for a pull (`alpha` other than 0) without a magnet.
        """
        if magnet is None:
            require_no_pull(alpha)
        else:
            self._require_like(magnet)
        require_forward(eta, alpha)
        self._require_values(q)
        pull = self.coordinates if magnet is None else magnet.coordinates
        coordinates, plan = self.geometry.step(
            self.tree, self.coordinates, self.plan, q, pull, eta, alpha, player
        )
        return type(self)(self.tree, self.geometry, coordinates, plan)

    def penalise(self, q: Array, magnet: Self, *, alpha: Number) -> Array:
        """`q - alpha grad D(self || magnet)`.

        In the plain dilated entropy this is `q - alpha w log(self / magnet)`.
        """
        self._require_like(magnet)
        gradient = self.geometry.gradient(self.tree, self.coordinates)
        drift = gradient - magnet.geometry.gradient(self.tree, magnet.coordinates)
        return np.asarray(q - np.asarray(alpha)[..., None] * drift)

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture in the dilated geometry; `0 <= weight <= 1`, else `ValueError`."""
        require_share("weight", weight)
        self._require_like(other)
        # The pull of a step that plays `other` alone would be infinite.
        if weight == 1.0:
            return other
        nothing = np.zeros(self.coordinates.shape)
        return self.mirror_step(nothing, other, eta=1.0, alpha=weight / (1.0 - weight))

    def smooth(self, share: float) -> Self:
        """`(1 - share) self + share uniform` at every information state; `0 <= share <= 1`."""
        require_share("share", share)
        return self.playing((1.0 - share) * self.probs + share / self.tree.choices)

    def snapshot(self) -> Self:
        """The policy itself: policies on trees are immutable."""
        return self

    def with_side(self, other: Self, player: int) -> Self:
        """The policy whose `player` plays like `other`, in the same geometry."""
        self._require_like(other)
        # A slice, not a mask: this is part of every alternating step.
        own = self.tree.own(player)
        coordinates, plan = self.coordinates.copy(), self.plan.copy()
        coordinates[..., own], plan[..., own] = other.coordinates[..., own], other.plan[..., own]
        return type(self)(self.tree, self.geometry, coordinates, plan)

    def at(self, point: Array) -> Self:
        """The policy with the given realisation plan, `(..., sequences)`.

        At states that the plan does not reach, it plays like `self`.
        """
        return self._plain(*self.tree.behaviour(point, self.log_probs))

    def playing(self, probs: Array) -> Self:
        """The policy with the given behavioural probabilities, which are not checked."""
        return self.replace(self.geometry.coordinates(self.tree, probs))

    def within(self, geometry: DilatedEntropy) -> Self:
        """The same play in another geometry."""
        require_kind("geometry", geometry, DilatedEntropy, "a `DilatedEntropy`")
        # A shortcut only, so identity will do: comparing the weights would cost more than it saves.
        if geometry is self.geometry:
            return self
        # Coordinates depend on `gamma` alone, so they need not be computed, and rounded, again.
        if geometry.gamma == self.geometry.gamma:
            return type(self)(self.tree, geometry, self.coordinates, self.plan)
        return self._located(self.tree, geometry, geometry.coordinates(self.tree, self.probs))

    def replace(self, coordinates: Array) -> Self:
        """The policy of the same geometry at other coordinates, `(..., sequences)`."""
        return self._located(self.tree, self.geometry, coordinates)

    def regrets(self, q: Array, player: int | None = None) -> Array:
        """Counterfactual regrets of `q` if play goes on by this policy; 0 for the other side."""
        self._require_values(q)
        return self.tree.regrets(self.log_probs, q, player)

    def centred(self, values: Array) -> Array:
        """`values - <p, values>` at every information state, `(..., sequences)`."""
        self._require_values(values)
        return self.tree.centred(self.probs, values)

    def matching(self, weights: Array, player: int | None = None) -> Self:
        """The policy in proportion to the positive `weights`, uniform at a state that has none."""
        self._require_values(weights)
        return self._plain(*self.tree.matching(weights, self.log_probs, self.plan, player))

    def _require_like(self, other: object) -> None:
        """`ValueError` unless `other` is a policy of a tree with as many sequences."""
        # Each step asks this, so what is usual is looked for first.
        if type(other) is type(self) and other.coordinates.shape == self.coordinates.shape:
            return
        # The kernels trust these sizes: they would read beyond the end of a shorter array.
        require_kind("other", other, TreeplexPolicy, "a policy of the same tree")
        size = cast(Self, other).coordinates.shape[-1]
        if size != self.coordinates.shape[-1]:
            raise ValueError(
                f"`other` must have {self.coordinates.shape[-1]} sequences, got {size}: "
                "it is of another tree."
            )

    def _require_values(self, q: Array) -> None:
        """`ValueError` unless `q` has a number for each sequence."""
        if type(q) is np.ndarray and q.shape == self.coordinates.shape and q.dtype.char == "d":
            return
        size = self.coordinates.shape[-1]
        known = isinstance(q, np.ndarray) and q.dtype.kind in "fiu" and q.itemsize in (4, 8)
        if not known or q.shape[-1:] != (size,):
            raise ValueError(f"`q` must be numbers, `(..., {size})`, got {shown(q)}.")

    def _plain(self, log_p: Array, plan: Array) -> Self:
        """The policy of this geometry with the given log-probabilities and plan."""
        return type(self)(self.tree, self.geometry.plain, log_p, plan).within(self.geometry)

    def owned(self, player: int) -> Mask:
        """A mask of the sequences of `player`, `(sequences,)`."""
        return np.asarray(self.tree.owner == player)

    def divergence(self, other: Self) -> Array:
        """The Bregman divergence `D(self || other)` of each player, `(..., 2)`."""
        self._require_like(other)
        states = self.geometry.divergence(self.tree, self.coordinates, self.plan, other.coordinates)
        split = self.tree.split
        return np.stack([states[..., :split].sum(-1), states[..., split:].sum(-1)], axis=-1)

    def distance(self, other: Self) -> float:
        """The local distance from `other`: the root of the symmetrised divergence."""
        self._require_like(other)
        theirs = other.coordinates, other.plan
        return self.geometry.distance(self.tree, self.coordinates, self.plan, *theirs)

    def dual_norm(self, q: Array, other: Self) -> float:
        """The length of `q` in the norm dual to `distance`, at this policy; `other` is not used."""
        self._require_values(q)
        return self.geometry.dual_norm(self.tree, self.coordinates, self.plan, q, True)

    def magnitude(self, q: Array) -> float:
        """The length of `|q|` without centring: the scale of the rounding errors of `dual_norm`."""
        self._require_values(q)
        return self.geometry.dual_norm(self.tree, self.coordinates, self.plan, np.abs(q), False)

    def arrays(self) -> dict[str, Array]:
        """What `restored` needs, by name."""
        weights = self.geometry.weights
        return {"weights": weights, "coordinates": self.coordinates, "plan": self.plan}

    def restored(self, arrays: Mapping[str, Array]) -> Self:
        """The policy whose `arrays()` these are, bit for bit; `ValueError` for another tree's."""
        # The plan is stored too, because a computation from the coordinates may round differently.
        parts = dict(arrays)
        for name, own in self.arrays().items():
            if name not in parts:
                raise ValueError(f"`{name}` must be among the arrays of the policy.")
            require_shape(name, parts[name], own)
        geometry = DilatedEntropy(parts["weights"], self.geometry.gamma)
        return type(self)(self.tree, geometry, parts["coordinates"], parts["plan"])


def realisation_plan(opponent: TreeplexPolicy | Mixture[TreeplexPolicy]) -> Array:
    """The (signed) realisation plan of an opponent, `(..., sequences)`."""
    if not isinstance(opponent, Mixture):
        return opponent.plan
    plan = opponent.weights[0] * opponent.policies[0].plan
    for weight, policy in zip(opponent.weights[1:], opponent.policies[1:], strict=True):
        plan = plan + weight * policy.plan
    return plan
