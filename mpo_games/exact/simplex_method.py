r"""Matrix games by a compiled dense simplex method, refined on its final basis.

Payoffs $B$ are first shifted and scaled so that the game's value is at least 1 (by default to
$[1, 2]$). The column player's programme is then $\max\sum_j v_j$ subject to $Bv \le 1$, $v \ge 0$.
The value is $1/\sum_j v_j$, the column policy is $v$ times the value, and the row policy is the
multipliers times the value. The slacks are a feasible start.

The tableau is condensed: the identity columns of the basic variables are not stored. The entering
variable is chosen by steepest edge (Goldfarb & Reid 1977), whose norms the elimination computes on
its way. The leaving variable is chosen by the lexicographic rule (Dantzig, Orden & Wolfe 1955), so
that ties cannot make the method cycle.

Shapes: payoffs are `(n, m)`, a pair of policies is `(2, max(n, m))`. `basic` holds the number of
each row's basic variable, `(n,)`, and `free` that of each column's free one, `(m,)`. Variables
below `m` are columns of the game, and `m + i` is the slack of row `i`.
"""

from __future__ import annotations

import math

import numpy as np

from mpo_games.kernels.caching import njit
from mpo_games.kernels.tables import FAST, LOG_ZERO, bilinear
from mpo_games.protocol import Array, Indices, Mask

OPTIMAL = 1e-15
"""A reduced cost at or below this counts as 0. It is as small as rounding because in badly scaled
games differences of this size still decide."""

PIVOT = 1e-13
"""Elements at or below this are not pivoted on."""

TIE = 1e-15
"""Two ratios tie if they differ by at most this."""

TINY = 1e-290
"""Payoffs of a smaller range are not solved: the reciprocal of the range would overflow."""

REFINEMENTS = 3
"""Most Newton steps on the indifference equations of the basis. The first does nearly all."""

ROUNDING = 4e-16
"""A duality gap of at most this share of the payoffs' range is rounding."""

BLOCK = 4
"""Rows eliminated in one pass. The pass loads the pivot row and the norms once for all of them."""

LANES = 16
"""Each row of the tableau is padded to a multiple of this, so that vectorised loops have no
remainder."""

SUPPORT = 1e-9
"""An action belongs to the support of an equilibrium if its probability is above this."""

GAP_LIMIT = 1e-9
"""The largest duality gap of an answer, as a share of the payoffs that are played."""

STORED = 1e-13
"""A gap of this share of what a best response meets is the rounding of a stored policy. A
probability is stored by its logarithm, and the rounding error of that may be as large as 5e-14."""

Certified = tuple[Array, Mask, float, float, float]
"""Log-probabilities and support, both `(2, max(n, m))`; value; duality gap; and the duality gap
divided by the payoffs that are played (see `certificate`), which is at most `GAP_LIMIT`."""


@njit(cache=True, fastmath=FAST, error_model="numpy")
def certified_pair(payoff: Array) -> Certified:
    """The optimal pair of `payoff`, `(n, m)`, with its certificate."""
    return certificate(payoff, optimal_pair(payoff))


@njit(cache=True, fastmath=FAST, error_model="numpy")
def certificate(payoff: Array, pair: Array) -> Certified:
    r"""The value and the duality gap of `pair`, probabilities `(2, max(n, m))`, as it is stored.

    A policy is stored in logarithms, so the certificate is that of their exponentials. The payoffs
    that are played are measured by their mean absolute distance from the value $v$,

    $$D = \max_{i\in S} \sum_j y_j |A_{ij} - v|$$

    over the support, and likewise for columns. A payoff that nobody plays does not count, however
    large it is, and neither does a constant. `D`, plus `STORED / GAP_LIMIT` times the same number
    of the best responses, divides the gap.
    """
    n, m = payoff.shape
    log_p = np.full(pair.shape, -np.inf)
    played = np.zeros(pair.shape)
    support = np.zeros(pair.shape, dtype=np.bool_)
    for side, size in enumerate((n, m)):
        for a in range(size):
            p = pair[side, a]
            log_p[side, a] = LOG_ZERO if p <= 0.0 else math.log(p)  # NaN stays NaN
            played[side, a] = math.exp(log_p[side, a])
            support[side, a] = played[side, a] > SUPPORT
    # Less a payoff that is played: the distances from it are exact up to their own last digit.
    centre = payoff[played[0].argmax(), played[1].argmax()]
    worth = centred_bilinear(payoff, centre, played[0, :n], played[1, :m])
    above = 0.0
    for a in range(n):
        above += played[0, a] * worth[0, a]
    value = centre + above
    best_row, best_column = worth[0, :n].argmax(), worth[1, :m].argmax()
    gap = worth[0, best_row] + worth[1, best_column]
    spread, met, farthest = 0.0, 0.0, 0.0
    for i in range(n):
        if support[0, i] or i == best_row:
            total = 0.0
            for j in range(m):
                far = abs(payoff[i, j] - value)
                total += played[1, j] * far
                if support[1, j] and support[0, i]:
                    farthest = max(farthest, far)
            met = max(met, total)
            if support[0, i]:
                spread = max(spread, total)
    for j in range(m):
        if support[1, j] or j == best_column:
            total = 0.0
            for i in range(n):
                total += played[0, i] * abs(payoff[i, j] - value)
            met = max(met, total)
            if support[1, j]:
                spread = max(spread, total)
    size = spread + STORED / GAP_LIMIT * met
    # Products of denormal numbers may vanish, and a gap of 0 would then prove nothing.
    if farthest > 0.0 and size < TINY:
        return log_p, support, value, gap, np.inf
    return log_p, support, value, gap, gap / size if size > 0.0 else gap


@njit(cache=True, fastmath=FAST, error_model="numpy")
def centred_bilinear(payoff: Array, centre: float, x: Array, y: Array) -> Array:
    """`bilinear(payoff - centre, x, y)`, without a copy of the payoffs."""
    n, m = payoff.shape
    out = np.zeros((2, max(n, m)))
    for i in range(n):
        row, weight, total = payoff[i], x[i], 0.0
        for j in range(m):
            far = row[j] - centre
            total += far * y[j]
            out[1, j] -= far * weight
        out[0, i] = total
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def optimal_pair(payoff: Array) -> Array:
    """Optimal policies of the row player and of the column player of `payoff`, `(n, m)`.

    Returns probabilities, `(2, max(n, m))`, padded with zeros. They carry no guarantee: the caller
    certifies them. All are NaN if the method fails, or if the range of the payoffs is infinite or
    below `TINY`.
    """
    n, m = payoff.shape
    low = payoff.min()
    unit = payoff.max() - low
    if unit == 0.0:
        pair = np.zeros((2, max(n, m)))
        pair[0, :n], pair[1, :m] = 1.0 / n, 1.0 / m
        return pair
    return optimal_pair_above(payoff, low, unit)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def optimal_pair_above(payoff: Array, low: float, unit: float) -> Array:
    """`optimal_pair` of a game whose value is at least `low`; `unit` is the size of its payoffs.

    The nearer both are to the payoffs that are played, the more digits these keep.
    """
    n, m = payoff.shape
    pair = np.zeros((2, max(n, m)))
    if not TINY < unit < np.inf:  # True for NaN as well
        pair[:] = np.nan
        return pair

    tableau, norms = _start(payoff, low, unit)
    basic, free = np.arange(m, m + n), np.arange(m)
    factors, pivot = np.empty(len(tableau)), np.empty(len(norms))
    # In exact arithmetic the loop ends by itself; rounding could make it cycle.
    for _ in range(50 * (n + m)):
        # Without the right-hand side, which rounding errors may make look like a gain.
        entering = _steepest(tableau[n, :m], norms)
        if entering < 0:
            _read(tableau, basic, free, pair)
            return _refined(payoff, unit, tableau, basic, free, pair)
        leaving = _leaving(tableau, basic, free, entering)
        if leaving < 0:
            break
        _pivot(tableau, norms, factors, pivot, leaving, entering)
        basic[leaving], free[entering] = free[entering], basic[leaving]
    pair[:] = np.nan
    return pair


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _start(payoff: Array, low: float, unit: float) -> tuple[Array, Array]:
    """The first tableau and the squared norms of its columns.

    Row `n` holds the reduced costs, column `m` the right-hand side. Rows and columns are padded
    with zeros to multiples of `BLOCK` and `LANES`.
    """
    n, m = payoff.shape
    # The padding is never empty, so there is always room for row n and column m.
    tableau = np.zeros((n + BLOCK - n % BLOCK, m + LANES - m % LANES))
    # 1 for the entering variable's own move along the edge, 1 for its reduced cost.
    norms = np.full(tableau.shape[1], 2.0)
    scale = 1.0 / unit
    for i in range(n):
        for j in range(m):
            tableau[i, j] = (payoff[i, j] - low) * scale + 1.0
            norms[j] += tableau[i, j] ** 2
        tableau[i, m] = 1.0
    tableau[n, :m] = 1.0
    return tableau, norms


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _steepest(gains: Array, norms: Array) -> int:
    """The column with the largest gain per length of its edge; -1 at the optimum.

    The norms include the squared gain `g^2`, since the elimination runs over that row too. This
    changes no comparison: `g^2 / (length^2 + g^2)` grows with `g^2 / length^2`.
    """
    chosen, best, norm = -1, 0.0, 1.0
    for j in range(len(gains)):
        # Cross-multiplied, because divisions are slower than products.
        if gains[j] > OPTIMAL and gains[j] * gains[j] * norm > best * norms[j]:
            chosen, best, norm = j, gains[j] * gains[j], norms[j]
    return chosen


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _leaving(tableau: Array, basic: Indices, free: Indices, entering: int) -> int:
    """The row with the smallest ratio; of tied rows the lexicographically first; -1 if none."""
    chosen, least, m = -1, np.inf, len(free)
    for i in range(len(basic)):
        if tableau[i, entering] > PIVOT:
            ratio = tableau[i, m] / tableau[i, entering]
            if ratio < least - TIE or (
                ratio <= least + TIE and _precedes(tableau, basic, free, entering, i, chosen)
            ):
                chosen, least = i, ratio
    return chosen


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _precedes(
    tableau: Array, basic: Indices, free: Indices, entering: int, one: int, other: int
) -> bool:
    """Whether row `one` of the inverse basis comes before row `other`, lexicographically.

    Each row is divided by its element in the column `entering`.
    """
    n, m = len(basic), len(free)
    first, second = np.zeros(n), np.zeros(n)
    # The columns of the slacks are the inverse basis; the column of a basic slack is a unit vector.
    for j in range(m):
        if free[j] >= m:
            first[free[j] - m] = tableau[one, j] / tableau[one, entering]
            second[free[j] - m] = tableau[other, j] / tableau[other, entering]
    if basic[one] >= m:
        first[basic[one] - m] = 1.0 / tableau[one, entering]
    if basic[other] >= m:
        second[basic[other] - m] = 1.0 / tableau[other, entering]
    for k in range(n):
        if abs(first[k] - second[k]) > TIE:
            return bool(first[k] < second[k])
    return False


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _pivot(
    tableau: Array,
    norms: Array,
    factors: Array,
    pivot: Array,
    leaving: int,
    entering: int,
) -> None:
    """Exchange a basic and a free variable, and compute the norms of the new columns.

    `factors` and `pivot` are scratch space of the length of a column and of a row.
    """
    scale = 1.0 / tableau[leaving, entering]
    for i in range(len(tableau)):
        factors[i], tableau[i, entering] = tableau[i, entering], 0.0
    # With these values the loop below also computes the pivot row, without a branch: 0 + 1 * pivot.
    factors[leaving], tableau[leaving, entering] = -1.0, 1.0
    for j in range(len(pivot)):
        pivot[j], tableau[leaving, j] = tableau[leaving, j] * scale, 0.0
        norms[j] = 1.0
    for i in range(0, len(tableau), BLOCK):
        f, g, h, k = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
        for j in range(len(pivot)):
            # All four are computed before a store, since the compiler must assume an overlap.
            p = tableau[i, j] - f * pivot[j]
            q = tableau[i + 1, j] - g * pivot[j]
            r = tableau[i + 2, j] - h * pivot[j]
            s = tableau[i + 3, j] - k * pivot[j]
            norms[j] += p * p + q * q + r * r + s * s
            tableau[i, j], tableau[i + 1, j], tableau[i + 2, j], tableau[i + 3, j] = p, q, r, s


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _read(tableau: Array, basic: Indices, free: Indices, pair: Array) -> None:
    """Write the policies of the final tableau into `pair`.

    The column player plays the basic columns, the row player the multipliers of the tight rows.
    """
    n, m = len(basic), len(free)
    for i in range(n):
        if basic[i] < m:
            pair[1, basic[i]] = tableau[i, m]
    for j in range(m):
        if free[j] >= m:
            pair[0, free[j] - m] = -tableau[n, j]
    _normalise(pair)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _refined(
    payoff: Array, unit: float, tableau: Array, basic: Indices, free: Indices, pair: Array
) -> Array:
    """The pair after Newton steps with the inverse basis of the tableau, as long as the gap falls.

    On its support every action must have the same payoff. How much an action lacks is computed
    from `payoff` to the last digit, so an inverse that is right to a few digits corrects it.
    """
    n, m = len(basic), len(free)
    worth = bilinear(payoff, pair[0, :n], pair[1, :m])
    gap = worth[0, :n].max() + worth[1, :m].max()
    for _ in range(REFINEMENTS):
        if gap <= ROUNDING * unit:
            break
        moved = pair.copy()
        # Divided by `unit`, because the tableau is that of the scaled payoffs.
        lack = (worth[0, :n].max() - worth[0]) / unit
        spare = (worth[1] - worth[1, :m].max()) / unit
        for i in range(n):
            if basic[i] < m:
                for j in range(m):
                    if free[j] >= m:
                        moved[1, basic[i]] += tableau[i, j] * lack[free[j] - m]
                        moved[0, free[j] - m] += tableau[i, j] * spare[basic[i]]
        _normalise(moved)
        worth = bilinear(payoff, moved[0, :n], moved[1, :m])
        less = worth[0, :n].max() + worth[1, :m].max()
        if not less < gap:
            break
        pair, gap = moved, less
    return pair


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _normalise(pair: Array) -> None:
    """Raise negative rounding errors to 0, then scale both policies to sum 1, in place."""
    for side in pair:
        total = 0.0
        for a in range(len(side)):
            side[a] = max(side[a], 0.0)
            total += side[a]
        for a in range(len(side)):
            side[a] /= total
