"""The inner loops of trees: passes over flat arrays, compiled on first use and cached.

The sequences of both players share one numbering (see `Tree`): 0 and 1 are the empty sequences,
then the actions of each information state stand side by side, parents before children. A top-down
pass is therefore a loop over the states, and a bottom-up pass is the same loop reversed.

`parent` is `(states,)`, `offset` is `(states + 1,)`. Every kernel takes one run, in vectors
`(sequences,)`, or many, in matrices `(runs, sequences)`, and returns the same shape. The function
of the same name with an underscore handles one run; it is compiled into the cached public one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpo_games.kernels.caching import njit
from mpo_games.kernels.elementary import exp, log
from mpo_games.kernels.tables import FAST, LARGE, LOG_ZERO
from mpo_games.protocol import Array, Indices

# The smallest normal number: `log` does not take smaller ones.
_TINY = np.finfo(np.float64).tiny

BOTH = -1
"""The value of `player` that asks for both players."""


@njit(cache=True, fastmath=FAST, error_model="numpy")
def realisation_plan(parent: Indices, offset: Indices, probs: Array) -> Array:
    """The realisation plan of behavioural `probs`, top-down: `z[a] = z[parent] * probs[a]`."""
    z = probs.copy()
    if probs.ndim == 1:
        _realise(parent, offset, z)
    else:
        for i in range(z.shape[0]):
            _realise(parent, offset, z[i])
    return z


@njit(cache=True, fastmath=FAST, error_model="numpy")
def bilinear(row: Indices, column: Indices, payoff: Array, z: Array, player: int) -> Array:
    """`q[s] += u z[t]` and `q[t] -= u z[s]` for every payoff `u` at the sequences `s` and `t`.

    `row`, `(sequences + 1,)`, is the CSR row pointer over all sequences; `column` and `payoff` are
    its entries, `(entries,)`. With `player` 0 only the first half is computed, with 1 only the
    second; the entries of the other player stay 0.
    """
    q = np.zeros_like(z)
    if z.ndim == 1:
        _bilinear(row, column, payoff, z, player, q)
    else:
        for i in range(z.shape[0]):
            _bilinear(row, column, payoff, z[i], player, q[i])
    return q


@njit(cache=True, fastmath=FAST, error_model="numpy")
def dilated_step(
    parent: Indices,
    offset: Indices,
    block: Indices,
    weights: Array,
    log_p: Array,
    q: Array,
    log_magnet: Array,
    eta: Any,
    alpha: Any,
) -> tuple[Array, Array]:
    """The mirror step of the dilated entropy: log-probabilities and realisation plan.

    Bottom-up, `c = (w (log p + eta alpha log magnet) + eta q) / (1 + eta alpha)` plus the values of
    the states below. Then `log p' = log_softmax(c / w)`, and the state's value is
    `w logsumexp(c / w)`. A top-down pass makes the plan. `weights`, `w`, is `(states,)`; `block` is
    that of `Tree`. For many runs `eta` and `alpha` are `(runs,)`.
    """
    # Scratch space is allocated once and used by every run in turn.
    out, z = np.empty_like(log_p), np.empty_like(log_p)
    by_sequence, by_state = np.empty((3, log_p.shape[-1])), np.empty((3, parent.size))
    if log_p.ndim == 1:
        _dilated_step(
            parent,
            offset,
            block,
            weights,
            log_p,
            q,
            log_magnet,
            eta,
            alpha,
            by_sequence,
            by_state,
            out,
            z,
        )
    else:
        for i in range(log_p.shape[0]):
            _dilated_step(
                parent,
                offset,
                block,
                weights,
                log_p[i],
                q[i],
                log_magnet[i],
                eta[i],
                alpha[i],
                by_sequence,
                by_state,
                out[i],
                z[i],
            )
    return out, z


@njit(cache=True, error_model="numpy")
def best_response(parent: Indices, offset: Indices, q: Array) -> tuple[Array, Indices]:
    """Bottom-up maxima of `q`: the value of every sequence, and the best action of every state.

    The second result is `(states,)` or `(runs, states)`: the sequence of the first best action.
    """
    value = q.copy()
    best = np.empty(q.shape[:-1] + parent.shape, dtype=np.int64)
    if q.ndim == 1:
        _best_response(parent, offset, value, best)
    else:
        for i in range(q.shape[0]):
            _best_response(parent, offset, value[i], best[i])
    return value, best


@njit(cache=True, fastmath=FAST, error_model="numpy")
def action_values(parent: Indices, offset: Indices, probs: Array, q: Array) -> Array:
    """Bottom-up means of `q` under `probs`: the counterfactual value of every action."""
    value = q.copy()
    if q.ndim == 1:
        _action_values(parent, offset, probs, value)
    else:
        for i in range(q.shape[0]):
            _action_values(parent, offset, probs[i], value[i])
    return value


@njit(cache=True, fastmath=FAST, error_model="numpy")
def regrets(
    parent: Indices, offset: Indices, log_p: Array, q: Array, first: int, last: int
) -> Array:
    """`action_values` less their mean at the state, where play goes on by `log_p`; 0 at the states
    other than `first ... last - 1`."""
    value, out = q.copy(), np.zeros_like(q)
    if q.ndim == 1:
        _regrets(parent, offset, log_p, value, first, last, out)
    else:
        for i in range(q.shape[0]):
            _regrets(parent, offset, log_p[i], value[i], first, last, out[i])
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def centred(offset: Indices, probs: Array, values: Array) -> Array:
    """`values - <probs, values>` at every information state; 0 at the empty sequences."""
    out = np.empty_like(values)
    if values.ndim == 1:
        _centred(offset, probs, values, out)
    else:
        for i in range(values.shape[0]):
            _centred(offset, probs[i], values[i], out[i])
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def matching(
    parent: Indices,
    offset: Indices,
    weights: Array,
    log_p: Array,
    plan: Array,
    first: int,
    last: int,
) -> tuple[Array, Array]:
    """Log-probabilities and plan in proportion to the positive `weights` (regret matching).

    Done at the states `first ... last - 1`, uniformly where no weight is positive. The other states
    keep `log_p` and `plan`.
    """
    out, z = log_p.copy(), plan.copy()
    if weights.ndim == 1:
        _matching(parent, offset, weights, first, last, out, z)
    else:
        for i in range(weights.shape[0]):
            _matching(parent, offset, weights[i], first, last, out[i], z[i])
    return out, z


@njit(cache=True, fastmath=FAST, error_model="numpy")
def behaviour(parent: Indices, offset: Indices, plan: Array, spare: Array) -> tuple[Array, Array]:
    """Log-probabilities and plan from `plan`, whose sums need not be exact: it is normalised at
    each state. States that `plan` does not reach receive the log-probabilities `spare`."""
    out, z = np.empty_like(plan), np.empty_like(plan)
    if plan.ndim == 1:
        _behaviour(parent, offset, plan, spare, out, z)
    else:
        for i in range(plan.shape[0]):
            _behaviour(parent, offset, plan[i], spare[i], out[i], z[i])
    return out, z


@njit(fastmath=FAST, error_model="numpy")
def _realise(parent: Indices, offset: Indices, z: Array) -> None:
    """Turn the probabilities `z` into the plan, in place."""
    z[0] = z[1] = 1.0
    a = 2
    for j in range(parent.size):
        reach, end = z[parent[j]], offset[j + 1]
        while a < end:
            z[a] *= reach
            a += 1


# No "reassoc": one player's half must be, bit for bit, that half of the sum for both.
@njit(fastmath={"contract"}, error_model="numpy")
def _bilinear(
    row: Indices, column: Indices, payoff: Array, z: Array, player: int, q: Array
) -> None:
    for s in range(row.size - 1):
        total, weight = 0.0, z[s]
        # A loop for each case keeps the branch out of the loops over entries.
        if player == 0:
            for k in range(row[s], row[s + 1]):
                total += payoff[k] * z[column[k]]
        elif player == 1:
            for k in range(row[s], row[s + 1]):
                q[column[k]] -= payoff[k] * weight
        else:
            for k in range(row[s], row[s + 1]):
                total += payoff[k] * z[column[k]]
                q[column[k]] -= payoff[k] * weight
        q[s] += total


@njit(fastmath=FAST, error_model="numpy")
def _dilated_step(
    parent: Indices,
    offset: Indices,
    block: Indices,
    weights: Array,
    log_p: Array,
    q: Array,
    log_magnet: Array,
    eta: float,
    alpha: float,
    by_sequence: Array,
    by_state: Array,
    out: Array,
    z: Array,
) -> None:
    value = by_sequence[0]
    # The scratch space holds what an earlier run left in it.
    value[:] = 0.0
    shrink = 1.0 / (1.0 + eta * alpha)
    pull, push = shrink * eta * alpha, shrink * eta
    for b in range(block.size - 2, -1, -1):
        low, high = block[b], block[b + 1]
        begin, end, n = offset[low], offset[high], high - low
        size = (end - begin) // n
        # All states of a block have `size` actions. Stored as (actions, states), the inner loops
        # run over many states instead of a few actions, which is long enough to vectorise.
        c = by_sequence[1, begin:end].reshape(size, n)
        e = by_sequence[2, begin:end].reshape(size, n)
        p, m = log_p[begin:end].reshape(n, size), log_magnet[begin:end].reshape(n, size)
        g, v = q[begin:end].reshape(n, size), value[begin:end].reshape(n, size)
        p_new, z_new = out[begin:end].reshape(n, size), z[begin:end].reshape(n, size)
        w = weights[low:high]
        top, total, inverse = by_state[0, low:high], by_state[1, low:high], by_state[2, low:high]
        for j in range(n):
            top[j], total[j], inverse[j] = -np.inf, 0.0, 1.0 / w[j]
        for a in range(size):
            for j in range(n):
                x = shrink * p[j, a] + pull * m[j, a] + (push * g[j, a] + v[j, a]) * inverse[j]
                c[a, j] = x
                top[j] = max(top[j], x)
        for j in range(n):
            inverse[j] = 0.0
            if abs(top[j]) > LARGE:
                inverse[j], top[j] = top[j], 0.0
                for a in range(size):
                    c[a, j] -= inverse[j]
        # Less the maximum, so that no exponential overflows.
        for a in range(size):
            for j in range(n):
                x = exp(c[a, j] - top[j])
                e[a, j] = x
                total[j] += x
        for j in range(n):
            top[j] += log(total[j])
            total[j] = 1.0 / total[j]
        for a in range(size):
            for j in range(n):
                p_new[j, a] = c[a, j] - top[j]
                z_new[j, a] = e[a, j] * total[j]
        for j in range(n):
            value[parent[low + j]] += w[j] * (top[j] + inverse[j])
    out[0] = out[1] = 0.0
    # Until here `z` holds the new probabilities.
    _realise(parent, offset, z)


@njit(error_model="numpy")
def _best_response(parent: Indices, offset: Indices, value: Array, best: Indices) -> None:
    for j in range(parent.size - 1, -1, -1):
        choice = offset[j]
        for a in range(offset[j] + 1, offset[j + 1]):
            if value[a] > value[choice]:
                choice = a
        best[j] = choice
        value[parent[j]] += value[choice]


@njit(fastmath=FAST, error_model="numpy")
def _action_values(parent: Indices, offset: Indices, probs: Array, value: Array) -> None:
    for j in range(parent.size - 1, -1, -1):
        mean = 0.0
        for a in range(offset[j], offset[j + 1]):
            mean += probs[a] * value[a]
        value[parent[j]] += mean


@njit(fastmath=FAST, error_model="numpy")
def _regrets(
    parent: Indices, offset: Indices, log_p: Array, value: Array, first: int, last: int, out: Array
) -> None:
    # A loop of its own, so that the compiler vectorises the exponentials.
    for a in range(offset[first], offset[last]):
        out[a] = exp(log_p[a])
    for j in range(last - 1, first - 1, -1):
        mean = 0.0
        for a in range(offset[j], offset[j + 1]):
            mean += out[a] * value[a]
        for a in range(offset[j], offset[j + 1]):
            out[a] = value[a] - mean
        value[parent[j]] += mean


@njit(fastmath=FAST, error_model="numpy")
def _centred(offset: Indices, probs: Array, values: Array, out: Array) -> None:
    out[0] = out[1] = 0.0
    for j in range(offset.size - 1):
        mean = 0.0
        for a in range(offset[j], offset[j + 1]):
            mean += probs[a] * values[a]
        for a in range(offset[j], offset[j + 1]):
            out[a] = values[a] - mean


@njit(fastmath=FAST, error_model="numpy")
def _matching(
    parent: Indices, offset: Indices, weights: Array, first: int, last: int, out: Array, z: Array
) -> None:
    for j in range(first, last):
        begin, end = offset[j], offset[j + 1]
        total = 0.0
        for a in range(begin, end):
            # Not `w > 0`: that is False for NaN, which would end as uniform play, unseen.
            out[a] = 0.0 if weights[a] <= 0.0 else weights[a]
            total += out[a]
        # Parents stand before children, so this is the reach under the new play.
        reach = z[parent[j]]
        for a in range(begin, end):
            out[a] = 1.0 / (end - begin) if total <= 0.0 else out[a] / total
            z[a] = reach * out[a]
    _to_logarithms(out[offset[first] : offset[last]])


@njit(fastmath=FAST, error_model="numpy")
def _behaviour(
    parent: Indices, offset: Indices, plan: Array, spare: Array, out: Array, z: Array
) -> None:
    out[0] = out[1] = z[0] = z[1] = 1.0
    for j in range(parent.size):
        begin, end = offset[j], offset[j + 1]
        total = 0.0
        for a in range(begin, end):
            total += plan[a]
        if total <= _TINY:  # False for NaN, which therefore stays in the result
            for a in range(begin, end):
                out[a] = exp(spare[a])
        else:
            for a in range(begin, end):
                out[a] = plan[a] / total
        for a in range(begin, end):
            z[a] = z[parent[j]] * out[a]
    _to_logarithms(out)


@njit(fastmath=FAST, error_model="numpy")
def _to_logarithms(p: Array) -> None:
    """Replace probabilities by their logarithms, in place; a 0 becomes `LOG_ZERO`."""
    for a in range(p.size):
        p[a] = LOG_ZERO if p[a] < _TINY else log(p[a])
