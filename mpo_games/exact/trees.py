"""The oracles of trees: `exact.nash` and `exact.qre` for sequence-form and behavioural games.

They are a sparse linear programme (`tree_nash`) and a sparse Newton iteration. Importing this
module registers them. In the private functions a vector over actions is `(sequences - 2,)`, that
is, without the two empty sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from mpo_games.checks import is_number, require_kind
from mpo_games.exact import tables as exact
from mpo_games.exact.logit import HALVINGS, NEWTON_STEPS
from mpo_games.exact.tables import CertificateError, QuantalResponse
from mpo_games.exact.tree_nash import nash_of_tree as nash_of_tree
from mpo_games.exact.tree_nash import payoff_matrix
from mpo_games.games.behavioural import BehaviouralGame, counterfactual_values
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.shifts import centred
from mpo_games.interrupts import unmasking
from mpo_games.kernels import trees as kernels
from mpo_games.labelled import shown
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, ExactGame


@exact.qre.register
@unmasking
def qre_of_tree(
    game: SequenceFormGame, alpha: float, magnet: TreeplexPolicy | None = None
) -> QuantalResponse[TreeplexPolicy]:
    r"""The equilibrium of the game regularised by the dilated divergence, to which MMD converges.

    `magnet` is `game.center()` if None. With that magnet and unit weights, the equilibrium is the
    logit QRE of the reduced normal form. It is computed by Newton's method on

    $$w_j(\log\pi_a - \log\rho_a) = q_a/\alpha + \textstyle\sum_{j'\text{ below }a} V_{j'} - V_j,
    \qquad \sum_{a\in j}\pi_a = 1$$

    in the unknowns $\log z$, where $z$ is the plan, and $V$, the values of the states divided by
    $\alpha$. The Jacobian is sparse. Errors as in `exact.qre`.
    """
    magnet = game.center() if magnet is None else magnet
    require_kind("magnet", magnet, TreeplexPolicy, "a policy of the game")
    _require_sequences(magnet.coordinates, game.tree)
    game = _without_constant(game)
    log_magnet = magnet.log_probs[2:]
    theta = _follow(_Dilated.of(game, log_magnet), log_magnet, float(game.bound), alpha)
    return _certified(game, magnet.replace(np.append(np.zeros(2), theta)), magnet, alpha)


@exact.qre.register
@unmasking
def qre_of_view(
    game: BehaviouralGame, alpha: float, magnet: TabularPolicy | None = None
) -> QuantalResponse[TabularPolicy]:
    r"""The agent QRE: $\pi_j \propto \rho_j\,e^{Q_j(\pi)/\alpha}$ at every information state.

    If MMD on Q-values converges, it converges to an agent QRE (McKelvey & Palfrey 1998). `magnet`
    is uniform play if None. The method is that of `qre_of_tree`, with the Q-values as further
    unknowns. An agent QRE need not be unique: this one lies on the path that begins at the magnet.

    The path ends where the reach of a state falls below the smallest float (log-probabilities of
    about -700), because Q-values are 0 from there on. On Leduc poker, `alpha = 0.012` is certified
    and 0.011 raises `CertificateError`. Raises `ValueError` for a game of counterfactual values;
    other errors as in `exact.qre`.
    """
    if game.feed is counterfactual_values:
        raise ValueError("`game` must have Q-values as its feedback: pass `feed=q_values`.")
    magnet = game.initial_policy() if magnet is None else magnet
    # The certificate asks for exact feedback, which a game of sampled trajectories does not give.
    game = BehaviouralGame(_without_constant(game.exact), game.feed)
    anchor = game.treeplex(magnet).coordinates
    _require_sequences(anchor, game.tree)
    log_magnet = anchor[2:]
    # Q-values are not weighted by chance, so their size is that of the payoffs without it.
    scale = float(np.abs(game.exact.payoff / game.exact.chance).max(initial=0.0))
    theta = _follow(_Agents.of(game.exact, log_magnet), log_magnet, scale, alpha)
    policy = game.exact.initial_policy().replace(np.append(np.zeros(2), theta))
    return _certified(game, game.table(policy), magnet, alpha)


def _without_constant(game: SequenceFormGame) -> SequenceFormGame:
    """The game less a constant in all payoffs, which changes no QRE but costs digits."""
    payoff, weights = centred(game.payoff, game.chance), game.weights
    if payoff is game.payoff:
        return game
    return replace(game, payoff=payoff, dilation=lambda _: weights)


def _require_sequences(coordinates: Array, tree: Tree) -> None:
    if coordinates.shape != (tree.sequences,):
        raise ValueError(f"`magnet` must be one policy of the game, of {tree.sequences} sequences.")


L = TypeVar("L", TabularPolicy, TreeplexPolicy)


def _certified(game: ExactGame[L, Array], policy: L, magnet: L, alpha: float) -> QuantalResponse[L]:
    # A step of 1 / alpha from the magnet itself, without a pull, is the regularised best response.
    response = magnet.mirror_step(game.feedback(policy), None, eta=1.0 / alpha, alpha=0.0)
    legal = np.isfinite(policy.log_probs)
    wanted = response.log_probs[legal]
    # As in `logit.regularised_pair`: of a number beyond 1 only so many digits can be right.
    apart = np.abs(wanted - policy.log_probs[legal]) / np.maximum(1.0, np.abs(wanted))
    residual = float(apart.max(initial=0.0))
    if not residual <= exact.RESIDUAL_LIMIT:
        raise CertificateError(
            f"Newton's method left a residual of {residual:.3g} nats at alpha={alpha}: "
            "`alpha` is too small beside the payoffs."
        )
    gap = float(game.regularised_gap(policy, magnet, alpha))
    return QuantalResponse(policy, alpha, gap, residual)


@dataclass(frozen=True, slots=True, eq=False)
class _Incidence:
    """Sparse matrices of a tree: incidence of actions and states, and the skew payoff operator.

    Actions are the sequences without the two empty ones.
    """

    member: Any
    """(actions, states): 1 at the state that an action belongs to."""
    below: Any
    """(actions, states): 1 at the states right below an action."""
    step: Any
    """(actions, actions): turns `log z` into log-probabilities, `log z` less that of the parent."""
    payoff: Any
    """(sequences, sequences): the skew payoff operator, with the empty sequences."""

    @classmethod
    def of(cls, game: SequenceFormGame) -> _Incidence:
        from scipy.sparse import csr_array, diags

        tree = game.tree
        size, one = np.diff(tree.offset), np.ones(tree.states)
        state, count = np.repeat(np.arange(tree.states), size), tree.sequences - 2
        shape = (tree.sequences, tree.states)
        below = csr_array((one, (tree.parent, np.arange(tree.states))), shape=shape)[2:]
        member = csr_array((np.ones(count), (np.arange(count), state)), shape=(count, tree.states))
        payoff = payoff_matrix(game, game.payoff)
        step = diags(np.ones(count)) - member @ below.T
        return cls(member, below, step, (payoff - payoff.T).tocsr())


@dataclass(frozen=True, slots=True, eq=False)
class _Dilated:
    """The regularised equilibrium as a root.

    `theta` are log-probabilities, `(actions,)`; the multipliers are the values of the states
    divided by `alpha`, `(states,)`.
    """

    game: SequenceFormGame
    log_magnet: Array
    matrices: _Incidence

    @classmethod
    def of(cls, game: SequenceFormGame, log_magnet: Array) -> _Dilated:
        return cls(game, log_magnet, _Incidence.of(game))

    def error(self, theta: Array, multipliers: Array, alpha: float) -> Array:
        m, z = self.matrices, _plan(self.game.tree, theta)
        weights = m.member @ self.game.weights
        pull = weights * (theta - self.log_magnet) + (m.member - m.below) @ multipliers
        return np.asarray(pull - (m.payoff @ z)[2:] / alpha)

    def jacobian(self, theta: Array, alpha: float) -> Any:
        from scipy.sparse import bmat, diags

        m, z = self.matrices, _plan(self.game.tree, theta)
        weights = diags(m.member @ self.game.weights)
        pushed = m.payoff[2:, 2:] @ diags(z[2:] / alpha)
        normal = m.member.T @ diags(np.exp(theta)) @ m.step
        return bmat([[weights @ m.step - pushed, m.member - m.below], [normal, None]])


@dataclass(frozen=True, slots=True, eq=False)
class _Agents:
    """The agent QRE as a root.

    `theta` are log-probabilities, `(actions,)`; the multipliers are the log-normalisers of the
    states, `(states,)`.
    """

    game: SequenceFormGame
    log_magnet: Array
    matrices: _Incidence
    reach: Any
    """(states, sequences): times a plan, the reach of each state by chance and the opponent."""

    @classmethod
    def of(cls, game: SequenceFormGame, log_magnet: Array) -> _Agents:
        from scipy.sparse import csr_array, diags

        tree, size = game.tree, game.tree.sequences
        first, one = tree.offset[:-1], np.ones(tree.states)
        # The player's own continuation sums to 1 in any case, so let it take the first actions. The
        # reach of a state is then the sum over the leaves below it along these actions.
        down = csr_array((one, (tree.parent, first)), shape=(size, size))
        along, power = diags(np.ones(size)).tocsr(), down
        while power.nnz:
            along, power = along + power, power @ down
        chance = payoff_matrix(game, game.chance)
        return cls(game, log_magnet, _Incidence.of(game), along[first] @ (chance + chance.T))

    def values(self, theta: Array) -> tuple[Array, Array, Array]:
        """Plan `(sequences,)`, others' reach of the states, and Q-values of the actions."""
        m, tree, z = self.matrices, self.game.tree, _plan(self.game.tree, theta)
        worth = kernels.action_values(
            tree.parent, tree.offset, np.append([1.0, 1.0], np.exp(theta)), m.payoff @ z
        )
        reach = self.reach @ z
        return z, reach, worth[2:] * _inverse(m.member @ reach)

    def error(self, theta: Array, multipliers: Array, alpha: float) -> Array:
        _, _, q = self.values(theta)
        return np.asarray(theta - self.log_magnet - q / alpha + self.matrices.member @ multipliers)

    def jacobian(self, theta: Array, alpha: float) -> Any:
        from scipy.sparse import bmat, diags

        m, p, (z, reach, q) = self.matrices, np.exp(theta), self.values(theta)
        count = theta.size
        # Q-values are further unknowns, because as functions of `theta` their Jacobian is dense.
        moved = self.reach[:, 2:] @ diags(z[2:])
        mean = m.member.T @ diags(p)
        share = diags(_inverse(m.member @ reach))
        below = m.below @ (
            diags(mean @ q) @ moved + diags(reach) @ m.member.T @ diags(p * q) @ m.step
        )
        own = diags(q) @ m.member @ moved
        worth = share @ (own - below - m.payoff[2:, 2:] @ diags(z[2:]))
        passed = diags(np.ones(count)) - share @ m.below @ diags(reach) @ mean
        return bmat(
            [
                [m.step, m.member, -diags(np.ones(count)) / alpha],
                [mean @ m.step, None, None],
                [worth, None, passed],
            ]
        )


def _inverse(reach: Array) -> Array:
    """`1 / reach`; 0 where that would overflow, since such a state is never reached."""
    seen = reach > np.finfo(np.float64).tiny
    return np.divide(1.0, reach, out=np.zeros(reach.shape), where=seen)


def _plan(tree: Tree, theta: Array) -> Array:
    return kernels.realisation_plan(tree.parent, tree.offset, np.append([1.0, 1.0], np.exp(theta)))


def _follow(system: _Dilated | _Agents, log_magnet: Array, scale: float, alpha: float) -> Array:
    """The log-probabilities of the root at `alpha`, on the path that begins at the magnet.

    `scale` is the size of the payoffs. If the path breaks off, the last point that was reached is
    returned; `_certified` refuses it.
    """
    if not (is_number(alpha) and 0.0 < alpha < np.inf):
        raise ValueError(
            f"`alpha` must be finite and above 0, got {shown(alpha)}: `nash` is for 0."
        )
    exact.require_ratio_of_floats(scale, alpha)
    theta, multipliers = log_magnet, np.zeros(system.game.tree.states)
    # A tree without a decision has only one policy, so there is no path to follow.
    here, growth, end = 0.0, 8.0, scale / alpha if theta.size else 0.0
    while here < end:
        there = min(end, growth * here if here else 1.0)
        # The multipliers grow about in proportion to 1 / alpha, which is what `there` counts.
        warm = multipliers * there / here if here else multipliers
        moved, shifted, error = _newton(system, scale / there, theta, warm)
        if error <= exact.RESIDUAL_LIMIT:
            theta, multipliers, here, growth = moved, shifted, there, min(growth**1.5, 8.0)
        # The first point does not depend on `growth`: another try would fail alike.
        elif here and growth > 1.001:
            growth **= 0.5
        else:
            break
    return theta


def _newton(
    system: _Dilated | _Agents, alpha: float, theta: Array, multipliers: Array
) -> tuple[Array, Array, float]:
    """Damped Newton: log-probabilities, multipliers, and the largest error left.

    To first order, a step damped by `t` leaves `1 - t` of the error.
    """
    from scipy.sparse.linalg import splu

    member, step = system.matrices.member, system.matrices.step
    # Less 2, because `theta` has no entries for the empty sequences.
    first = system.game.tree.offset[:-1] - 2

    def normalised(theta: Array) -> Array:
        return np.asarray(theta - member @ np.logaddexp.reduceat(theta, first))

    error = system.error(theta, multipliers, alpha)
    for _ in range(NEWTON_STEPS):
        jacobian = system.jacobian(theta, alpha).tocsc()
        right = np.zeros(jacobian.shape[0])
        right[: theta.size] = -error
        change = splu(jacobian).solve(right)
        turn = step @ change[: theta.size]
        shift = change[theta.size : theta.size + multipliers.size]
        for damping in 0.5 ** np.arange(HALVINGS):
            trial, moved = normalised(theta + damping * turn), multipliers + damping * shift
            missed = system.error(trial, moved, alpha)
            if np.abs(missed).max() < (1.0 - damping / 4.0) * np.abs(error).max():
                break
        else:
            break
        theta, multipliers, error = trial, moved, missed
    return theta, multipliers, float(np.abs(error).max(initial=0.0))
