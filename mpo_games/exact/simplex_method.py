r"""Matrix games by a compiled dense simplex method, refined on the basis it ends at.

With payoffs $B$ brought to $[1, 2]$, the column player's programme is $\max\sum_j v_j$ subject to
$Bv \le 1$, $v \ge 0$: the game's value is $1/\sum_j v_j$, the policy $v$ times it, and the
multipliers are the row player's. The slacks are a feasible start.

The tableau is condensed (no identity columns). Entering is by steepest edge (Goldfarb & Reid 1977),
whose norms fall out of the elimination; leaving is lexicographic (Dantzig, Orden & Wolfe 1955), so
that ties cannot make it cycle. Sums may be reassociated; NaN and infinity keep their meaning.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from mpo_games.kernels.tables import FAST, LOG_ZERO, bilinear
from mpo_games.protocol import Array, Indices, Mask

OPTIMAL = 1e-15
"""A reduced cost below this is none. As low as rounding: badly scaled games are decided there."""

PIVOT = 1e-13
"""The least element that is pivoted on."""

TIE = 1e-15
"""Ratios this near each other are equal."""

REFINEMENTS = 3
"""Newton steps on the basis's indifference equations, at most: the first does nearly all."""

ROUNDING = 4e-16
"""A duality gap of this share of the payoffs' range is rounding."""

BLOCK = 4
"""Rows eliminated in one pass, which loads the pivot row and the norms once for all of them."""

LANES = 16
"""The tableau's rows are padded to a whole number of these, which leaves no odd ends to a pass."""

SUPPORT = 1e-9
"""An action is in the support of an equilibrium above this probability."""

Certified = tuple[Array, Mask, float, float, float]
"""Log-probabilities, support, value, duality gap, and that in units of the largest payoff."""


@njit(cache=True, fastmath=FAST, error_model="numpy")
def certified_pair(payoff: Array) -> Certified:
    """The simplex method's pair with its certificate."""
    return certificate(payoff, optimal_pair(payoff))


@njit(cache=True, fastmath=FAST, error_model="numpy")
def certificate(payoff: Array, pair: Array) -> Certified:
    """What a pair of policies, `(2, max(n, m))`, guarantees as it is stored: in logarithms."""
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
    q = bilinear(payoff, played[0, :n], played[1, :m])
    value, bound = 0.0, 0.0
    for a in range(n):
        value += played[0, a] * q[0, a]
        for b in range(m):
            bound = max(bound, abs(payoff[a, b]))
    gap = q[0, :n].max() + q[1, :m].max()
    return log_p, support, value, gap, gap / bound if bound > 0.0 else gap


@njit(cache=True, fastmath=FAST, error_model="numpy")
def optimal_pair(payoff: Array) -> Array:
    """Optimal policies of the row and of the column player of `payoff`, `(n, m)`.

    `(2, max(n, m))` probabilities, padded with zeros. Without a guarantee: what it is worth is for
    the caller to certify. NaN if the method fails, or if the payoffs' range is not finite.
    """
    n, m = payoff.shape
    low, high = payoff.min(), payoff.max()
    unit = high - low
    pair = np.zeros((2, max(n, m)))
    if unit == 0.0:
        pair[0, :n], pair[1, :m] = 1.0 / n, 1.0 / m
        return pair
    if not unit < np.inf:
        pair[:] = np.nan
        return pair

    tableau, norms = _start(payoff, low, unit)
    # Variables by number: columns of the game first, then the rows' slacks.
    basic, free = np.arange(m, m + n), np.arange(m)
    factors, pivot = np.empty(len(tableau)), np.empty(len(norms))
    for _ in range(50 * (n + m)):
        entering = _steepest(tableau[n], norms)
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
    """The first tableau, with rows of zeros up to a whole number of blocks, and its norms.

    Row n holds the reduced costs, column m the right-hand side.
    """
    n, m = payoff.shape
    tableau = np.zeros((n + BLOCK - n % BLOCK, m + LANES - m % LANES))
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
    """The column of largest gain per length of its edge; -1 at the optimum.

    The norms hold the gain too, which changes no comparison.
    """
    chosen, best, norm = -1, 0.0, 1.0
    for j in range(len(gains) - 1):
        if gains[j] > OPTIMAL and gains[j] * gains[j] * norm > best * norms[j]:
            chosen, best, norm = j, gains[j] * gains[j], norms[j]
    return chosen


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _leaving(tableau: Array, basic: Indices, free: Indices, entering: int) -> int:
    """The row of least ratio; of equal ones the lexicographically least; -1 where there is none."""
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
    """Whether row `one` of the basis's inverse, over its pivot, comes before row `other`."""
    n, m = len(basic), len(free)
    first, second = np.zeros(n), np.zeros(n)
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
    """Exchange a basic and a free variable, and find the norms of the new columns."""
    scale = 1.0 / tableau[leaving, entering]
    for i in range(len(tableau)):
        factors[i], tableau[i, entering] = tableau[i, entering], 0.0
    # The pivot row itself comes out of the same loop: 0 + 1 * pivot.
    factors[leaving], tableau[leaving, entering] = -1.0, 1.0
    for j in range(len(pivot)):
        pivot[j], tableau[leaving, j] = tableau[leaving, j] * scale, 0.0
        norms[j] = 1.0
    for i in range(0, len(tableau), BLOCK):
        f, g, h, k = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
        for j in range(len(pivot)):
            # Into locals first: the arrays might overlap, for all the compiler knows.
            p = tableau[i, j] - f * pivot[j]
            q = tableau[i + 1, j] - g * pivot[j]
            r = tableau[i + 2, j] - h * pivot[j]
            s = tableau[i + 3, j] - k * pivot[j]
            norms[j] += p * p + q * q + r * r + s * s
            tableau[i, j], tableau[i + 1, j], tableau[i + 2, j], tableau[i + 3, j] = p, q, r, s


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _read(tableau: Array, basic: Indices, free: Indices, pair: Array) -> None:
    """The policies at the end of the tableau: basic columns and the multipliers of tight rows."""
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
    """The pair corrected by the basis's inverse, which stands in the tableau, while the gap falls.

    On the support every action must be worth the same: what it lacks is known to the last digit
    from `payoff`, and an inverse that is good to a few digits takes it away.
    """
    n, m = len(basic), len(free)
    worth = bilinear(payoff, pair[0, :n], pair[1, :m])
    gap = worth[0, :n].max() + worth[1, :m].max()
    for _ in range(REFINEMENTS):
        if gap <= ROUNDING * unit:
            break
        moved = pair.copy()
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
    """Cut rounding below 0, then scale both to sum 1."""
    for side in pair:
        total = 0.0
        for a in range(len(side)):
            side[a] = max(side[a], 0.0)
            total += side[a]
        for a in range(len(side)):
            side[a] /= total
