r"""The behavioural view of a tree: a row of probabilities per information state.

This is how deep reinforcement learning sees a game, and every solver of tables runs on it
unchanged. The table has shape `(states, 2, actions)`: its i-th pair of rows holds the i-th
information state of player 0 and that of player 1. So row 0 belongs to player 0 and row 1 to
player 1, as in a matrix game. Rows and actions that a game does not have are padding.

The setting `feed` chooses between two kinds of feedback. `q_values` are the expected payoffs of
actions once their state is reached; `counterfactual_values` are the same times the probability with
which chance and the opponent let it be reached. Magnetic mirror descent on Q-values ends in the
*agent* QRE (McKelvey & Palfrey 1998). On the tree itself it ends in the QRE of the reduced normal
form, which is another point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mpo_games.checks import require_callable, require_kind
from mpo_games.games.estimated import against_each
from mpo_games.games.memory import MAX_MEMORY, require_memory
from mpo_games.games.outcome_sampling import OutcomeSampling
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.kernels import trees as kernels
from mpo_games.policies.best_responses import regularised_regret
from mpo_games.policies.mirror_maps import Entropy, Geometry
from mpo_games.policies.tabular import TabularPolicy, require_policies
from mpo_games.policies.tree import Tree, runs
from mpo_games.policies.treeplex import TreeplexPolicy, realisation_plan
from mpo_games.protocol import Array, Indices, Mask, Mixture
from mpo_games.written import written

Feed = Callable[[SequenceFormGame, Array, TreeplexPolicy], Array]
"""`feed(game, values, opponent)`: feedback from counterfactual values, `(..., sequences)`."""


def counterfactual_values(
    _game: SequenceFormGame, values: Array, _opponent: TreeplexPolicy
) -> Array:
    """The value of each action times the others' reach of its state: what CFR adds up.

    >>> tree = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> game = BehaviouralGame(tree, counterfactual_values)
    >>> game.feedback(game.initial_policy())[0]
    array([[1., 0.],
           [0., 0.]])
    """
    return values


def q_values(game: SequenceFormGame, values: Array, opponent: TreeplexPolicy) -> Array:
    """The expected payoff of each action once its state is reached; 0 if the others prevent it.

    >>> tree = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> game = BehaviouralGame(tree, q_values)
    >>> game.feedback(game.initial_policy())[0]
    array([[1., 0.],
           [0., 0.]])
    """
    reach = others_reach(game, opponent.plan)
    return np.divide(values, reach, out=np.zeros(values.shape), where=reach > 0.0)


def others_reach(game: SequenceFormGame, plan: Array) -> Array:
    """The probability that chance and the opponent's `plan` allow each sequence's state,
    `(..., sequences)`."""
    lead, (flow,) = runs(plan)
    mass = np.abs(kernels.bilinear(game.row, game.column, game.chance, flow, kernels.BOTH))
    # The others' reach of a state is the mass below it under any own continuation, say uniform.
    tree = game.tree
    _, (probs, mass) = runs(1.0 / tree.choices, mass)
    return kernels.action_values(tree.parent, tree.offset, probs, mass).reshape(*lead, -1)


@dataclass(frozen=True, eq=False)
class BehaviouralGame:
    """The same game for a `TabularPolicy` of shape `(states, 2, actions)`.

    Gaps, values, best responses and averages are those of the tree. In particular, an average is
    taken over realisation plans, so it plays like the mixture (Kuhn 1953).

    >>> tree = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> solve(BehaviouralGame(tree), MPO(eta=1.0, alpha=0.1, period=20), 200).gap < 1e-6
    True
    """

    game: SequenceFormGame | OutcomeSampling
    """The tree, with exact or sampled feedback."""
    feed: Feed = q_values
    """Q-values or counterfactual values."""
    max_memory: float = MAX_MEMORY
    """The limit in GiB for one table. All rows have as many columns as the widest state, so a tree
    with one wide state may need a table far larger than itself."""
    cells: Indices = field(init=False)
    """The index in the flattened table of each sequence but the empty ones, `(sequences - 2,)`."""
    above: Indices = field(init=False)
    """The parent of each sequence but the empty ones, also a sequence, `(sequences - 2,)`."""
    blank: Array = field(init=False)
    """The log-probabilities of a table that is all padding, `(states, 2, actions)`."""

    def __post_init__(self) -> None:
        kinds = (SequenceFormGame, OutcomeSampling)
        require_kind("game", self.game, kinds, "a tree, like `load('kuhn_poker')`")
        require_callable("feed", self.feed, "`q_values`")
        tree = self.tree
        size, state = np.diff(tree.offset), np.arange(tree.states)
        owner = (state >= tree.split).astype(np.int64)
        # The rows of both players alternate, so that `[..., player, :]` is a player's side.
        row = 2 * (state - owner * tree.split) + owner
        width = int(size.max(initial=1))
        pairs = max(tree.split, tree.states - tree.split)
        require_memory(
            f"`game`: a table of {pairs} x 2 x {width}", 16.0 * pairs * width, self.max_memory
        )
        first = np.repeat(row * width - tree.offset[:-1], size)
        blank = np.full((pairs, 2, width), -np.inf)
        # A row without a legal action is no distribution: padding rows play their first action.
        blank[..., 0] = 0.0
        object.__setattr__(self, "cells", first + np.arange(2, tree.sequences))
        object.__setattr__(self, "above", np.repeat(tree.parent, size))
        object.__setattr__(self, "blank", blank)

    @property
    def title(self) -> str:
        """That of the tree."""
        return self.exact.title

    def __repr__(self) -> str:
        return f"BehaviouralGame(feed={written(self.feed)}) of {self.game!r}"

    @property
    def exact(self) -> SequenceFormGame:
        """The tree itself."""
        return self.game.game if isinstance(self.game, OutcomeSampling) else self.game

    @property
    def tree(self) -> Tree:
        """The tree's shape."""
        return self.game.tree

    @property
    def players(self) -> int:
        """2: each player owns one row of every pair."""
        return 2

    @property
    def bound(self) -> Array:
        """The tree's `max |A|`."""
        return self.game.bound

    @property
    def legal(self) -> Mask:
        """Mask of the legal actions, `(states, 2, actions)`; in padding rows the first is legal."""
        legal = self.blank > -np.inf
        legal.reshape(-1)[self.cells] = True
        return legal

    def initial_policy(self) -> TabularPolicy:
        """Uniform at every information state."""
        return self.table(self.exact.initial_policy())

    def table(self, policy: TreeplexPolicy, geometry: Geometry = Entropy()) -> TabularPolicy:
        """A policy of the tree as a table, `(..., states, 2, actions)`."""
        require_kind("policy", policy, TreeplexPolicy, "a policy of the tree")
        log_p = self._spread(policy.log_probs[..., 2:], self.blank)
        if isinstance(geometry, Entropy):
            return TabularPolicy(log_p, geometry)
        return TabularPolicy(geometry.coordinates(np.exp(log_p), log_p > -np.inf), geometry)

    def treeplex(self, policy: TabularPolicy) -> TreeplexPolicy:
        """A table as a policy of the tree, in the tree's geometry."""
        return self._sequences(policy)[0]

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: TabularPolicy | Mixture[TabularPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The values of all actions, `(..., states, 2, actions)`.

        After an action, play goes on by `policy`. With a `player`, the other one's values are 0.
        Against a `Mixture` it is the same combination of the feedback against each policy.
        """
        # Q-values divide by the opponent's reach, which a mixture of signed weights may cancel.
        if isinstance(opponent, Mixture):
            return against_each(
                opponent, lambda p, rng: self.feedback(policy, p, player=player, rng=rng), rng
            )
        own, probs = self._sequences(policy)
        other = own if opponent is None else self.treeplex(opponent)
        gradient = self.game.feedback(own, other, player=player, rng=rng)
        values = self._each(kernels.action_values, probs, gradient)
        fed = self.feed(self.exact, values, other)
        return self._spread(fed[..., 2:], np.zeros(self.blank.shape))

    def duality_gap(self, policy: TabularPolicy) -> Array:
        """NashConv of the tree."""
        return self.game.duality_gap(self.treeplex(policy))

    def regularised_gap(self, policy: TabularPolicy, magnet: TabularPolicy, alpha: float) -> Array:
        r"""The agent form: the sum of what each information state gains by its best response alone.

        $$\sum_j \max_{p'_j} \langle q_j, p'_j - p_j\rangle
        - \alpha\,\mathrm{KL}(p'_j\|\rho_j) + \alpha\,\mathrm{KL}(p_j\|\rho_j)$$

        with $q$ the feedback at `policy`: every other state keeps its play, and a state pays its
        own KL only. It is 0 exactly at the fixed point of `MMD` on this view, the agent QRE.
        """
        # A gap is exact also where the game's feedback is sampled.
        q = BehaviouralGame(self.exact, self.feed).feedback(policy)
        return np.asarray(regularised_regret(policy, q, magnet, alpha).sum(axis=(-2, -1)))

    def best_response(self, policy: TabularPolicy) -> TabularPolicy:
        """A pure best response of each player in the tree."""
        return self.table(self.game.best_response(self.treeplex(policy)), policy.geometry)

    def value(self, policy: TabularPolicy) -> Array:
        """Player 0's expected payoff."""
        return self.game.value(self.treeplex(policy))

    def divergence(self, policy: TabularPolicy, other: TabularPolicy) -> Array:
        """The KL of every information state, unweighted, summed."""
        require_policies(policy, other)
        return np.asarray(policy.kl(other).sum(axis=(-2, -1)))

    def average(self, mixture: Mixture[TabularPolicy]) -> TabularPolicy:
        """The policy whose realisation plan is the mixture's (Kuhn 1953).

        At states that the plan does not reach, it plays like the mixture's first policy.
        """
        require_kind("mixture", mixture, Mixture, "a `Mixture(policies, weights)`")
        first, trees = mixture.policies[0], tuple(self._sequences(p) for p in mixture.policies)
        plan = realisation_plan(Mixture(tuple(tree for tree, _ in trees), mixture.weights))
        reach, probs = plan[..., self.above], trees[0][1][..., 2:]
        # Below the smallest normal float a quotient of reaches is rounding error.
        np.divide(plan[..., 2:], reach, out=probs, where=reach > np.finfo(np.float64).tiny)
        table = self._spread(probs, np.exp(self.blank))
        return first.replace(first.geometry.coordinates(table, self.legal))

    def _sequences(self, policy: TabularPolicy) -> tuple[TreeplexPolicy, Array]:
        """The policy on the tree, and its behavioural probabilities."""
        require_policies(policy)
        # Not the exponential of `log_probs`, which in other geometries than entropy would round.
        probs = self._gathered(policy.probs, 1.0)
        plan = self._each(kernels.realisation_plan, probs)
        log_p = self._gathered(policy.log_probs, 0.0)
        return TreeplexPolicy(self.tree, self.exact.geometry, log_p, plan), probs

    def _gathered(self, table: Array, empty: float) -> Array:
        """The entries of a table by sequence, `(..., sequences)`; `empty` at the empty ones."""
        if table.shape[-3:] != self.blank.shape:
            raise ValueError(
                f"`policy` must be a table whose last axes are {self.blank.shape}, "
                f"got shape {table.shape}."
            )
        flat = table.reshape(*table.shape[:-3], -1)
        out = np.full((*flat.shape[:-1], self.tree.sequences), empty)
        out[..., 2:] = flat[..., self.cells]
        return out

    def _spread(self, entries: Array, table: Array) -> Array:
        """`table` with `entries`, `(..., sequences - 2)`, at their cells."""
        lead = entries.shape[:-1]
        out = np.array(np.broadcast_to(table, (*lead, *table.shape)))
        out.reshape(*lead, -1)[..., self.cells] = entries
        return out

    def _each(self, kernel: Callable[..., Array], *arrays: Array) -> Array:
        """`kernel(parent, offset, ...)` for every policy of a batch."""
        lead, flat = runs(*arrays)
        return kernel(self.tree.parent, self.tree.offset, *flat).reshape(*lead, -1)
