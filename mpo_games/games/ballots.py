"""Ballots as people write them, read as rankings: groups of tied candidates, best first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, KeysView, Mapping, Set
from typing import Any

import numpy as np

from mpo_games.checks import is_number
from mpo_games.labelled import Labels, ordered, read, shown

MOST = 5000
"""The most candidates that indices stand for: the game of so many has 25 million entries."""

Ranking = list[tuple[Hashable, ...]]
"""Groups of tied candidates, best first."""


def cast(ballots: Any) -> tuple[list[Any], list[float] | None, Labels | None]:
    """The ballots one by one, the number of voters of each, and the candidates that they name.

    The last two are None if the container does not tell them.
    """
    if getattr(ballots, "columns", None) is not None:
        found = read(ballots, "ballots")
        columns = found.labels[-1]
        if columns is None:
            raise ValueError(
                "`ballots` as a table needs the candidates as its columns. "
                "If its rows are ballots of indices, pass `.to_numpy()`."
            )
        rows = [dict(zip(columns, row, strict=True)) for row in found.values.tolist()]
        return rows, None, columns
    items, names = ordered(ballots, "ballots")
    # A `Counter`, or the `value_counts()` of pandas.
    if isinstance(ballots, Mapping) or (names is not None and all(map(is_number, items))):
        if not all(map(is_number, items)):
            raise ValueError(
                "`ballots` as a mapping must give the number of voters for each ballot: "
                "if its values are the ballots, pass `.values()`."
            )
        return list(ballots) if isinstance(ballots, Mapping) else list(names or ()), items, None
    return items, None, None


def ranking(ballot: Any, candidates: Labels | None) -> Ranking:
    """One ballot as a ranking; `ValueError` for a ballot without an order."""
    if isinstance(ballot, Set) and not isinstance(ballot, KeysView):
        raise ValueError(
            f"A ballot must have an order, which {shown(ballot)} has not: "
            "a list of sets, `[{'a', 'b'}, 'c']`, is a ballot with ties."
        )
    items, names = ordered(ballot, "ballot")
    if names is not None or isinstance(ballot, Mapping):
        keys = tuple(range(len(items))) if names is None else names
        return _by_rank(keys, items, len(items) if candidates is None else len(candidates))
    known = set(candidates or ())
    return [_group(item, known) for item in items]


def indices(rankings: Iterable[Ranking]) -> list[Hashable]:
    """The candidates 0, 1, ... of ballots of indices; `ValueError` for other ballots."""
    seen = [name for ranked in rankings for group in ranked for name in group]
    whole = [int(i) for i in seen if isinstance(i, (int, np.integer)) and not isinstance(i, bool)]
    if not seen or len(whole) < len(seen) or not min(whole) >= 0:
        raise ValueError(
            "`ballots` must hold indices 0, 1, ...; if they hold names, list these in `candidates`."
        )
    if not max(whole) < MOST:
        raise ValueError(
            f"`ballots` must hold indices below {MOST}, got {max(whole)}: "
            "if it is a name, list the names in `candidates`."
        )
    return list(range(1 + max(whole)))


def _by_rank(names: Labels, ranks: list[Any], most: int) -> Ranking:
    """The ranking of a mapping of candidates to ranks; NaN is not ranked."""
    numbers = read(ranks, "ballot").values
    known = ~np.isnan(numbers)
    if numbers.ndim != 1 or not ((numbers[known] >= 1) & (numbers[known] <= most)).all():
        raise ValueError(
            f"A ballot as a mapping gives each candidate its rank, from 1, the best, to {most}; "
            f"got {ranks}. Scores go to `from_scores` or `mean_of`."
        )
    groups: dict[float, list[Hashable]] = defaultdict(list)
    for name, rank in zip(names, numbers.tolist(), strict=True):
        if rank == rank:
            groups[rank].append(name)
    return [tuple(groups[rank]) for rank in sorted(groups)]


def _group(item: Any, known: set[Hashable]) -> tuple[Hashable, ...]:
    """The candidates at one place of a ballot: one, or a tuple, list or set of tied ones."""
    group = isinstance(item, (tuple, list, Set))
    try:
        # A candidate may itself be a tuple.
        if group and not (isinstance(item, Hashable) and item in known):
            return tuple(name for name in item if hash(name) is not None)
        hash(item)
    except TypeError:
        raise ValueError(f"A ballot must hold candidates, got {shown(item)}.") from None
    return (item,)
