r"""Linear programmes in decimal arithmetic, with as many digits as their coefficients need.

$$\max\ c\cdot z\quad\text{s.t.}\quad M z \le b,\ z \ge 0\qquad(b \ge 0)$$

Payoffs may differ by 300 orders of magnitude, and still each of them can decide who plays what.
Floats keep 16 digits of a sum, and lose the small ones. Here every sum keeps all digits that can
matter. The method is the simplex method on a condensed tableau, as in `simplex_method`. It is slow,
so the oracles call it only where floats gave no certificate.

Arrays hold `Decimal` objects (`dtype=object`); every float is converted without an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpo_games.protocol import Array, Indices

Decimals = NDArray[Any]
"""An array of `Decimal` objects."""

NONE: Indices = np.zeros(0, dtype=np.int64)
"""No indices."""

SPARE = 50
"""Digits beyond those that hold the largest number of a programme beside the smallest."""

MOST_DIGITS = 4000
"""No sum of floats needs more: the largest is 10^308, the smallest 10^-324."""


def digits_of(numbers: Array) -> int:
    """The decimal places between the largest difference of two `numbers` and the smallest one."""
    # Halved, because the difference of the two largest floats is infinite.
    steps = np.diff(np.unique(numbers / 2.0))
    steps = np.append(steps[steps > 0.0], np.abs(numbers).max(initial=0.0) / 2.0)
    steps = steps[steps > 0.0]
    if not steps.size:
        return 0
    spread = math.log10(float(np.ptp(numbers / 2.0)) or float(steps.max()))
    return int(max(spread - math.log10(float(steps.min())), 0.0)) + 17


@contextmanager
def arithmetic(places: int) -> Iterator[Context]:
    """A context whose sums keep two numbers that are `places` decimal places apart."""
    with localcontext() as context:
        context.prec = min(2 * places + SPARE, MOST_DIGITS)
        # Without limits of the exponent: no product of two floats overflows.
        context.Emax, context.Emin = MAX_EMAX, MIN_EMIN
        context.clear_traps()
        yield context


def decimals(numbers: Array) -> Decimals:
    """The same numbers as `Decimal` objects, without a rounding error."""
    out = np.empty(numbers.shape, dtype=object)
    out.reshape(-1)[:] = [Decimal(x) for x in numbers.reshape(-1).tolist()]
    return out


def floats(numbers: Decimals) -> Array:
    """The nearest floats."""
    return np.array([float(x) for x in numbers.reshape(-1)]).reshape(numbers.shape)


def programme(
    matrix: Decimals,
    limits: Decimals,
    gains: Decimals,
    places: int,
    tight: Indices = NONE,
    positive: Indices = NONE,
) -> tuple[Decimals, Decimals] | None:
    """The optimal `z`, `(n,)`, and the multipliers of the limits, `(m,)`; None without an optimum.

    `matrix` is `(m, n)`, `limits` `(m,)` and at least 0, `gains` `(n,)`, in a context of
    `arithmetic(places)`. The search begins where the limits `tight` hold with equality and only the
    variables `positive` are not 0, if there is such a point, else at 0.
    """
    m, n = matrix.shape
    # Numbers below this are rounding errors of the elimination.
    nothing = Decimal(10) ** -(places + SPARE // 2)
    # Limits that differ in their last digits: no two ratios tie, so the method cannot cycle.
    nudges = nothing * 10**10 * (1 + decimals(np.asarray(np.random.default_rng(0).random(m))))
    tableau = np.full((m + 1, n + 2), Decimal(0))
    tableau[:m, :n], tableau[:m, n], tableau[:m, n + 1] = matrix, limits, limits + nudges
    tableau[m, :n] = gains
    basic, free = np.arange(n, n + m), np.arange(n)
    begun = _advanced(tableau, basic, free, tight, positive, nothing)
    if begun is not None:
        tableau, basic, free = begun
    for _ in range(50 * (n + m)):
        entering = _entering(tableau, nothing)
        if entering < 0:
            z, multipliers = np.full(n + m, Decimal(0)), np.full(n + m, Decimal(0))
            z[basic], multipliers[free] = tableau[:m, n], -tableau[m, :n]
            return z[:n], multipliers[n:]
        rows = [i for i in range(m) if tableau[i, entering] > nothing]
        if not rows:
            return None
        leaving = min(rows, key=lambda i: tableau[i, n + 1] / tableau[i, entering])
        _pivot(tableau, leaving, entering)
        basic[leaving], free[entering] = free[entering], basic[leaving]
    return None


def _advanced(
    tableau: Decimals,
    basic: Indices,
    free: Indices,
    tight: Indices,
    positive: Indices,
    nothing: Decimal,
) -> tuple[Decimals, Indices, Indices] | None:
    """The tableau at the point that `programme` describes; None if that is not feasible."""
    if not (tight.size and positive.size):
        return None
    n = len(free)
    tableau, basic, free = tableau.copy(), basic.copy(), free.copy()
    rows, columns = list(tight), list(positive)
    while rows and columns:
        # The largest element of all would be safest; that of a column is enough with these digits.
        entering = columns.pop()
        leaving = max(rows, key=lambda i: abs(tableau[i, entering]))
        if abs(tableau[leaving, entering]) > nothing:
            rows.remove(leaving)
            _pivot(tableau, leaving, entering)
            basic[leaving], free[entering] = free[entering], basic[leaving]
    feasible = (tableau[:-1, n] >= -nothing).all() and (tableau[:-1, n + 1] >= -nothing).all()
    return (tableau, basic, free) if feasible else None


def _entering(tableau: Decimals, nothing: Decimal) -> int:
    """The column with the largest gain per length of its edge; -1 at the optimum."""
    m = len(tableau) - 1
    best, chosen = Decimal(0), -1
    for j in np.flatnonzero(tableau[m, :-2] > nothing):
        edge = tableau[:m, j]
        rate = tableau[m, j] ** 2 / (1 + edge @ edge)
        if rate > best:
            best, chosen = rate, int(j)
    return chosen


def _pivot(tableau: Decimals, leaving: int, entering: int) -> None:
    """Exchange a basic and a free variable, in place."""
    pivot = tableau[leaving, entering]
    row, column = tableau[leaving] / pivot, tableau[:, entering].copy()
    row[entering], column[leaving] = 1 / pivot, Decimal(0)
    tableau[:, entering] = Decimal(0)
    # Trees have sparse tableaus: rows and columns that do not change are left alone.
    rows, columns = np.flatnonzero(column != 0), np.flatnonzero(row != 0)
    tableau[np.ix_(rows, columns)] -= np.multiply.outer(column[rows], row[columns])
    tableau[leaving] = row
