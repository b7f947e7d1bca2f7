"""Two-player zero-sum extensive-form games with perfect recall, in sequence form.

Arrays are laid out as in `policies.tree`: one entry per sequence of either player.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from mpo_games.checks import (
    LARGEST,
    finite_numbers,
    indices,
    require_callable,
    require_kind,
    require_player,
    require_weight,
    too_large,
)
from mpo_games.games.shifts import centred
from mpo_games.kernels import trees as kernels
from mpo_games.policies.dilated_entropy import DilatedEntropy
from mpo_games.policies.dilation import payoff_scaled, unit
from mpo_games.policies.tree import Tree, runs
from mpo_games.policies.treeplex import TreeplexPolicy, realisation_plan
from mpo_games.protocol import Array, Indices, Mixture

Dilation = Callable[["SequenceFormGame"], Array]
"""`dilation(game)`: a finite positive weight per information state, `(states,)`."""

GAMMA = 0.1
"""The share of uniform play in the smoothed dilated entropy."""


@dataclass(frozen=True, eq=False)
class SequenceFormGame:
    """Player 0 receives `x' A y` and player 1 `-x' A y`, with `x` and `y` their realisation plans.

    `A` is a sparse matrix from player 0's sequences to player 1's, with `row` its CSR row pointer
    and `column`, `chance` and `payoff` its entries. An entry is the sum over the leaves that share
    one pair of sequences. Compile a game from OpenSpiel (`openspiel.compile_game`) or build it from
    Python data (`tree_builder.build_tree`).

    `dilation` chooses the weights of the dilated entropy in which the game's policies move.
    `ValueError` if the arrays do not describe such a game, or hold payoffs above 1e306 in size.

    >>> game = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> game
    SequenceFormGame: 1 information state, 4 sequences
    >>> float(game.duality_gap(game.initial_policy()))
    0.5
    """

    tree: Tree
    """The sequences and information states of both players."""
    row: Indices
    """CSR row pointer over the sequences of both players, `(sequences + 1,)`."""
    column: Indices
    """Player 1's sequence of each entry, `(entries,)`."""
    chance: Array
    """The probability of chance's moves at each entry, `(entries,)`: `sum chance x y = 1` for all
    plans `x` and `y`."""
    payoff: Array
    """Player 0's payoff of each entry, times its chance, `(entries,)`."""
    dilation: Dilation = unit
    """A function `(game) -> weights` of `mpo_games.dilation`, or one like them."""
    source: str = ""
    """The OpenSpiel game string from which the game was compiled, or nothing."""
    utility_sum: float = 0.0
    """What both players receive together at every end. In a constant-sum game of OpenSpiel player 1
    receives `utility_sum - x' A y`; values here are always player 0's."""
    geometry: DilatedEntropy = field(init=False)
    """The dilated entropy with the weights that `dilation` gives."""
    _centred: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_kind("tree", self.tree, Tree, "a `Tree(parent, offset, split)`")
        require_callable("dilation", self.dilation, "`unit`")
        for name in ("row", "column"):
            object.__setattr__(self, name, indices(name, getattr(self, name)))
        for name in ("chance", "payoff"):
            numbers = np.ascontiguousarray(finite_numbers(getattr(self, name), name))
            object.__setattr__(self, name, numbers)
        # Kernels do not check bounds: arrays that contradict each other would read foreign memory.
        owner, row, column = self.tree.owner, self.row, self.column
        if row.shape != (owner.size + 1,) or row[0] or row[-1] != self.payoff.size:
            raise ValueError("`row` must be a CSR row pointer over all sequences.")
        if not (np.diff(row) >= 0).all():
            raise ValueError("`row` must not fall: it is a CSR row pointer.")
        known = column.shape == self.payoff.shape and ((column >= 0) & (column < owner.size)).all()
        if not known or (owner[column] != 1).any():
            raise ValueError("`column` must name a sequence of player 1 for every payoff.")
        if np.diff(row)[owner == 1].any():
            raise ValueError("`row` must be empty at the sequences of player 1.")
        likely = (self.chance > 0) & (self.chance < np.inf)
        if self.chance.shape != self.payoff.shape or not likely.all():
            raise ValueError("`chance` must be a positive number for every payoff.")
        with np.errstate(over="ignore"):
            largest = float(np.abs(self.payoff / self.chance).max(initial=0.0))
        if not largest <= LARGEST:
            raise ValueError(too_large("payoff", largest))
        weights = finite_numbers(self.dilation(self), "dilation")
        if weights.shape != (self.tree.states,) or not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError("`dilation` must give a finite positive weight per information state.")
        object.__setattr__(self, "geometry", DilatedEntropy(weights))
        object.__setattr__(self, "_centred", centred(self.payoff, self.chance))

    @property
    def title(self) -> str:
        """OpenSpiel's name in words, such as "Leduc poker", or the size of the tree."""
        words = self.source.replace("_", " ")
        return words[:1].upper() + words[1:] or f"a tree of {self.tree.sequences} sequences"

    def __repr__(self) -> str:
        name = self.title if self.source else type(self).__name__
        return f"{name}: {self.tree.size}"

    @property
    def weights(self) -> Array:
        """The weight of each information state in the dilated entropy, `(states,)`."""
        return self.geometry.weights

    @property
    def players(self) -> int:
        """2: one policy holds the play of both."""
        return 2

    @property
    def bound(self) -> Array:
        """`max |A|`; OpenSpiel's step size is `alpha / bound^2`."""
        return np.asarray(np.abs(self.payoff).max(initial=0.0))

    @property
    def scale(self) -> Array:
        """The earlier name of `weights`."""
        return self.weights

    def with_dilation(self, dilation: Dilation) -> Self:
        """The same game in another dilated entropy (see `mpo_games.dilation`)."""
        return replace(self, dilation=dilation)

    def with_weights(self, weights: Dilation) -> Self:
        """The earlier name of `with_dilation`."""
        return self.with_dilation(weights)

    def with_payoff(self, payoff: Array) -> Self:
        """The same tree with other payoffs at its `(row, column)` entries."""
        return replace(self, payoff=np.ascontiguousarray(finite_numbers(payoff, "payoff")))

    def initial_policy(self) -> TreeplexPolicy:
        """Uniform at every information state."""
        return TreeplexPolicy.uniform(self.tree, self.geometry)

    def uniform(self) -> TreeplexPolicy:
        """Uniform play, in the dilated entropy of unit weights whatever the game's are."""
        return TreeplexPolicy.uniform(self.tree, DilatedEntropy(unit(self)))

    def center(self) -> TreeplexPolicy:
        """The magnet of a plain entropy bonus: the minimiser of the dilated entropy."""
        return TreeplexPolicy.center(self.tree, self.geometry)

    def feedback(
        self,
        policy: TreeplexPolicy,
        opponent: TreeplexPolicy | Mixture[TreeplexPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The gradient in sequence form, `[A y, -A' x]` in one vector, `(..., sequences)`.

        `rng` is not used: the feedback is exact. With a `player`, the entries of the other one are
        0. `ValueError` for a policy that is not a `TreeplexPolicy`, or that has another number of
        sequences.
        """
        plan = self._plan(policy if opponent is None else opponent)
        if player is None:
            return self._gradient(self.payoff, plan, kernels.BOTH)
        require_player(player)
        return self._gradient(self.payoff, plan, player)

    def _gradient(self, payoff: Array, plan: Array, side: int) -> Array:
        # A single run, by far the most frequent case, is spared the reshapes.
        if plan.ndim == 1:
            return kernels.bilinear(self.row, self.column, payoff, plan, side)
        flow = plan.reshape(-1, plan.shape[-1])
        return kernels.bilinear(self.row, self.column, payoff, flow, side).reshape(plan.shape)

    def _plan(self, policy: TreeplexPolicy | Mixture[TreeplexPolicy]) -> Array:
        """The realisation plan of `policy`, which must be of this game."""
        if not isinstance(policy, (TreeplexPolicy, Mixture)):
            raise ValueError(
                "`policy` must be a TreeplexPolicy like `game.initial_policy()`, "
                f"got {type(policy).__name__}."
            )
        # A shorter plan is refused here, since the kernel would read past its end.
        plan, sequences = realisation_plan(policy), self.row.size - 1
        if plan.shape[-1] != sequences:
            raise ValueError(
                f"`policy` must have {sequences} sequences like `game.initial_policy()`, "
                f"got {plan.shape[-1]}: it is of another game."
            )
        return plan

    def duality_gap(self, policy: TreeplexPolicy) -> Array:
        """The sum of both players' best-response values (NashConv), over the leading axes."""
        q = self._gradient(self._centred, self._plan(policy), kernels.BOTH)
        # No gap is below 0: what is there is rounding.
        return np.asarray(np.maximum(self.gap(policy, q), 0.0))

    def gap(self, policy: TreeplexPolicy, q: Array) -> Array:
        """The duality gap of the policy whose own feedback is `q`, without another evaluation."""
        # In a zero-sum game the values of play itself cancel, so the gap is the best responses'.
        lead, (push,) = runs(q)
        value, _ = kernels.best_response(self.tree.parent, self.tree.offset, push)
        total: Array = value[..., 0] + value[..., 1]
        return total.reshape(lead) if lead else total

    def smoothed(self, policy: TreeplexPolicy) -> tuple[TreeplexPolicy, float]:
        """The same play in the smoothed dilated entropy, and what that costs in evaluations.

        Its weights are the payoff at stake where `policy` plays.
        """
        # Weighing the stakes passes over all payoffs once, as an evaluation does.
        self._plan(policy)
        stakes = _Stakes(self.tree, self.row, self.column, self._centred)
        return policy.within(DilatedEntropy(payoff_scaled(stakes, policy), GAMMA)), 1.0

    def regularised_gap(
        self, policy: TreeplexPolicy, magnet: TreeplexPolicy, alpha: float
    ) -> Array:
        r"""The duality gap of the game in which both players pay $\alpha$ times the dilated
        divergence to `magnet`; `alpha` must be at least 0, else `ValueError`."""
        require_weight("alpha", alpha)
        if alpha == 0.0:
            return self.duality_gap(policy)
        self._plan(magnet)
        q = self._gradient(self._centred, self._plan(policy), kernels.BOTH)
        # The divergence to the regularised best response is that gap, without cancellation.
        response = magnet.mirror_step(q, None, eta=1.0 / alpha, alpha=0.0)
        return np.asarray(alpha * policy.divergence(response).sum(axis=-1))

    def best_response(self, policy: TreeplexPolicy) -> TreeplexPolicy:
        """A pure best response of each player, optimal also at states that play does not reach."""
        q = self.feedback(policy)
        probs = np.zeros(q.shape)
        probs[..., :2] = 1.0
        flat = q.reshape(-1, q.shape[-1])
        _, best = kernels.best_response(self.tree.parent, self.tree.offset, flat)
        np.put_along_axis(probs.reshape(flat.shape), best, 1.0, axis=-1)
        return policy.playing(probs)

    def value(self, policy: TreeplexPolicy) -> Array:
        """Player 0's expected payoff, `x' A y`, over the leading axes."""
        q = self.feedback(policy, player=0)
        return np.asarray(np.sum(policy.plan * q, axis=-1))

    def divergence(self, policy: TreeplexPolicy, other: TreeplexPolicy) -> Array:
        """The dilated Bregman divergence `D(policy || other)`, summed over the players."""
        for each in (policy, other):
            self._plan(each)
        return np.asarray(policy.divergence(other).sum(axis=-1))

    def average(self, mixture: Mixture[TreeplexPolicy]) -> TreeplexPolicy:
        """The policy with the mixture's realisation plan: it plays like the mixture (Kuhn 1953)."""
        require_kind("mixture", mixture, Mixture, "a `Mixture(policies, weights)`")
        return mixture.policies[0].at(self._plan(mixture))


@dataclass(frozen=True, slots=True, eq=False)
class _Stakes:
    """What `payoff_scaled` reads of a game, its payoffs less a constant: that is not at stake."""

    tree: Tree
    row: Indices
    column: Indices
    payoff: Array
