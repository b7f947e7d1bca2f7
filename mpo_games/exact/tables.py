"""Exact oracles of tables: equilibria by methods that share no code with the solvers.

`nash` solves a linear programme, `qre` is a Newton iteration in log space. Every answer carries a
certificate, its duality gap; an answer whose certificate is bad is not returned, but raises
`CertificateError`. Both functions can be extended to other games: `nash.register(MyGame)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch, update_wrapper
from typing import Any, Generic, TypeVar

import numpy as np

from mpo_games.checks import WrongKind, is_number
from mpo_games.exact import any_payoffs
from mpo_games.exact.logit import RESIDUAL_LIMIT as RESIDUAL_LIMIT
from mpo_games.exact.logit import regularised_pair
from mpo_games.exact.simplex_method import GAP_LIMIT as GAP_LIMIT
from mpo_games.exact.simplex_method import SUPPORT as SUPPORT
from mpo_games.exact.simplex_method import Certified, certificate, certified_pair
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.games.shifts import centred
from mpo_games.interrupts import unmasking
from mpo_games.labelled import shown
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices, Mask, P

DOUBT = 1e-11
"""Above this duality gap, as a share of the payoffs that are played, `nash` goes on by slower
methods."""

LARGEST_RATIO = 1e300
"""The largest multiple of `alpha` that payoffs may be in `qre`, so that sums do not overflow."""


class CertificateError(ValueError, RuntimeError):
    """An oracle could not certify its answer, and therefore returns none."""


@dataclass(frozen=True, slots=True, eq=False)
class Equilibrium(Generic[P]):
    """A Nash equilibrium with its certificate. If a game has several, one of them."""

    policy: P
    """The equilibrium."""
    value: float
    """The first player's expected utility, in units of payoff (0 in a symmetric game)."""
    support: Mask
    """True at the actions that are played with probability above `SUPPORT` (on trees: that the
    player's own plan reaches with it). The shape of the probabilities."""
    gap: float
    """The certificate: the duality gap of `policy`, in units of payoff."""

    def __repr__(self) -> str:
        return f"Equilibrium: value {self.value:.6g}, gap {self.gap:.2g}, {self.policy!r}"


@dataclass(frozen=True, slots=True, eq=False)
class QuantalResponse(Generic[P]):
    """The equilibrium of a game whose players pay `alpha KL(own policy || magnet)`.

    It is unique, except where it is an agent QRE of a tree.
    """

    policy: P
    """The equilibrium."""
    alpha: float
    """The weight of the KL, in units of payoff: the temperature of a logit QRE."""
    gap: float
    """The certificate: the regularised duality gap of `policy`, in units of payoff."""
    residual: float
    """The largest difference, in nats, between a log-probability of `policy` and that of the
    regularised best response to it; a share of the latter where that is beyond 1."""

    def __repr__(self) -> str:
        return f"QuantalResponse(alpha={self.alpha:g}): gap {self.gap:.2g}, {self.policy!r}"


T = TypeVar("T")


class Oracle(Generic[T]):
    """A function of a game, with a method for each class of games: `oracle.register(method)`.

    It dispatches as `functools.singledispatch` does, and also takes `game=`.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        methods = singledispatch(function)
        self.register, self.dispatch = methods.register, methods.dispatch
        update_wrapper(self, function)

    def __call__(self, game: object, *args: Any, **kwargs: Any) -> T:
        """The answer of the method for the class of `game`."""
        return self.dispatch(game.__class__)(game, *args, **kwargs)


@Oracle
def nash(game: object) -> Equilibrium[Any]:
    r"""A Nash equilibrium by linear programming.

    The row player maximises $v$ subject to $A^\top x \ge v$ on the simplex; the multipliers are the
    column player's policy. A preference game is one such programme per context.

    The programme is solved by a compiled simplex method and refined on its final basis
    (`exact.simplex_method`). The gap is then typically a few ulps of the payoffs that are played:
    their mean distance from the value, as an action of the support meets them. If it exceeds
    `DOUBT` times these, because others are much larger, the programme is solved again around the
    payoffs that matter, and if need be in decimal arithmetic (`exact.any_payoffs`). A payoff that
    nobody plays therefore costs no digit of the answer, and neither does a constant in all payoffs.

    Raises:
        ValueError: for a batch of games (solve them one by one).
        CertificateError: if the gap exceeds `GAP_LIMIT` times the payoffs that are played.
        TypeError: for a game that no oracle is registered for.

    >>> found = nash(MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]]))
    >>> found.policy.probs[0].round(6), round(found.value, 6) + 0.0
    (array([0.2, 0.6, 0.2]), 0.0)
    """
    raise WrongKind(
        f"There is no `nash` oracle for a {type(game).__name__}: "
        "pass a game, like `MatrixGame(payoff)`."
    )


@nash.register
@unmasking
def nash_of_matrix(game: MatrixGame) -> Equilibrium[TabularPolicy]:
    """A Nash equilibrium of a matrix game."""
    _require_single(game.payoff.ndim == 2)
    log_p, support, value, gap, _ = _optimal(game.payoff)
    return Equilibrium(game.initial_policy().replace(log_p), value, support, gap)


@nash.register
@unmasking
def nash_of_preferences(game: PreferenceGame) -> Equilibrium[TabularPolicy]:
    """The Nash equilibrium of each context."""
    _require_single(game.payoff.ndim == 3)
    log_p = np.stack([_in_both_seats(context) for context in game.payoff])
    policy = game.initial_policy().replace(log_p)
    gap = float(game.duality_gap(policy))
    return Equilibrium(policy, float(game.value(policy)), policy.probs > SUPPORT, gap)


@Oracle
def qre(game: object, alpha: float, magnet: object = None) -> QuantalResponse[Any]:  # noqa: ARG001
    r"""The regularised equilibrium by Newton's method on log-probabilities.

    $$p \propto \rho\, e^{q(p)/\alpha}$$

    in every row, where $\rho$ is the magnet (uniform if None) and `alpha` is in units of payoff.
    The path of equilibria is followed from an $\alpha$ as large as the payoffs, where the magnet is
    nearly the equilibrium, down to `alpha` (McKelvey & Palfrey 1995; Turocy 2005). Probabilities
    may underflow; their logarithms do not.

    Raises:
        ValueError: unless `alpha` is finite and above 0; for a batch of games (solve them one by
            one); for a magnet that is not a policy of the game.
        CertificateError: if the residual exceeds `RESIDUAL_LIMIT`. This is unavoidable if `alpha`
            is below some 1e-6 of the payoffs, because their rounding errors are then too large.
        TypeError: for a game that no oracle is registered for.

    >>> found = qre(PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]), alpha=0.1)
    >>> found.policy.probs.round(3)
    array([[0.337, 0.283, 0.379]])
    """
    raise WrongKind(
        f"There is no `qre` oracle for a {type(game).__name__}: "
        "pass a game, like `MatrixGame(payoff)`."
    )


@qre.register
@unmasking
def qre_of_matrix(
    game: MatrixGame, alpha: float, magnet: TabularPolicy | None = None
) -> QuantalResponse[TabularPolicy]:
    """The quantal response equilibrium of a matrix game."""
    _require_single(game.payoff.ndim == 2)
    # A constant changes no QRE, but costs digits.
    game = MatrixGame(centred(game.payoff, 1.0), game.actions or None)
    n, m = game.payoff.shape
    # Skew, as Newton's method requires: what one player gains the other one loses.
    operator = np.block([[np.zeros((n, n)), game.payoff], [-game.payoff.T, np.zeros((m, m))]])
    return _quantal_response(game, [operator], np.repeat([0, 1], [n, m]), alpha, magnet)


@qre.register
@unmasking
def qre_of_preferences(
    game: PreferenceGame, alpha: float, magnet: TabularPolicy | None = None
) -> QuantalResponse[TabularPolicy]:
    """The quantal response equilibrium of each context."""
    _require_single(game.payoff.ndim == 3)
    row = np.zeros(game.payoff.shape[-1], dtype=np.int64)
    return _quantal_response(game, list(game.payoff), row, alpha, magnet)


def _require_single(single: bool) -> None:
    if not single:
        raise ValueError("`game` is a batch of games: pass them to the oracle one by one.")


def _optimal(payoff: Array) -> Certified:
    """A certified optimal pair of the payoffs `(n, m)`."""
    found = _best(payoff)
    _require_certificate(found)
    return found


def _best(payoff: Array) -> Certified:
    """The best pair that is found, with its certificate, which may be a bad one."""
    found = certified_pair(payoff)
    return found if found[-1] <= DOUBT else any_payoffs.optimal(payoff, found, DOUBT)


def _in_both_seats(payoff: Array) -> Array:
    """The log-probabilities `(n,)` of a policy that is a certified answer to itself."""
    row = np.exp(_best(payoff)[0][0, : len(payoff)])
    found = certificate(payoff, np.stack([row, row]))
    if not found[-1] <= GAP_LIMIT:
        # Where all the responses that it plays tie, the payoffs that are played are 0, and beside
        # them a probability that is nothing but rounding makes a large gap.
        row = np.where(row > SUPPORT, row, 0.0)
        row /= row.sum()
        found = certificate(payoff, np.stack([row, row]))
    _require_certificate(found)
    return found[0][0, : len(payoff)]


def _require_certificate(found: Certified) -> None:
    if not found[-1] <= GAP_LIMIT:  # True for NaN as well
        raise CertificateError(
            f"The best policy that was found has a duality gap of {found[-1]:.3g} times the "
            f"payoffs that are played; the limit is {GAP_LIMIT:.0e}. Payoffs that differ by a "
            "factor above 1e300 may need probabilities that are too small for a float."
        )


def require_ratio_of_floats(scale: float, alpha: float) -> None:
    """`CertificateError` where payoffs of size `scale`, divided by `alpha`, would overflow."""
    if not scale <= LARGEST_RATIO * alpha:
        raise CertificateError(
            f"Payoffs of size {scale:.3g} divided by alpha={alpha:.3g} are no floats: `alpha` is "
            "too small beside the payoffs."
        )


def _quantal_response(
    game: MatrixGame | PreferenceGame,
    operators: list[Array],
    row: Indices,
    alpha: float,
    magnet: TabularPolicy | None,
) -> QuantalResponse[TabularPolicy]:
    """The equilibrium of a matrix game, or of all contexts of a preference game.

    Each of `operators`, skew and `(actions, actions)`, is solved on its own; `row`, `(actions,)`,
    says to which of its rows an action belongs.
    """
    if not (is_number(alpha) and 0.0 < alpha < np.inf):
        raise ValueError(
            f"`alpha` must be finite and above 0, got {shown(alpha)}: for 0 use `nash`."
        )
    require_ratio_of_floats(float(game.bound), alpha)
    magnet = game.initial_policy() if magnet is None else magnet
    legal = game.legal
    if not isinstance(magnet, TabularPolicy):
        raise ValueError(
            "`magnet` must be a policy of the game, like `game.initial_policy()`, "
            f"got {type(magnet).__name__}."
        )
    if magnet.coordinates.shape != legal.shape or (magnet.legal != legal).any():
        raise ValueError(f"`magnet` must be a policy of the game, of shape {legal.shape}.")
    # Without the padding: the operators know legal actions only.
    log_magnet = magnet.log_probs[legal]
    pieces = log_magnet.reshape(len(operators), -1)
    found = [
        regularised_pair(k, row, piece, alpha) for k, piece in zip(operators, pieces, strict=True)
    ]
    log_p = np.full(legal.shape, -np.inf)
    log_p[legal] = np.concatenate([theta for theta, _ in found])
    # Not Python's `max`, which may pass over NaN.
    residual = float(np.max([error for _, error in found]))
    if not residual <= RESIDUAL_LIMIT:
        raise CertificateError(
            f"Newton's method left a residual of {residual:.3g} nats at alpha={alpha}: "
            "`alpha` is too small beside the payoffs."
        )
    policy = game.initial_policy().replace(log_p)
    gap = float(game.regularised_gap(policy, magnet, alpha))
    return QuantalResponse(policy, alpha, gap, residual)
