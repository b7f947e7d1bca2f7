r"""Matrix games whose payoffs are of very different sizes: solved by floats where these can.

A payoff that is a billion times as large as the others, of either sign, is never played, or played
with a probability of the order of a billionth. Either way it decides who plays what, and it must
not decide how many digits the other payoffs keep. The security levels of pure play,

$$\max_i\min_j A_{ij} \le v \le \min_j\max_i A_{ij},$$

are between payoffs that matter. Scaled to this bracket, the compiled method solves most games whose
outliers are up to 1e9. Its answers on the others, also with the outliers cut, begin a search in
decimal arithmetic (`many_digits`). That search adds to a small game the best responses of the whole
one, until there are no more (McMahan, Gordon & Blum 2003).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from mpo_games.exact import many_digits
from mpo_games.exact.simplex_method import (
    GAP_LIMIT,
    STORED,
    SUPPORT,
    TINY,
    Certified,
    optimal_pair_above,
)
from mpo_games.exact.simplex_method import certificate as float_certificate
from mpo_games.kernels.tables import LOG_ZERO
from mpo_games.protocol import Array, Indices

CUT = 1e8
"""Outliers are cut at this multiple of the bracket where they are too large for floats."""


def optimal(payoff: Array, first: Certified, enough: float) -> Certified:
    """The best pair that is found for `payoff`, `(n, m)`, with its certificate.

    `first` is an answer that is not good enough; a share of the played payoffs up to `enough` is.
    """
    best, guess = first, None
    with np.errstate(over="ignore"):
        floats_do = TINY < float(np.ptp(payoff)) < np.inf
    judge = float_certificate if floats_do else certificate
    for guess in guesses(payoff):
        best = better(best, judge(payoff, guess))
        if best[-1] <= enough:
            return best
    pair = solved_in_many_digits(payoff, guess)
    return best if pair is None else better(best, certificate(payoff, pair))


def better(one: Certified, other: Certified) -> Certified:
    """The answer with the smaller share; any answer is better than a failure, which is NaN."""
    return one if one[-1] <= other[-1] else other


def security(payoff: Array) -> tuple[float, float]:
    """What the row player can secure by one row, and the column player by one column."""
    return float(payoff.min(axis=1).max()), float(payoff.max(axis=0).min())


def guesses(payoff: Array) -> list[Array]:
    """Pairs that may be optimal, each `(2, max(n, m))`, by the compiled method on the bracket."""
    low, high = security(payoff)
    # A power of two, so that halves and products are exact, and nothing overflows.
    unit = np.ldexp(1.0, min(int(np.frexp(high / 2.0 - low / 2.0)[1]), 1023))
    if low == high:
        pair = np.zeros((2, max(payoff.shape)))
        pair[0, payoff.min(axis=1).argmax()] = pair[1, payoff.max(axis=0).argmin()] = 1.0
        return [pair]
    with np.errstate(over="ignore", under="ignore"):
        scaled = (payoff / 2.0 - low / 2.0) / unit
    pairs = [optimal_pair_above(np.clip(scaled, -cut, cut), 0.0, 1.0) for cut in (1e100, CUT)]
    return [pair for pair in pairs if np.isfinite(pair).all()]


def solved_in_many_digits(payoff: Array, guess: Array | None) -> Array | None:
    """An optimal pair by decimal arithmetic, `(2, max(n, m))`; None if the search fails.

    It begins with the actions that `guess` plays, and with all actions of a small game.
    """
    n, m = payoff.shape
    low, high = security(payoff)
    places = many_digits.digits_of(payoff)
    with many_digits.arithmetic(places):
        exact = many_digits.decimals(payoff)
        unit = Decimal(high) - Decimal(low)
        # The value of the scaled game is between 1 and 2, as `programme` needs it.
        scaled = (exact - Decimal(low)) / unit + 1
        rows, columns = _first(payoff, guess)
        x, y = _played(guess, 0, rows), _played(guess, 1, columns)
        for _ in range(n + m):
            found = _small(scaled[np.ix_(rows, columns)], places, x, y)
            if found is None:
                return None
            x, y = found
            above = scaled[:, columns] @ y
            below = x @ scaled[rows]
            value = x @ above[rows]
            # What rounding leaves is no gain.
            nothing = Decimal(10) ** -(places + many_digits.SPARE // 4)
            better = _most(above - value, rows, nothing)
            worse = _most(value - below, columns, nothing)
            if not (better.size or worse.size):
                pair = np.zeros((2, max(n, m)))
                pair[0, rows], pair[1, columns] = many_digits.floats(x), many_digits.floats(y)
                return pair
            rows, columns = np.append(rows, better), np.append(columns, worse)
            x = np.append(x, np.full(better.size, Decimal(0)))
            y = np.append(y, np.full(worse.size, Decimal(0)))
    return None


SMALL = 12
"""A game with at most this many rows or columns is searched with all of them at once."""

ADDED = 10
"""Most best responses that join the small game at a time."""


def _first(payoff: Array, guess: Array | None) -> tuple[Indices, Indices]:
    """The rows and the columns with which the search begins."""
    first = []
    for side, size in enumerate(payoff.shape):
        secure = payoff.min(axis=1).argmax() if side == 0 else payoff.max(axis=0).argmin()
        played = np.zeros(size, dtype=bool) if guess is None else guess[side, :size] > 0.0
        played[secure] = True
        first.append(np.arange(size) if size <= SMALL else np.flatnonzero(played))
    return first[0], first[1]


def _played(guess: Array | None, side: int, chosen: Indices) -> Any:
    return np.zeros(chosen.size) if guess is None else guess[side, chosen]


def _small(payoff: Any, places: int, x: Any, y: Any) -> tuple[Any, Any] | None:
    """Both policies of the scaled game `payoff`, beginning at the actions that `x`, `y` play."""
    one = np.full(max(payoff.shape), Decimal(1))
    n, m = payoff.shape
    begin = np.flatnonzero(x > 0), np.flatnonzero(y > 0)
    found = many_digits.programme(payoff, one[:n], one[:m], places, *begin)
    if found is None:
        return None
    y, x = found
    return x / x.sum(), y / y.sum()


def _most(gains: Any, known: Indices, nothing: Decimal) -> Indices:
    """The actions with the largest gains above `nothing` that are not yet `known`."""
    gains = gains.copy()
    gains[known] = Decimal(0)
    order = np.argsort(-gains, kind="stable")[:ADDED]
    return np.array([a for a in order if gains[a] > nothing], dtype=np.int64)


def certificate(payoff: Array, pair: Array) -> Certified:
    """`simplex_method.certificate` in decimal arithmetic, for payoffs of any size."""
    n, m = payoff.shape
    log_p = np.full(pair.shape, -np.inf)
    for side, size in enumerate((n, m)):
        for a in range(size):
            p = pair[side, a]
            log_p[side, a] = LOG_ZERO if p <= 0.0 else np.log(p)
    played = np.exp(log_p)
    support = played > SUPPORT
    with many_digits.arithmetic(many_digits.digits_of(payoff)):
        x, y = many_digits.decimals(played[0, :n]), many_digits.decimals(played[1, :m])
        x, y = x / x.sum(), y / y.sum()
        exact = many_digits.decimals(payoff)
        above, below = exact @ y, x @ exact
        value = x @ above
        gap = above.max() - below.min()
        far = abs(exact - value)
        seen, seen_too = far @ y, x @ far
        spread = max(*seen[support[0, :n]], *seen_too[support[1, :m]])
        met = max(spread, seen[above.argmax()], seen_too[below.argmin()])
        size = spread + Decimal(STORED / GAP_LIMIT) * met
        share = float(gap / size) if size else float(gap)
        return log_p, support, float(value), float(gap), share
