"""The inner loops of tables, compiled on first use and cached beside this file.

Each docstring holds the NumPy equation that the kernel is tested against. All arrays are
`(rows, actions)` unless the docstring says otherwise; `-inf` marks an illegal action.
"""

from __future__ import annotations

import math

import numpy as np

from mpo_games.kernels.caching import njit
from mpo_games.protocol import Array, Mask

# "nnan" and "ninf" are left out on purpose: they would let the compiler assume NaN away.
FAST = {"reassoc", "contract", "nsz"}
"""Numba's fast-math flags for the kernels: sums may be reassociated, so they are vectorised."""

LOG_ZERO = -800.0
"""The logarithm stored for a legal action of probability 0. Its exponential is exactly 0, and
because it is finite, later steps can raise it again."""

LARGE = 1e6
"""From here on a constant in all logarithms is taken off before they are normalised: added to the
logarithm of the sum, it would round that away. Below, it costs less than 1e-10."""

EDGE = 1e-12
"""A smoothed probability counts as clipped if it exceeds its floor by at most this share."""


@njit(cache=True, fastmath=FAST, error_model="numpy")
def entropy_step(log_p: Array, q: Array, log_magnet: Array, eta: float, alpha: float) -> Array:
    """`log_softmax((log_p + eta * (q + alpha * log_magnet)) / (1 + eta * alpha))`, row by row.

    All arrays are `(rows, actions)`. Where `log_p` is `-inf`, the action is illegal and the result
    is `-inf`, whatever `q` and `log_magnet` hold.
    """
    out = np.empty_like(log_p)
    shrink = 1.0 / (1.0 + eta * alpha)
    for r in range(log_p.shape[0]):
        top = -np.inf
        for a in range(log_p.shape[1]):
            # Not by the formula: at an illegal action it gives 0 * -inf = NaN where alpha is 0.
            if log_p[r, a] == -np.inf:
                out[r, a] = -np.inf
            else:
                z = (log_p[r, a] + eta * (q[r, a] + alpha * log_magnet[r, a])) * shrink
                out[r, a] = z
                top = max(top, z)
        if abs(top) > LARGE:
            for a in range(log_p.shape[1]):
                out[r, a] -= top
            top = 0.0
        total = 0.0
        for a in range(log_p.shape[1]):
            total += math.exp(out[r, a] - top)
        shift = top + math.log(total)
        for a in range(log_p.shape[1]):
            out[r, a] -= shift
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def smoothed_step(
    theta: Array, q: Array, magnet: Array, eta: float, alpha: float, gamma: float
) -> Array:
    """`log(max(exp(c) / Z, floor))`, row by row: the mirror step of the smoothed entropy.

    Here `c = (theta + eta (q + alpha magnet)) / (1 + eta alpha)`, `floor` is `gamma` over the
    number of the row's legal actions, and `Z` is the number that makes the row's probabilities sum
    to 1. All arrays are `(rows, actions)`. Where `theta` is `-inf`, the action is illegal and the
    result is `-inf`.

    `Z` is found in passes. Raising an action to the floor takes mass from the others, so `Z` rises,
    and an action that one pass clips is clipped in the next one too.
    """
    out = np.empty_like(theta)
    weight = np.empty(theta.shape[1])
    shrink = 1.0 / (1.0 + eta * alpha)
    for r in range(theta.shape[0]):
        top, legal = -np.inf, 0
        for a in range(theta.shape[1]):
            out[r, a] = theta[r, a]
            if theta[r, a] != -np.inf:
                out[r, a] = (theta[r, a] + eta * (q[r, a] + alpha * magnet[r, a])) * shrink
                legal += 1
            top = max(top, out[r, a])
        if abs(top) > LARGE:
            for a in range(theta.shape[1]):
                out[r, a] -= top
            top = 0.0
        for a in range(theta.shape[1]):
            weight[a] = math.exp(out[r, a] - top)
        floor = gamma / legal
        scale, kept = 0.0, legal + 1
        while True:
            total, count = 0.0, 0
            for a in range(theta.shape[1]):
                if out[r, a] != -np.inf and not weight[a] < scale * floor:  # not `>=`: NaN is kept
                    total += weight[a]
                    count += 1
            if count >= kept:  # `>`, if rounding lets a clipped action come back: stop then too
                break
            kept = count
            scale = total / (1.0 - floor * (legal - count))
        shift, bottom = top + math.log(scale), math.log(floor)
        for a in range(theta.shape[1]):
            if out[r, a] != -np.inf:
                out[r, a] = bottom if weight[a] < scale * floor else out[r, a] - shift
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def unsmoothed(theta: Array, gamma: float) -> Array:
    """`(exp(theta) - floor) / (1 - gamma)`, row by row: the play `p` behind smoothed `theta`.

    `floor` is `gamma` over the number of legal actions. Differences below 0 are rounding and become
    0; then each row is normalised. All arrays are `(rows, actions)`; 0 at illegal actions.
    """
    out = np.zeros_like(theta)
    for r in range(theta.shape[0]):
        legal = 0
        for a in range(theta.shape[1]):
            legal += theta[r, a] != -np.inf
        floor, total = gamma / legal, 0.0
        for a in range(theta.shape[1]):
            if theta[r, a] != -np.inf:
                excess = math.exp(theta[r, a]) - floor
                out[r, a] = 0.0 if excess <= 0.0 else excess  # not `max`: NaN stays NaN
                total += out[r, a]
        for a in range(theta.shape[1]):
            out[r, a] /= total
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def smoothed_inverse_hessian(theta: Array, gamma: float, edge: float) -> Array:
    """`exp(theta) / (1 - gamma)` where `exp(theta) > floor * (1 + edge)`, else 0.

    `floor` is `gamma` over the row's number of legal actions. All arrays are `(rows, actions)`.
    """
    out = np.zeros_like(theta)
    for r in range(theta.shape[0]):
        legal = 0
        for a in range(theta.shape[1]):
            legal += theta[r, a] != -np.inf
        for a in range(theta.shape[1]):
            pi = math.exp(theta[r, a])
            if pi > gamma / legal * (1.0 + edge):
                out[r, a] = pi / (1.0 - gamma)
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def symmetrised(theta: Array, other: Array, p: Array, p_other: Array) -> float:
    """`sum (theta - other) (p - p_other)` over the legal actions of all rows, a number."""
    total = 0.0
    for r in range(theta.shape[0]):
        for a in range(theta.shape[1]):
            if theta[r, a] != -np.inf:
                total += (theta[r, a] - other[r, a]) * (p[r, a] - p_other[r, a])
    return total


@njit(cache=True, fastmath=FAST, error_model="numpy")
def weighted_squares(weights: Array, q: Array, centred: bool) -> float:
    """`sum weights (q - c)^2` over all rows, a number.

    `c` is the row's mean of `q` under `weights` if `centred`, else 0.
    """
    squares = 0.0
    for r in range(q.shape[0]):
        total, first = 0.0, 0.0
        for a in range(q.shape[1]):
            total += weights[r, a]
            first += weights[r, a] * q[r, a]
        mean = first / total if centred else 0.0
        for a in range(q.shape[1]):
            squares += weights[r, a] * (q[r, a] - mean) ** 2
    return squares


@njit(cache=True, fastmath=FAST, error_model="numpy")
def bilinear(payoff: Array, x: Array, y: Array) -> Array:
    """`[payoff @ y, -(x @ payoff)]` in a single pass over `payoff`, `(n, m)`.

    `x` is `(n,)` and `y` is `(m,)`. The result is `(2, max(n, m))`, padded with zeros.
    """
    n, m = payoff.shape
    out = np.zeros((2, max(n, m)))
    for i in range(n):
        # Both products from one pass: a large matrix is read from memory once instead of twice.
        row, weight, total = payoff[i], x[i], 0.0
        for j in range(m):
            total += row[j] * y[j]
            out[1, j] -= row[j] * weight
        out[0, i] = total
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def log_coordinates(probs: Array, legal: Mask, zero: float) -> Array:
    """`where(legal, where(probs > 0, log(probs), zero), -inf)`, `(rows, actions)`."""
    out = np.empty_like(probs)
    for r in range(probs.shape[0]):
        for a in range(probs.shape[1]):
            if not legal[r, a]:
                out[r, a] = -np.inf
            elif probs[r, a] <= 0.0:  # False for NaN, which therefore stays NaN
                out[r, a] = zero
            else:
                out[r, a] = math.log(probs[r, a])
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def pure(q: Array, legal: Mask) -> Array:
    """Probability 1 at the first legal action of largest `q` in each row, `(rows, actions)`."""
    out = np.zeros_like(q)
    for r in range(q.shape[0]):
        best = -1
        for a in range(q.shape[1]):
            if legal[r, a] and (best < 0 or q[r, a] > q[r, best]):
                best = a
        out[r, best] = 1.0
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def advantages(probs: Array, values: Array) -> Array:
    """`values - sum(probs * values)` in each row, `(rows, actions)`."""
    out = np.empty_like(values)
    for r in range(values.shape[0]):
        mean = 0.0
        for a in range(values.shape[1]):
            mean += probs[r, a] * values[r, a]
        for a in range(values.shape[1]):
            out[r, a] = values[r, a] - mean
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def proportional(weights: Array, legal: Mask) -> Array:
    """`max(weights, 0)` over its sum in each row (regret matching), `(rows, actions)`.

    A row whose sum is 0 becomes uniform over its legal actions. 0 at illegal actions.
    """
    out = np.zeros_like(weights)
    for r in range(weights.shape[0]):
        total, count = 0.0, 0
        for a in range(weights.shape[1]):
            if legal[r, a]:
                count += 1
                # Not `> 0`: that is False for NaN, which would end as uniform play, unseen.
                if not weights[r, a] <= 0.0:
                    out[r, a] = weights[r, a]
                    total += weights[r, a]
        for a in range(weights.shape[1]):
            if not total <= 0.0:
                out[r, a] /= total
            elif legal[r, a]:
                out[r, a] = 1.0 / count
    return out
