"""What a table of numbers means: payoffs, preferences, or numbers of wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mpo_games.checks import slack
from mpo_games.cli.csv_table import Table
from mpo_games.games.battles import Battles
from mpo_games.labelled import EXACT, Labels, read
from mpo_games.protocol import Array

Kind = Literal["auto", "payoff", "preference", "wins"]
"""What a table holds: the row player's payoffs, preferences, or how often the row beat the column;
`auto` looks at the numbers."""

NEARLY = 0.05
"""Preferences and their complements that add up to 1 this closely were meant to, and rounded."""

WORDS = {"payoff": "payoffs", "preference": "preferences", "wins": "numbers of wins"}


@dataclass(frozen=True, slots=True)
class Square:
    """A square table whose columns have the order of its rows."""

    values: Array
    names: tuple[str, ...] | None
    order: tuple[int, ...]
    """The column of the table in which each column stood."""
    table: Table

    def place(self, i: int, j: int) -> str:
        """Where a number stands in the file."""
        return self.table.place(i, self.order[j])


def squared(table: Table) -> Square | None:
    """The table, if it is square, and its rows and columns have the same names or none."""
    rows, columns = table.rows, table.columns
    if table.values.ndim < 2 or table.values.shape[-1] != table.values.shape[-2]:
        return None
    order = tuple(range(table.values.shape[-1]))
    if rows is not None and columns is not None:
        if sorted(rows) != sorted(columns):
            return None
        # Columns that have the names of the rows, in another order, belong in theirs.
        order = tuple(columns.index(name) for name in rows)
    return Square(table.values[..., list(order)], rows or columns, order, table)


def is_preference(square: Square) -> bool:
    """Whether these are probabilities with `P + P' = 1`, up to the rounding of their type."""
    p = square.values
    # With a tolerance, because preferences in decimals add up to 1 only approximately.
    allowed = slack(read(p, "the table").rounding, 2)
    within = bool(((p >= -allowed) & (p <= 1.0 + allowed)).all())
    return within and bool((np.abs(p + np.swapaxes(p, -1, -2) - 1.0) <= allowed).all())


def resemblance(square: Square) -> str | None:
    """What a table that is not `is_preference` looks like, beside payoffs: a sentence, or None."""
    values = square.values
    if values.ndim != 2 or len(values) < 2:
        return None
    for unit, percent in ((1.0, ""), (100.0, " in per cent")):
        p = values / unit
        between = bool(((p >= 0.0) & (p <= 1.0)).all()) and bool((values > 1.0).any()) == (unit > 1)
        diagonal, sums = np.diag(p), _sums(p)
        even = bool((np.abs(diagonal - 0.5) <= NEARLY).all())
        near = bool((np.abs(sums - 1.0) <= NEARLY).all())
        equal = bool((diagonal == diagonal[0]).all())
        # Two payoffs add up to 1 by chance; the three pairs of three rows hardly do.
        if between and (even or (near and (equal or len(values) > 2))):
            exact = bool((np.abs(sums - 1.0) <= slack(EXACT, 2)).all())
            return f"it looks like preferences{percent}{'' if exact else ': ' + _worst(square)}"
    whole = bool((values >= 0.0).all()) and not (values % 0.5).any() and bool(values.max() > 1.0)
    both = square.table.rows is not None and square.table.columns is not None
    if whole and (both or not np.diag(values).any()):
        return "it looks like numbers of wins: no number is negative, and all are whole"
    return None


def require_told(text: str, square: Square | None) -> None:
    """`ValueError` for a table that looks like preferences or wins, and would be payoffs."""
    like = None if square is None else resemblance(square)
    if like is not None:
        raise ValueError(
            f"{text!r} could be payoffs, but {like}. Pass `--kind payoff`, `--kind preference` or "
            "`--kind wins`; wins are divided by the battles of each pair."
        )


def preferences(text: str, square: Square) -> Array:
    """The probabilities of a table of preferences, which may be in per cent or have empty cells.

    The diagonal is 1/2, whatever it holds, and so is a pair whose cells are empty. `ValueError`,
    with the places, unless the two orders of each pair add up to 1.
    """
    p = square.values
    off = ~np.eye(p.shape[-1], dtype=bool)
    known = np.where(off & ~np.isnan(p), p, 0.5)
    unit = 100.0 if known.max() > 1.0 else 1.0
    known = np.where(off & ~np.isnan(p), p / unit, 0.5)
    allowed = slack(read(p, "the table").rounding, 2)
    sums = known + np.swapaxes(known, -1, -2)
    if not ((known >= -allowed) & (known <= 1.0 + allowed)).all():
        raise ValueError(f"{text!r} holds no preferences: they lie in [0, 1], or in [0, 100] %.")
    if not (np.abs(sums - 1.0) <= allowed).all():
        where = f": {_worst(square)}" if p.ndim == 2 else " with P + P.T = 1"
        raise ValueError(
            f"{text!r} holds no preferences, which must satisfy P + P.T = 1{where}. "
            "`--kind wins` divides each pair by its sum."
        )
    return np.asarray(known)


def battles(text: str, table: Table, kind: Kind) -> Battles:
    """What `rank` ranks: numbers of wins or preferences. An empty cell is a pair that never met.

    `ValueError`, with the place, for a table that is neither.
    """
    square = squared(table)
    if square is None or square.values.ndim != 2:
        n = " x ".join(map(str, table.values.shape))
        raise ValueError(
            f"{text!r} must be a list of battles, with the columns model_a, model_b and winner, or "
            f"a square table whose rows and columns are the same models; it is {n}."
        )
    values = square.values
    for i, j in np.argwhere(values < 0.0):
        raise ValueError(f"{text!r}, {square.place(i, j)}: {values[i, j]:g} is negative.")
    # The diagonal says nothing: a model does not meet itself.
    known = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    for i, j in np.argwhere(np.isnan(known) & ~np.isnan(known.T)):
        raise ValueError(
            f"{text!r}, {square.place(i, j)}: the cell is empty, and that of the other order, "
            f"{square.place(j, i)}, is not."
        )
    if kind == "auto":
        most = np.nanmax(known, initial=0.0)
        unit = 100.0 if most > 1.0 else 1.0
        near = np.nanmax(np.abs(_sums(known) - unit), initial=0.0) <= NEARLY * unit
        # A hundred battles of each pair are counted, unless the diagonal says otherwise.
        counted = unit > 1.0 and not np.nansum(known % 1.0) and not (np.diag(values) == 50).all()
        kind = "preference" if near and most <= unit and not counted else "wins"
    names: Labels = square.names or tuple(range(len(values)))
    if kind == "preference":
        known = np.where(np.isnan(known), np.nan, preferences(text, square))
    else:
        known = np.nan_to_num(known)
    try:
        found = Battles.of_shares(known) if kind == "preference" else Battles.of_wins(known)
        return replace(found, models=names)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error


def _sums(p: Array) -> Array:
    """The sums of the two orders of each pair."""
    return np.asarray((p + p.T)[np.triu_indices(len(p), 1)])


def _worst(square: Square) -> str:
    """The pair whose two numbers are farthest from adding up to a whole."""
    p = square.values
    whole = 100.0 if np.nanmax(p) > 1.0 else 1.0
    i, j = np.triu_indices(len(p), 1)
    at = int(np.nanargmax(np.abs(p[i, j] + p[j, i] - whole)))
    a, b = int(i[at]), int(j[at])
    return (
        f"{square.place(a, b)} and {square.place(b, a)} hold {p[a, b]:g} and {p[b, a]:g}, which "
        f"add up to {p[a, b] + p[b, a]:g} instead of {whole:g}"
    )
