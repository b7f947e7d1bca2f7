r"""The regularised equilibrium of a matrix game, by a compiled Newton's method in log space.

The game is a skew operator $K$ on both players' probabilities, a row of them per player (one row
where one policy plays both seats), and the equilibrium solves, in every row,

$$\theta = \log\rho + \lambda K e^\theta + c,\qquad \sum e^\theta = 1$$

at $\lambda = 1/\alpha$. Its path is followed from $\lambda$ about 1 over the payoffs, where the
magnet $\rho$ is nearly the answer (McKelvey & Palfrey 1995; Turocy 2005).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from mpo_games.protocol import Array, Indices

RESIDUAL_LIMIT = 1e-9
"""The worst residual of a log-probability, in nats, at which a point of the path is left."""

NEWTON_STEPS = 50
"""Newton steps at one point of the path."""

HALVINGS = 12
"""How often a Newton step is halved until it shrinks the residual."""


@njit(cache=True, error_model="numpy")
def regularised_pair(
    operator: Array, row: Indices, log_magnet: Array, alpha: float
) -> tuple[Array, float]:
    """Log-probabilities of the equilibrium at `alpha`, and their residual in nats.

    `operator` is `(actions, actions)`, `row[a]` the row, from 0, that action `a` belongs to. A
    residual above `RESIDUAL_LIMIT` says that the path broke off.
    """
    scale = np.abs(operator).max()
    theta, residual = log_magnet.copy(), 0.0
    if scale == 0.0:
        return theta, residual
    here, end, growth = 0.0, scale / alpha, 8.0
    while here < end:
        there = min(end, growth * here if here > 0.0 else 1.0)
        moved, residual = _newton(operator * (there / scale), row, log_magnet, theta)
        if residual <= RESIDUAL_LIMIT:
            theta, here, growth = moved, there, min(growth**1.5, 8.0)
        elif here > 0.0 and growth > 1.001:
            growth = math.sqrt(growth)
        else:
            break
    return theta, residual


@njit(cache=True, error_model="numpy")
def _newton(operator: Array, row: Indices, log_magnet: Array, theta: Array) -> tuple[Array, float]:
    r"""Damped Newton on $\theta - \log\rho - K e^\theta = c$, $\sum e^\theta = 1$, in every row.

    The bordered Jacobian $I - K\,\mathrm{diag}(e^\theta)$ is regular everywhere because $K$ is
    skew, and its step shrinks the residual, modulo $c$, by the damping: to first order.
    """
    size, rows = len(theta), row[-1] + 1
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
            if _span(error, row) < (1.0 - damping / 4.0) * before:
                theta, drift, shrunk = trial, error, True
                break
            damping /= 2.0
        if not shrunk:
            break
    response = log_magnet + operator @ np.exp(theta)
    _normalise(response, row)
    return theta, np.abs(theta - response).max()


@njit(cache=True, error_model="numpy")
def _travelled(step: float, theta: float, light: float) -> float:
    r"""How far a log-probability moves by a Newton step on it.

    Where a probability weighs on the payoffs, so that $K e^\theta$ would bend under a linear move
    of its logarithm, it is itself moved linearly (as interior-point methods do, and with a linear
    continuation of the logarithm below one half); where it is below `exp(light)` its logarithm is.
    """
    linear = math.log1p(max(step, -0.5)) + 2.0 * min(step + 0.5, 0.0)
    if theta > light:
        return linear
    return step if step < 0.0 else max(min(step, light - theta), linear)


@njit(cache=True, error_model="numpy")
def _normalise(theta: Array, row: Indices) -> None:
    """Log-probabilities of sum 1 in every row, in place."""
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
    """How far the drifts of a row lie apart, at most: 0 where they are constant."""
    widest = 0.0
    for r in range(row[-1] + 1):
        low, high = np.inf, -np.inf
        for a in range(len(drift)):
            if row[a] == r:
                low, high = min(low, drift[a]), max(high, drift[a])
        widest = max(widest, high - low)
    return widest
