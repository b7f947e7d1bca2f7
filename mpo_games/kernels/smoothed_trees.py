r"""The inner loops of the smoothed dilated entropy, compiled on first use and cached.

$$d(z) = \sum_j \frac{w_j\, z_{p(j)}}{(1-\gamma)^2}\sum_{a\in j}\pi_a\log\pi_a,\qquad
\pi_a = (1-\gamma)\,x_a + \gamma/n_j,\quad x_a = z_a / z_{p(j)}$$

The sum runs over the information states $j$. State $j$ has weight $w_j$ and $n_j$ actions, and
$p(j)$ is the sequence that leads to it. The plan is $z$, the behavioural policy $x$. At `gamma = 0`
this is the dilated entropy itself.

Arrays are laid out as in `kernels.trees`. A policy is stored by `log_pi`, the logarithms of
$\pi$, `(sequences,)`. In the code, `share` is $1/(1-\gamma)$ and `floor` is $\gamma/n_j$.
"""

from __future__ import annotations

import math

import numpy as np

from mpo_games.kernels.caching import njit
from mpo_games.kernels.elementary import exp, log
from mpo_games.kernels.tables import FAST
from mpo_games.protocol import Array, Indices

EDGE = 1e-12
"""A smoothed probability counts as clipped if it exceeds its floor by at most this share."""


# A loop of its own, so that the compiler vectorises it; per state the loops are too short.
@njit(fastmath=FAST, error_model="numpy")
def _exponentials(log_pi: Array) -> Array:
    out = np.empty_like(log_pi)
    for a in range(log_pi.size):
        out[a] = exp(log_pi[a])
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def behaviour(offset: Indices, log_pi: Array, gamma: float) -> Array:
    """`x = (pi - gamma / n) / (1 - gamma)`, the behavioural policy, `(sequences,)`.

    Differences below 0 are rounding and become 0; then each state is normalised. 1 at the empty
    sequences.
    """
    x = np.ones_like(log_pi)
    for j in range(offset.size - 1):
        floor, total = gamma / (offset[j + 1] - offset[j]), 0.0
        for a in range(offset[j], offset[j + 1]):
            excess = exp(log_pi[a]) - floor
            x[a] = 0.0 if excess <= 0.0 else excess  # not `max`: NaN stays NaN
            total += x[a]
        for a in range(offset[j], offset[j + 1]):
            x[a] /= total
    return x


@njit(cache=True, fastmath=FAST, error_model="numpy")
def gradient(
    parent: Indices, offset: Indices, weights: Array, gamma: float, log_pi: Array
) -> Array:
    r"""`grad d` up to terms that cancel in a mirror step, `(sequences,)`.

    An action receives `w log pi / (1 - gamma)`, and the parent of its state
    `w (sum pi log pi / (1 - gamma)^2 - sum x log pi / (1 - gamma))`.
    """
    out = np.zeros_like(log_pi)
    share = 1.0 / (1.0 - gamma)
    for j in range(parent.size):
        w, mean, floor = weights[j] * share, 0.0, gamma / (offset[j + 1] - offset[j])
        for a in range(offset[j], offset[j + 1]):
            # Both sums at once, without cancellation: `pi share - x` is `floor share`.
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

    Bottom-up, `c = (grad d(self) + eta alpha grad d(magnet) + eta q) / (1 + eta alpha)` plus the
    values of the states below. Then `log pi' = (1 - gamma) c / w` up to a constant, clipped at
    `gamma / n`, and the state's value is `<c, x'> - w sum pi' log pi' / (1 - gamma)^2`.

    `block` is that of `Tree`; `log_pi`, `plan`, `q` and `log_magnet` are `(sequences,)`. Both
    results are `(sequences,)` and keep the old values outside the states of the step.
    """
    out, z, value = log_pi.copy(), plan.copy(), np.zeros_like(log_pi)
    by_sequence, by_state = np.empty((2, log_pi.size)), np.empty((9, parent.size))
    w, top, mean, inverse, scale = (by_state[0], by_state[1], by_state[2], by_state[3], by_state[4])
    total, count, shift, worth = by_state[5], by_state[6], by_state[7], by_state[8]
    share, shrink = 1.0 / (1.0 - gamma), 1.0 / (1.0 + eta * alpha)
    pull, push = shrink * eta * alpha, shrink * eta
    for b in range(block.size - 2, -1, -1):
        # A block may hold states of both players, of whom perhaps only one steps.
        low, high = max(block[b], first), min(block[b + 1], last)
        if low >= high:
            continue
        begin, end, n = offset[low], offset[high], high - low
        size = (end - begin) // n
        floor = gamma / size
        bottom = math.log(floor) if gamma > 0.0 else -np.inf
        # Stored as (actions, states), so that loops run over states: see `trees._dilated_step`.
        c = by_sequence[0, begin:end].reshape(size, n)
        e = by_sequence[1, begin:end].reshape(size, n)
        old, magnet = log_pi[begin:end].reshape(n, size), log_magnet[begin:end].reshape(n, size)
        g, v = q[begin:end].reshape(n, size), value[begin:end].reshape(n, size)
        new, x = out[begin:end].reshape(n, size), z[begin:end].reshape(n, size)
        for j in range(n):
            w[j], top[j], mean[j] = weights[low + j] * share, -np.inf, 0.0
            inverse[j], scale[j] = 1.0 / w[j], 0.0
        for a in range(size):
            for j in range(n):
                y = shrink * old[j, a] + pull * magnet[j, a]
                mean[j] += floor * share * y
                y = w[j] * y + push * g[j, a] + v[j, a]
                c[a, j] = y
                top[j] = max(top[j], y)
        for a in range(size):
            for j in range(n):
                c[a, j] = (c[a, j] - top[j]) * inverse[j]
                e[a, j] = exp(c[a, j])
        # As in `tables.smoothed_step`, a block at a time: a pass that clips nothing is the last.
        left, before = n * size + 1, n * size + 2
        while left < before:
            before, kept = left, 0.0
            for j in range(n):
                total[j], count[j] = 0.0, 0.0
            for a in range(size):
                for j in range(n):
                    clipped = e[a, j] < scale[j] * floor  # False for NaN, which is kept
                    total[j] += 0.0 if clipped else e[a, j]
                    count[j] += 0.0 if clipped else 1.0
            for j in range(n):
                scale[j] = total[j] / (1.0 - floor * (size - count[j]))
                kept += count[j]
            left = int(kept)
        for j in range(n):
            shift[j], inverse[j], worth[j] = log(scale[j]), 1.0 / scale[j], 0.0
        for a in range(size):
            for j in range(n):
                clipped = e[a, j] < scale[j] * floor
                pi = floor if clipped else e[a, j] * inverse[j]
                log_new = bottom if clipped else c[a, j] - shift[j]
                play = 0.0 if clipped else (pi - floor) * share
                new[j, a], x[j, a] = log_new, play
                worth[j] += w[j] * (c[a, j] * play - share * pi * log_new)
        for j in range(n):
            value[parent[low + j]] += top[j] + worth[j] + w[j] * mean[j]
    # `z` still holds probabilities; parents stand before children, so this makes them a plan.
    for j in range(first, last):
        reach = z[parent[j]]
        for a in range(offset[j], offset[j + 1]):
            z[a] *= reach
    return out, z


@njit(cache=True, fastmath=FAST, error_model="numpy")
def reached(parent: Indices, weights: Array, plan: Array) -> float:
    """`sum_j w_j z_p(j)`: the weights, each times the plan's reach of its state; a number."""
    total = 0.0
    for j in range(parent.size):
        total += weights[j] * plan[parent[j]]
    return total


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
    """`sum_j w_j z_p <log pi - log pi', pi - pi'> / (1 - gamma)^2`, a number.

    `log_pi` and `other` are the two policies, `z_p` the mean of their plans at the state's parent.
    """
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
    """`sum_j z_p / w_j sum_a pi (t - c)^2` over the actions that are played, a number.

    `t` is `q` plus the values of the states below, each the mean of its `t` under play. `c` is the
    mean of `t` at the state, weighted by `pi`, if `centred`, else 0.
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
