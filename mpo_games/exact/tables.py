"""Exact oracles: equilibria by routes that share nothing with the solvers.

`nash` is a linear programme, `qre` a Newton iteration in log space. Peers return wrong answers
without a word, so every answer here carries its certificate, the duality gap, and none is returned
whose certificate is bad. Both are open to further games: `nash.register(MyGame)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Generic

import numpy as np

from mpo_games.exact.logit import RESIDUAL_LIMIT as RESIDUAL_LIMIT
from mpo_games.exact.logit import regularised_pair
from mpo_games.exact.simplex_method import SUPPORT as SUPPORT
from mpo_games.exact.simplex_method import Certified, certificate, certified_pair
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices, Mask, P

POLISHES = (1e-9, 1e-9, 1e-11, 1e-13)
"""Below these a probability, or an action's loss, counts as 0: one round of the polish each."""

DOUBT = 1e-13
"""Above this gap, in units of the game's largest payoff, `nash` asks a second method."""

GAP_LIMIT = 1e-7
"""The worst duality gap `nash` returns, in units of the game's largest payoff."""


class CertificateError(RuntimeError):
    """An oracle could not certify its answer, and so gives none."""


@dataclass(frozen=True, slots=True, eq=False)
class Equilibrium(Generic[P]):
    """A Nash equilibrium with its certificate. Where there are many, one of them."""

    policy: P
    """The equilibrium."""
    value: float
    """The first player's expected utility (0 in a symmetric game)."""
    support: Mask
    """The actions that are played, of the same shape as the probabilities."""
    gap: float
    """The certificate: the duality gap of `policy`, in the game's units."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantalResponse(Generic[P]):
    """The equilibrium of a game whose players pay `alpha KL(own policy || magnet)`: unique."""

    policy: P
    """The equilibrium."""
    alpha: float
    """The weight of the KL, in units of payoff: the temperature of a logit QRE."""
    gap: float
    """The certificate: the regularised duality gap of `policy`."""
    residual: float
    """How far any log-probability is from that of the regularised best response, in nats."""


@singledispatch
def nash(game: Any) -> Equilibrium[Any]:
    r"""A Nash equilibrium by linear programming.

    The row player's programme is $\max v$ with $A^\top x \ge v$ on the simplex, and its multipliers
    are the column player's policy; a preference game is one such programme per context. It is
    solved by our compiled simplex method and refined on its basis (`exact.simplex_method`); where
    that leaves a gap above `DOUBT` times the largest payoff, HiGHS is asked too, its answer
    polished on its support, and the better one kept. Gaps are typically a few ulps of the largest
    payoff.

    Raises:
        ValueError: for a batch of games (solve them one by one).
        CertificateError: if the gap exceeds `GAP_LIMIT` times the largest payoff.
        TypeError: for a game without such an oracle.

    >>> found = nash(MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]]))
    >>> found.policy.probs[0].round(6), round(found.value, 6) + 0.0
    (array([0.2, 0.6, 0.2]), 0.0)
    """
    raise TypeError(
        f"There is no `nash` oracle for a {type(game).__name__}: "
        "pass a game, like `MatrixGame(payoff)`."
    )


@nash.register
def _(game: MatrixGame) -> Equilibrium[TabularPolicy]:
    _require_single(game.payoff.ndim == 2)
    log_p, support, value, gap, _ = _optimal(game.payoff)
    return Equilibrium(TabularPolicy(log_p), value, support, gap)


@nash.register
def _(game: PreferenceGame) -> Equilibrium[TabularPolicy]:
    _require_single(game.payoff.ndim == 3)
    policy = TabularPolicy(np.stack([_optimal(context)[0][0] for context in game.payoff]))
    gap = float(game.duality_gap(policy))
    return Equilibrium(policy, float(game.value(policy)), policy.probs > SUPPORT, gap)


@singledispatch
def qre(game: Any, alpha: float, magnet: Any = None) -> QuantalResponse[Any]:  # noqa: ARG001
    r"""The regularised equilibrium by Newton's method on log-probabilities.

    $$p \propto \rho\, e^{q(p)/\alpha}$$

    in every row, $\rho$ the magnet (uniform when None). The path of equilibria is followed from
    $\alpha$ as large as the payoffs, where the magnet is nearly the answer, down to `alpha`
    (McKelvey & Palfrey 1995; Turocy 2005). Probabilities may underflow, their logarithms do not.

    Raises:
        ValueError: unless `alpha > 0`; for a batch of games (solve them one by one).
        CertificateError: if the residual exceeds `RESIDUAL_LIMIT`; it cannot be met once
            `alpha` is below some 1e-6 of the payoffs, whose rounding is then too coarse.
        TypeError: for a game without such an oracle.

    >>> found = qre(PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]), alpha=0.1)
    >>> found.policy.probs.round(3)
    array([[0.337, 0.283, 0.379]])
    """
    raise TypeError(
        f"There is no `qre` oracle for a {type(game).__name__}: "
        "pass a game, like `MatrixGame(payoff)`."
    )


@qre.register
def _(
    game: MatrixGame, alpha: float, magnet: TabularPolicy | None = None
) -> QuantalResponse[TabularPolicy]:
    _require_single(game.payoff.ndim == 2)
    n, m = game.payoff.shape
    operator = np.block([[np.zeros((n, n)), game.payoff], [-game.payoff.T, np.zeros((m, m))]])
    return _quantal_response(game, [operator], np.repeat([0, 1], [n, m]), alpha, magnet)


@qre.register
def _(
    game: PreferenceGame, alpha: float, magnet: TabularPolicy | None = None
) -> QuantalResponse[TabularPolicy]:
    _require_single(game.payoff.ndim == 3)
    row = np.zeros(game.payoff.shape[-1], dtype=np.int64)
    return _quantal_response(game, list(game.payoff), row, alpha, magnet)


def _require_single(single: bool) -> None:
    if not single:
        raise ValueError("`game` is a batch of games: the oracles take one at a time.")


def _optimal(payoff: Array) -> Certified:
    """A certified optimal pair."""
    found = certified_pair(payoff)
    if found[-1] <= DOUBT:
        return found
    other = certificate(payoff, _by_highs(payoff))
    if np.fmin(found[-1], other[-1]) == other[-1]:  # NaN, a failure, is never the less
        found = other
    if not found[-1] <= GAP_LIMIT:
        raise CertificateError(
            f"The linear programme's best policy has a duality gap of {found[-1]:.3g} "
            "times the largest payoff."
        )
    return found


def _by_highs(payoff: Array) -> Array:
    """An optimal pair by HiGHS, polished on its support; NaN if it fails."""
    from scipy.optimize import linprog

    n, m = payoff.shape
    low, high = payoff.min(), payoff.max()
    unit = (payoff - low) / (high - low)
    answer = linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.hstack([-unit.T, np.ones((m, 1))]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=(0.0, None),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if answer.x is None or answer.status != 0:
        return np.full((2, max(n, m)), np.nan)
    x, y = _simplex(answer.x[:n]), _simplex(-answer.ineqlin.marginals)
    pair = np.zeros((2, max(n, m)))
    pair[0, :n], pair[1, :m] = _polished(unit, x), _polished(-unit.T, y)
    return pair


def _polished(payoff: Array, x: Array) -> Array:
    """The row policy on the support of `x` against which the binding columns are indifferent,
    for payoffs of range 1.

    Least squares, as the smallest correction of `x`: with ties there are more binding columns than
    actions. Whatever guarantees less than `x` is thrown away.
    """
    for tolerance in POLISHES:
        value = payoff.T @ x
        best = value.min()
        played = x > tolerance
        binding = value <= best + tolerance
        rows = payoff[np.ix_(played, binding)].T
        system = np.block([[rows, -np.ones((len(rows), 1))], [np.ones((1, rows.shape[1])), 0.0]])
        error = np.append(best - value[binding], 1.0 - x[played].sum())
        step = np.linalg.lstsq(system, error, rcond=None)[0]
        moved = np.zeros(len(x))
        moved[played] = x[played] + step[:-1]
        moved = _simplex(moved)
        if (payoff.T @ moved).min() > best:
            x = moved
    return x


def _simplex(x: Array) -> Array:
    x = np.maximum(x, 0.0)
    return np.asarray(x / x.sum())


def _quantal_response(
    game: MatrixGame | PreferenceGame,
    operators: list[Array],
    row: Indices,
    alpha: float,
    magnet: TabularPolicy | None,
) -> QuantalResponse[TabularPolicy]:
    """Each skew payoff operator is a game of its own, its actions in the rows `row`."""
    if not (alpha > 0.0 and np.isfinite(alpha)):
        raise ValueError(f"`alpha` must be finite and above 0, got {alpha}: `nash` is for 0.")
    magnet = game.initial_policy() if magnet is None else magnet
    legal = game.legal
    if not isinstance(magnet, TabularPolicy):
        raise ValueError(f"`magnet` must be a policy of the game, got {type(magnet).__name__}.")
    if magnet.coordinates.shape != legal.shape or (magnet.legal != legal).any():
        raise ValueError(f"`magnet` must be a policy of the game, of shape {legal.shape}.")
    log_magnet = magnet.log_probs[legal]
    pieces = log_magnet.reshape(len(operators), -1)
    found = [
        regularised_pair(k, row, piece, alpha) for k, piece in zip(operators, pieces, strict=True)
    ]
    log_p = np.full(legal.shape, -np.inf)
    log_p[legal] = np.concatenate([theta for theta, _ in found])
    residual = max(error for _, error in found)
    if not residual <= RESIDUAL_LIMIT:
        raise CertificateError(
            f"Newton's method left a residual of {residual:.3g} nats at alpha={alpha}: "
            "`alpha` is too small beside the payoffs."
        )
    policy = TabularPolicy(log_p)
    gap = float(game.regularised_gap(policy, magnet, alpha))
    return QuantalResponse(policy, alpha, gap, residual)
