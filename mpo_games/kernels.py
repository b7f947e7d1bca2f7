"""The inner loops of tables, compiled on first use and cached beside this file.

Sums may be reassociated (that is what makes them fast); NaN and infinity keep their meaning.
The NumPy equations they are tested against stand in their docstrings.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from mpo_games.protocol import Array, Mask

FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, fastmath=FAST, error_model="numpy")
def entropy_step(log_p: Array, q: Array, log_magnet: Array, eta: float, alpha: float) -> Array:
    """`log_softmax((log_p + eta * (q + alpha * log_magnet)) / (1 + eta * alpha))`, row by row.

    All arrays are `(rows, actions)`; `log_p = -inf` marks an illegal action and stays.
    """
    out = np.empty_like(log_p)
    shrink = 1.0 / (1.0 + eta * alpha)
    for r in range(log_p.shape[0]):
        top = -np.inf
        for a in range(log_p.shape[1]):
            if log_p[r, a] == -np.inf:
                out[r, a] = -np.inf
            else:
                z = (log_p[r, a] + eta * (q[r, a] + alpha * log_magnet[r, a])) * shrink
                out[r, a] = z
                top = max(top, z)
        total = 0.0
        for a in range(log_p.shape[1]):
            total += math.exp(out[r, a] - top)
        shift = top + math.log(total)
        for a in range(log_p.shape[1]):
            out[r, a] -= shift
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def bilinear(payoff: Array, x: Array, y: Array) -> Array:
    """`[payoff @ y, -(x @ payoff)]` in a single pass over `payoff`, rows padded with zeros."""
    n, m = payoff.shape
    out = np.zeros((2, max(n, m)))
    for i in range(n):
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
            elif probs[r, a] <= 0.0:  # NaN is not: it stays NaN
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
def proportional(weights: Array, legal: Mask) -> Array:
    """`max(weights, 0)` over its sum in each row; uniform over the legal where that is 0."""
    out = np.zeros_like(weights)
    for r in range(weights.shape[0]):
        total, count = 0.0, 0
        for a in range(weights.shape[1]):
            if legal[r, a]:
                count += 1
                # Not `> 0`: NaN must not turn into uniform play.
                if not weights[r, a] <= 0.0:
                    out[r, a] = weights[r, a]
                    total += weights[r, a]
        for a in range(weights.shape[1]):
            if not total <= 0.0:
                out[r, a] /= total
            elif legal[r, a]:
                out[r, a] = 1.0 / count
    return out
