r"""The inner loops of the smoothed dilated entropy, compiled on first use and cached.

$$d(z) = \sum_j \frac{w_j\, z_{p(j)}}{(1-\gamma)^2}\sum_{a\in j}\pi_a\log\pi_a,\qquad
\pi_a = (1-\gamma)\,x_a + \gamma/n_j,\quad x_a = z_a / z_{p(j)}$$

Arrays are laid out as in `tree_kernels`; a policy is stored by $\log\pi$, `log_pi`. At `gamma = 0`
this is the dilated entropy itself.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from mpo_games.elementary import exp, log
from mpo_games.kernels import FAST
from mpo_games.protocol import Array, Indices

EDGE = 1e-12
"""A smoothed probability this close to its floor, relatively, sits on it."""


@njit(fastmath=FAST, error_model="numpy")
def _exponentials(log_pi: Array) -> Array:
    out = np.empty_like(log_pi)
    for a in range(log_pi.size):
        out[a] = exp(log_pi[a])
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def behaviour(offset: Indices, log_pi: Array, gamma: float) -> Array:
    """`x = (pi - gamma / n) / (1 - gamma)`, at least 0 and normalised; 1 at empty sequences."""
    x = np.ones_like(log_pi)
    for j in range(offset.size - 1):
        floor, total = gamma / (offset[j + 1] - offset[j]), 0.0
        for a in range(offset[j], offset[j + 1]):
            excess = exp(log_pi[a]) - floor
            x[a] = 0.0 if excess <= 0.0 else excess  # so that NaN stays NaN
            total += x[a]
        for a in range(offset[j], offset[j + 1]):
            x[a] /= total
    return x


@njit(cache=True, fastmath=FAST, error_model="numpy")
def gradient(
    parent: Indices, offset: Indices, weights: Array, gamma: float, log_pi: Array
) -> Array:
    r"""`grad d`, up to a constant: `w log pi / (1 - gamma)` at an action, and at the parent of its
    state `w (sum pi log pi / (1 - gamma)^2 - sum x log pi / (1 - gamma))`."""
    out = np.zeros_like(log_pi)
    share = 1.0 / (1.0 - gamma)
    for j in range(parent.size):
        w, mean, floor = weights[j] * share, 0.0, gamma / (offset[j + 1] - offset[j])
        for a in range(offset[j], offset[j + 1]):
            # pi / (1 - gamma) - x is the floor's share, so the difference of the sums is this.
            mean += floor * share * log_pi[a]
            out[a] += w * log_pi[a]
        out[parent[j]] += w * mean
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def smoothed_step(
    parent: Indices,
    offset: Indices,
    block: Indices,
    weights: Array,
    gamma: float,
    log_pi: Array,
    plan: Array,
    q: Array,
    log_magnet: Array,
    eta: float,
    alpha: float,
    first: int,
    last: int,
) -> tuple[Array, Array]:
    """The mirror step of the states `first ... last - 1` (one player's, or all): `log_pi` and plan.

    Bottom-up, with `c = (grad d(self) + eta alpha grad d(magnet) + eta q) / (1 + eta alpha)` plus
    the values of the states below: `log pi' = (1 - gamma) c / w` up to a constant, clipped at
    `gamma / n`; a state is worth `<c, x'> - w sum pi' log pi' / (1 - gamma)^2`.
    """
    out, z, c = log_pi.copy(), plan.copy(), np.zeros_like(log_pi)
    tops, means = np.empty(last), np.empty(last)
    scales, shifts = np.empty(last), np.empty(last)
    share = 1.0 / (1.0 - gamma)
    pull, shrink = eta * alpha, 1.0 / (1.0 + eta * alpha)
    for k in range(block.size - 2, -1, -1):
        low, high = max(block[k], first), min(block[k + 1], last)
        if low >= high:
            continue
        n = offset[low + 1] - offset[low]
        floor = gamma / n
        bottom = math.log(floor) if gamma > 0.0 else -np.inf
        for j in range(low, high):
            w, top, mean = weights[j], -np.inf, 0.0
            for a in range(offset[j], offset[j] + n):
                old = (log_pi[a] + pull * log_magnet[a]) * shrink
                mean += floor * share * old
                c[a] += w * share * old + eta * shrink * q[a]
                top = max(top, c[a])
            tops[j], means[j] = top, mean
            rate = 1.0 / (share * w)
            for a in range(offset[j], offset[j] + n):
                out[a] = (c[a] - top) * rate
        for a in range(offset[low], offset[high]):
            z[a] = exp(out[a])
        for j in range(low, high):
            scale, kept = 0.0, n + 1
            while True:
                total, count = 0.0, 0
                for a in range(offset[j], offset[j] + n):
                    if not z[a] < scale * floor:  # so that NaN stays NaN
                        total += z[a]
                        count += 1
                if count >= kept:  # the clipped never come back, but for rounding
                    break
                kept = count
                scale = total / (1.0 - floor * (n - count)) if count < n else total
            scales[j] = scale
        for j in range(low, high):
            shifts[j] = log(scales[j])
        for j in range(low, high):
            shift, inverse = shifts[j], 1.0 / scales[j]
            worth, entropy = 0.0, 0.0
            for a in range(offset[j], offset[j] + n):
                if z[a] < scales[j] * floor:
                    out[a], z[a] = bottom, 0.0
                    entropy += floor * bottom
                else:
                    out[a] -= shift
                    pi = z[a] * inverse
                    entropy += pi * out[a] if pi > 0.0 else 0.0
                    z[a] = (pi - floor) * share
                    worth += (c[a] - tops[j]) * z[a]
            w = weights[j] * share
            c[parent[j]] += tops[j] + worth - w * share * entropy + w * means[j]
    for j in range(first, last):
        reach = z[parent[j]]
        for a in range(offset[j], offset[j + 1]):
            z[a] *= reach
    return out, z


@njit(cache=True, fastmath=FAST, error_model="numpy")
def squared_distance(
    parent: Indices,
    offset: Indices,
    weights: Array,
    gamma: float,
    log_pi: Array,
    plan: Array,
    other: Array,
    plan_other: Array,
) -> float:
    """`sum_j w_j z_p <log pi - log pi', pi - pi'> / (1 - gamma)^2` at the mean reach `z_p`."""
    total, share = 0.0, 1.0 / (1.0 - gamma)
    pi, theirs = _exponentials(log_pi), _exponentials(other)
    for j in range(parent.size):
        local = 0.0
        for a in range(offset[j], offset[j + 1]):
            local += (log_pi[a] - other[a]) * (pi[a] - theirs[a])
        reach = 0.5 * (plan[parent[j]] + plan_other[parent[j]])
        total += weights[j] * share * share * reach * local
    return total


@njit(cache=True, fastmath=FAST, error_model="numpy")
def squared_dual_norm(
    parent: Indices,
    offset: Indices,
    weights: Array,
    gamma: float,
    log_pi: Array,
    plan: Array,
    q: Array,
    centred: bool,
) -> float:
    """`sum_j z_p / w_j sum_a pi (t - c)^2` over the actions that are played.

    `t` is `q` plus the mean values, under play, of the states below; `c` their mean at the state,
    or 0.
    """
    t, total, share = q.copy(), 0.0, 1.0 / (1.0 - gamma)
    played = _exponentials(log_pi)
    for j in range(parent.size - 1, -1, -1):
        floor = gamma / (offset[j + 1] - offset[j])
        mass, first, mean, norm = 0.0, 0.0, 0.0, 0.0
        for a in range(offset[j], offset[j + 1]):
            pi = played[a]
            if pi > floor * (1.0 + EDGE):
                mass += pi
                first += pi * t[a]
                x = (pi - floor) * share
                norm += x
                mean += x * t[a]
        centre, local = first / mass if centred else 0.0, 0.0
        for a in range(offset[j], offset[j + 1]):
            pi = played[a]
            if pi > floor * (1.0 + EDGE):
                local += pi * (t[a] - centre) ** 2
        total += plan[parent[j]] / weights[j] * local
        t[parent[j]] += mean / norm
    return total
