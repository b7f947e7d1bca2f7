r"""The regularised equilibrium of a matrix game, by a compiled Newton's method in log space.

The game is a skew operator $K$ on the probabilities of both players, which form one row per player
(a single row where one policy plays both seats). The equilibrium solves, in every row,

$$\theta = \log\rho + \lambda K e^\theta + c,\qquad \sum e^\theta = 1$$

at $\lambda = 1/\alpha$, where the number $c$ of each row is unknown too. The method follows the
path of solutions upwards in $\lambda$. It begins at $\lambda = 1/\max|K|$, where the magnet $\rho$
is nearly the solution (McKelvey & Palfrey 1995; Turocy 2005).
"""

from __future__ import annotations

import math

import numpy as np

from mpo_games.kernels.caching import njit
from mpo_games.protocol import Array, Indices

RESIDUAL_LIMIT = 1e-9
"""A point of the path is accepted if no log-probability has a larger residual, in nats. Beyond 1
nat it is relative: the logarithm of an action that is not played may be -1e9, and has 16 digits."""

NEWTON_STEPS = 50
"""Most Newton steps at one point of the path."""

HALVINGS = 12
"""Most trials of a Newton step; each is half the one before, until the residual shrinks."""


@njit(cache=True, error_model="numpy")
def regularised_pair(
    operator: Array, row: Indices, log_magnet: Array, alpha: float
) -> tuple[Array, float]:
    """Log-probabilities of the equilibrium at `alpha`, `(actions,)`, and their residual in nats.

    `operator` is `(actions, actions)`, skew, in units of payoff like `alpha`. `row[a]` is the row,
    from 0, to which action `a` belongs; `log_magnet` is `(actions,)`. If the path breaks off before
    `alpha`, the residual is above `RESIDUAL_LIMIT`.
    """
    scale = np.abs(operator).max()
    theta, residual = log_magnet.copy(), 0.0
    if scale == 0.0:
        return theta, residual
    # Points of the path are lambda times `scale`, so the unit of the payoffs does not matter.
    here, end, growth = 0.0, scale / alpha, 8.0
    while here < end:
        there = min(end, growth * here if here > 0.0 else 1.0)
        moved, residual = _newton(operator * (there / scale), row, log_magnet, theta)
        if residual <= RESIDUAL_LIMIT:
            theta, here, growth = moved, there, min(growth**1.5, 8.0)
        # The first point does not depend on `growth`: another try would fail alike.
        elif here > 0.0 and growth > 1.001:
            growth = math.sqrt(growth)
        else:
            break
    return theta, residual


@njit(cache=True, error_model="numpy")
def _newton(operator: Array, row: Indices, log_magnet: Array, theta: Array) -> tuple[Array, float]:
    r"""Damped Newton on $\theta - \log\rho - K e^\theta = c$, $\sum e^\theta = 1$, in every row.

    Returns the log-probabilities and their residual in nats. The bordered Jacobian
    $I - K\,\mathrm{diag}(e^\theta)$ is regular everywhere because $K$ is skew. To first order, a
    step damped by $t$ leaves $1 - t$ of the residual, which is counted modulo $c$.
    """
    size, rows = len(theta), row[-1] + 1
    # A probability below exp(light) changes no entry of K e^theta by more than a hundredth.
    light = -math.log(100.0 * max(1.0, np.abs(operator).max()))
    drift = theta - log_magnet - operator @ np.exp(theta)
    for _ in range(NEWTON_STEPS):
        p = np.exp(theta)
        jacobian = np.zeros((size + rows, size + rows))
        jacobian[:size, :size] = -operator * p
        target = np.zeros(size + rows)
        for a in range(size):
            jacobian[a, a] += 1.0
            jacobian[a, size + row[a]] = -1.0
            jacobian[size + row[a], a] = p[a]
            target[a] = -drift[a]
        step = np.linalg.solve(jacobian, target)
        before, damping, shrunk = _span(drift, row), 1.0, False
        for _ in range(HALVINGS):
            trial = np.empty(size)
            for a in range(size):
                trial[a] = theta[a] + _travelled(damping * step[a], theta[a], light)
            _normalise(trial, row)
            error = trial - log_magnet - operator @ np.exp(trial)
            # A quarter of the decrease that the first order promises is enough.
            if _span(error, row) < (1.0 - damping / 4.0) * before:
                theta, drift, shrunk = trial, error, True
                break
            damping /= 2.0
        if not shrunk:
            break
    # The residual is measured against the best response and not by `drift`, which is modulo c.
    response = log_magnet + operator @ np.exp(theta)
    _normalise(response, row)
    residual = 0.0
    for a in range(size):
        # Not `max`, which would hide NaN.
        apart = abs(theta[a] - response[a]) / max(1.0, abs(response[a]))
        residual = residual if apart <= residual else apart
    return theta, residual


@njit(cache=True, error_model="numpy")
def _travelled(step: float, theta: float, light: float) -> float:
    r"""How far the log-probability `theta` moves for the Newton step `step`.

    A probability above `exp(light)` weighs on the payoffs: if its logarithm moved by `step`,
    $K e^\theta$ would bend. So the probability itself moves linearly, by the factor `1 + step`, as
    in interior-point methods. A smaller one moves by `step` in its logarithm until it weighs.
    """
    # log(1 + step), continued below -1/2 by its tangent, since a factor must be positive.
    linear = math.log1p(max(step, -0.5)) + 2.0 * min(step + 0.5, 0.0)
    if theta > light:
        return linear
    return step if step < 0.0 else max(min(step, light - theta), linear)


@njit(cache=True, error_model="numpy")
def _normalise(theta: Array, row: Indices) -> None:
    """Normalise the log-probabilities of every row, in place."""
    for r in range(row[-1] + 1):
        top, total = -np.inf, 0.0
        for a in range(len(theta)):
            if row[a] == r:
                top = max(top, theta[a])
        for a in range(len(theta)):
            if row[a] == r:
                total += math.exp(theta[a] - top)
        for a in range(len(theta)):
            if row[a] == r:
                theta[a] -= top + math.log(total)


@njit(cache=True, error_model="numpy")
def _span(drift: Array, row: Indices) -> float:
    """The largest spread of `drift` within a row: 0 if `drift` is constant in every row."""
    widest = 0.0
    for r in range(row[-1] + 1):
        low, high = np.inf, -np.inf
        for a in range(len(drift)):
            if row[a] == r:
                low, high = min(low, drift[a]), max(high, drift[a])
        widest = max(widest, high - low)
    return widest
