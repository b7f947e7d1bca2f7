"""Predictions of the theorems about a run, to compare with what was measured.

Here are the largest step size and the per-step bound of MMD's theorem (Sokota et al., ICLR 2023),
the exact local rate of the linearised step, a rate fitted to a trace, and the proximal-point
inequality by which a moving magnet approaches the Nash equilibrium (Wang et al., ICLR 2025).

Step sizes `eta` are in 1 / payoff, `alpha` is in units of payoff, divergences are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from math import hypot, inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.capabilities import Bounded
from mpo_games.checks import WrongKind, require_game, require_positive, require_weight
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import read
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, ExactGame, P

FLOOR = 1e-13
"""A divergence at or below this, in nats, is rounding."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A linear rate fitted to a trace: `value ~ factor^step`."""

    factor: float
    """The factor by which one step multiplies the value."""
    low: float
    """Lower end of the factor's 95 % confidence interval."""
    high: float
    """Upper end of the factor's 95 % confidence interval."""
    r_squared: float
    """The share of the variance of `log(value)` that the line explains."""


def largest_step(game: Bounded, alpha: float) -> float:
    """The theorem's largest step size in the entropy geometry, `alpha / L^2` with `L = game.bound`.

    `L` is the largest bound of a batch of games. The step size is infinite if all payoffs are 0.
    `ValueError` unless `alpha` is finite and above 0.

    >>> largest_step(PreferenceGame([[0.5, 1.0], [0.0, 0.5]]), alpha=0.1)
    0.4
    """
    require_positive("alpha", alpha)
    require_game(game)
    bound = float(np.max(game.bound))
    require_weight("game.bound", bound)
    # Not by `bound**2`, which is 0 for payoffs below 1e-162.
    return alpha / bound / bound if bound > 0.0 else inf


def rate_bound(eta: float, alpha: float) -> float:
    r"""The theorem's factor per step, `1 / (1 + eta alpha)`.

    For $0 < \eta \le \alpha / L^2$ it bounds
    $\mathrm{KL}(p^* \| p_{t+1}) / \mathrm{KL}(p^* \| p_t)$, where $p^*$ is the regularised
    equilibrium.
    """
    require_weight("eta", eta)
    require_weight("alpha", alpha)
    return 1.0 / (1.0 + eta * alpha)


def bound_ratio(divergences: ArrayLike, eta: float, alpha: float, *, floor: float = FLOOR) -> float:
    r"""The largest $(1+\eta\alpha)\,\mathrm{KL}_{t+1}/\mathrm{KL}_t$ of a run.

    It is at most 1 if and only if the theorem's bound holds at every step. `divergences` holds
    `D(p* || p_t)` of successive steps, in nats, `(steps,)` or `(steps, batch...)`. A step that
    starts from a divergence at or below `floor` is left out, because its ratio is rounding. The
    result is 0 if no step is left. `ValueError` for NaN, or for fewer than two steps.
    """
    for name, number in (("eta", eta), ("alpha", alpha), ("floor", floor)):
        require_weight(name, number)
    values = read(divergences, "divergences").values
    if values.ndim == 0 or len(values) < 2 or np.isnan(values).any():
        raise ValueError("`divergences` must hold two or more successive steps, without NaN.")
    before, after = values[:-1], values[1:]
    kept = before > floor
    return (1.0 + eta * alpha) * float(np.max(after[kept] / before[kept], initial=0.0))


@singledispatch
def frequency(game: object, equilibrium: object) -> float:  # noqa: ARG001
    r"""The largest frequency $\omega$ at which play circles an equilibrium, in units of payoff.

    In log-coordinates modulo shifts, the feedback has the derivative
    $K(\mathrm{diag}(p) - pp^\top)$, where $K$ is the skew payoff operator. Its eigenvalues are
    $\pm i\omega$, where $\omega$ runs over the singular values of
    $\sqrt x_i\,\bar A_{ij} \sqrt y_j$ with
    $\bar A = A - Ay 1^\top - 1 x^\top A + x^\top A y$. It is never above `game.bound`.

    `game` is a `MatrixGame` or a `PreferenceGame`, `equilibrium` one of its policies; of a batch,
    or of several contexts, the largest frequency counts. `TypeError` for any other game.
    """
    raise WrongKind(f"There is no exact local rate for a {type(game).__name__}.")


@frequency.register
def frequency_of_matrix(game: MatrixGame, equilibrium: TabularPolicy) -> float:
    """The frequency of circling in a matrix game."""
    n, m = game.payoff.shape[-2:]
    game.feedback(equilibrium)  # refuses a policy of another game
    probs = equilibrium.probs
    return _largest_singular(game.payoff, probs[..., 0, :n], probs[..., 1, :m])


@frequency.register
def frequency_of_preferences(game: PreferenceGame, equilibrium: TabularPolicy) -> float:
    """The frequency of circling in a preference game."""
    game.feedback(equilibrium)  # refuses a policy of another game
    return _largest_singular(game.payoff, equilibrium.probs, equilibrium.probs)


def local_rate(game: object, equilibrium: object, *, eta: float, alpha: float) -> float:
    r"""The spectral radius of MMD's step, linearised at its regularised equilibrium.

    $$J = \frac{I + \eta\,K(\mathrm{diag}(p) - pp^\top)}{1+\eta\alpha}, \qquad
    \rho(J) = \frac{\sqrt{1 + \eta^2\omega^2}}{1+\eta\alpha}$$

    Here $\omega$ is `frequency(game, equilibrium)`. Near the equilibrium, each step multiplies the
    KL by $\rho(J)^2$. The fastest step size is $\eta = \alpha/\omega^2$, which is the theorem's
    with the local $\omega$ in the place of $L$.
    """
    require_weight("eta", eta)
    require_weight("alpha", alpha)
    return hypot(1.0, eta * frequency(game, equilibrium)) / (1.0 + eta * alpha)


def stability_limit(game: object, equilibrium: object, alpha: float) -> float:
    r"""The step size below which MMD converges locally, and above which it does not.

    $|1 + i\eta\omega| < 1 + \eta\alpha$ iff $\eta < 2\alpha/(\omega^2 - \alpha^2)$. The limit is
    infinite if $\omega \le \alpha$. `ValueError` unless `alpha` is finite and above 0.
    """
    require_positive("alpha", alpha)
    omega = frequency(game, equilibrium)
    if omega <= alpha:
        return inf
    # Not by the difference of the squares, which cancels where omega is near alpha.
    return 2.0 * alpha / ((omega - alpha) * (omega + alpha))


def fit_rate(steps: ArrayLike, values: ArrayLike, *, floor: float = FLOOR) -> Rate:
    """The linear rate of a trace, by least squares of `log(values)` on `steps`, both `(records,)`.

    The fit uses the records before the first value at or below `floor` (rounding), and of these
    only the second half of the steps (the first half is burn-in). The interval is Student's and
    assumes independent residuals. The residuals of a deterministic run are autocorrelated, so its
    interval says how straight the line is, but not how certain the rate is.

    `ValueError` for arrays that are not finite or not of one length, or if the window has fewer
    than three records.
    """
    from scipy.stats import linregress, t

    require_weight("floor", floor)
    x, y = read(steps, "steps").values, read(values, "values").values
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("`steps` and `values` must be finite and of the same length.")
    below = np.flatnonzero(y <= floor)
    end = below[0] if below.size else len(y)
    x, y = x[:end], y[:end]
    # An empty window has neither a first nor a last step.
    late = x >= (x[0] + x[-1]) / 2.0 if end else np.zeros(0, dtype=bool)
    if np.count_nonzero(late) < 3:
        raise ValueError(
            f"`values` has fewer than 3 records above {floor:.3g} after the burn-in: "
            "record the run more often."
        )
    line = linregress(x[late], np.log(y[late]))
    margin = float(t.ppf(0.975, np.count_nonzero(late) - 2)) * line.stderr
    low, factor, high = np.exp(line.slope + np.array([-margin, 0.0, margin]))
    return Rate(float(factor), float(low), float(high), float(line.rvalue) ** 2)


def proximal_point_slack(game: ExactGame[P, Any], nash: P, magnet: P, moved: P) -> float:
    r"""By how much a magnet move exceeds what the proximal-point inequality promises, in nats.

    $$\mathrm{KL}(p^*\|\rho_n) - \mathrm{KL}(\rho_{n+1}\|\rho_n) - \mathrm{KL}(p^*\|\rho_{n+1})
    \ge 0$$

    holds for every Nash equilibrium $p^*$ (`nash`) and every $\alpha$, if $\rho_{n+1}$ (`moved`) is
    the exact regularised equilibrium at $\rho_n$ (`magnet`) (Rockafellar 1976; Wang et al. 2025).
    For a batch of games the smallest slack is returned.
    """
    require_game(game, "divergence")
    slack = (
        game.divergence(nash, magnet)
        - game.divergence(moved, magnet)
        - game.divergence(nash, moved)
    )
    return float(np.min(slack))


def _largest_singular(payoff: Array, x: Array, y: Array) -> float:
    """The largest singular value of `sqrt(x) B sqrt(y)` in a batch.

    `B` is `payoff`, `(..., n, m)`, centred under `x`, `(..., n)`, and `y`, `(..., m)`.
    """
    against = np.matmul(payoff, y[..., None])
    centred = payoff - against
    centred = centred - np.matmul(x[..., None, :], centred)
    weighted = np.sqrt(x)[..., None] * centred * np.sqrt(y)[..., None, :]
    return float(np.max(np.linalg.norm(weighted, 2, axis=(-2, -1))))
