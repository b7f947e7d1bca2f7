"""Values of small matrix games in rational numbers, by a route of their own: Shapley & Snow."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

from mpo_games.protocol import Array

Rational = list[list[Fraction]]


def rational(payoff: Array) -> Rational:
    """The payoffs as fractions, without an error."""
    return [[Fraction(x) for x in row] for row in payoff.tolist()]


def solution(matrix: Rational, right: list[Fraction]) -> list[Fraction] | None:
    """The solution of a square system by elimination, or None if it is singular."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i, row in enumerate(rows):
            if i != k and row[k]:
                rows[i] = [x - row[k] * y for x, y in zip(row, rows[k], strict=True)]
    return [row[-1] for row in rows]


def equalised(kernel: Rational) -> list[Fraction] | None:
    """The column policy against which the rows of a square game are indifferent, or None."""
    bordered = [[*row, Fraction(-1)] for row in kernel]
    bordered.append([Fraction(1)] * len(kernel) + [Fraction(0)])
    found = solution(bordered, [Fraction(0)] * len(kernel) + [Fraction(1)])
    return None if found is None or min(found[:-1]) < 0 else found[:-1]


def value_of(payoff: Array) -> Fraction:
    """The value: some square kernel has policies that are optimal in the whole game."""
    a = rational(payoff)
    n, m = len(a), len(a[0])
    for size in range(1, min(n, m) + 1):
        for rows in combinations(range(n), size):
            for columns in combinations(range(m), size):
                kernel = [[a[i][j] for j in columns] for i in rows]
                y = equalised(kernel)
                x = equalised([list(column) for column in zip(*kernel, strict=True)])
                if x is None or y is None:
                    continue
                pairs = list(zip(columns, y, strict=True))
                most = max(sum(a[i][j] * p for j, p in pairs) for i in range(n))
                pairs = list(zip(rows, x, strict=True))
                least = min(sum(a[i][j] * p for i, p in pairs) for j in range(m))
                if most == least:
                    return most
    raise AssertionError("Shapley & Snow's theorem says that there is a kernel.")


def security(payoff: Array, x: Array, y: Array) -> tuple[Fraction, Fraction, Fraction]:
    """What `x` guarantees, what `y` concedes, and the spread of payoffs that are met in play."""
    a = rational(payoff)
    n, m = len(a), len(a[0])
    p, q = ([Fraction(w) for w in side.tolist()] for side in (x, y))
    p, q = [w / sum(p) for w in p], [w / sum(q) for w in q]
    above = [sum(a[i][j] * q[j] for j in range(m)) for i in range(n)]
    below = [sum(a[i][j] * p[i] for i in range(n)) for j in range(m)]
    v = sum(p[i] * above[i] for i in range(n))
    seen = [sum(abs(a[i][j] - v) * q[j] for j in range(m)) for i in range(n) if p[i] > 1e-9]
    seen += [sum(abs(a[i][j] - v) * p[i] for i in range(n)) for j in range(m) if q[j] > 1e-9]
    return min(below), max(above), max(seen)
