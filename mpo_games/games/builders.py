"""Preference games from data: win counts, ballots, scores, criteria, a judge.

Shapes: Y responses, X contexts, C criteria. Names in the data (a DataFrame, a mapping) bring it
into order and become the names of the game's `responses`. Every builder raises `ValueError` for
data of another shape, for names that contradict each other, and for numbers that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import (
    SLACK,
    finite,
    finite_numbers,
    require_positive,
    require_weight,
)
from mpo_games.games import ballots as ballot_forms
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import EXACT, Labelled, Labels, labels_of, names_of, ordered, read
from mpo_games.protocol import Array

R = TypeVar("R")


def from_wins(counts: ArrayLike, *, prior: float = 0.0) -> PreferenceGame:
    r"""The game of win counts: `counts[..., i, j]` says how often `i` beat `j`.

    $$P_{ij} = \frac{W_{ij} + \text{prior}}{W_{ij} + W_{ji} + 2\,\text{prior}}$$

    and 1/2 if the two were never compared. `counts` is `(Y, Y)` or `(X, Y, Y)`; a draw counts half
    for both. `prior` is a number of pseudo-wins for either side (1 is Laplace's rule): it keeps a
    few comparisons from looking like certainty.

    The rows of a table with names are the winners and its columns the losers, in any order; so are
    the keys of `{winner: {loser: count}}`, which must name every pair (a response and itself too).

    Raises `ValueError` for counts that are not square, finite and non-negative.

    >>> from_wins([[0, 3], [1, 0]]).preferences
    array([[[0.5 , 0.75],
            [0.25, 0.5 ]]])
    """
    return _won(read(counts, "counts").squared("counts"), prior)


def from_ballots(
    ballots: Iterable[Any] | Mapping[Any, float],
    candidates: Iterable[Hashable] | None = None,
    *,
    counts: ArrayLike | None = None,
) -> PreferenceGame:
    """The game of an election: `P[i, j]` is the share of voters who rank `i` above `j`.

    Candidates that are missing from a ballot rank below all that are on it, and tie with each
    other (half a vote for each). The equilibrium is the maximal lottery of the election (Kreweras
    1965; Fishburn 1984).

    Args:
        ballots: rankings, best first. Each is a sequence of distinct candidates, in which a tuple
            or set of candidates is a tie; or a mapping of candidates to their ranks, 1 the best and
            equal ranks a tie. A mapping of ballots to numbers (a `Counter`) counts the voters who
            cast each. A table has a row of ranks for each voter and a column for each candidate;
            NaN is not ranked.
        candidates: the names of the candidates, in the order of the game's responses. If None, they
            are the columns of a table; else the ballots hold indices, and the candidates are
            0, 1, ... up to the largest index.
        counts: the number of voters who cast each ballot; one each if None.

    Raises:
        ValueError: for no ballots, a ballot without an order (a set), an unknown or repeated
            candidate, or counts that are negative or all 0.

    >>> ballots = [["tea", "milk", "water"], ["milk", "water", "tea"]]
    >>> from_ballots(ballots, ["tea", "milk", "water"]).preferences[0]
    array([[0.5, 0.5, 0.5],
           [0.5, 0.5, 1. ],
           [0.5, 0. , 0.5]])
    """
    cast, voters, columns = ballot_forms.cast(ballots)
    if voters is not None and counts is not None:
        raise ValueError("`counts` must not be given with ballots that count their voters.")
    if not cast:
        raise ValueError("`ballots` must hold at least one ballot.")
    counts = voters if counts is None else counts
    votes = np.ones(len(cast)) if counts is None else finite_numbers(counts, "counts")
    if votes.shape != (len(cast),) or not (votes >= 0).all() or not votes.sum() > 0:
        raise ValueError(
            f"`counts` must be {len(cast)} non-negative numbers, one per ballot and not all 0."
        )
    names = columns if candidates is None else names_of(candidates, "candidates")
    if names == ():
        raise ValueError("`candidates` must be at least one name, and no name twice.")
    rankings = [ballot_forms.ranking(ballot, names) for ballot in cast]
    numbered = ballot_forms.indices(rankings) if names is None else names
    place = {name: i for i, name in enumerate(numbered)}
    wins = np.zeros((len(place), len(place)))
    for ranking, vote in zip(rankings, votes, strict=True):
        # The last rank is that of all candidates who are not on the ballot.
        rank = np.full(len(place), len(place))
        for position, group in enumerate(ranking):
            for name in group:
                if name not in place:
                    raise ValueError(
                        f"A ballot names {name!r}, which is not one of the `candidates`."
                    )
                if rank[place[name]] < len(place):
                    raise ValueError(f"A ballot ranks {name!r} twice.")
                rank[place[name]] = position
        wins += vote * (0.5 + 0.5 * np.sign(rank - rank[:, None]))
    return _won(Labelled(wins, (names, names), EXACT), 0.0)


def from_scores(scores: ArrayLike, temperature: float = 1.0) -> PreferenceGame:
    r"""The Bradley-Terry game $P_{ij} = \sigma((s_i - s_j) / \text{temperature})$: transitive.

    `scores` is `(Y,)` or `(X, Y)`: rewards, logits, or Elo / 173.7. Finite scores of any size are
    allowed.
    """
    found = read(scores, "scores")
    s = finite(found, "scores")
    if s.ndim < 1 or s.size == 0:
        raise ValueError(f"`scores` must be (Y,) or (X, Y), got shape {s.shape}.")
    require_positive("temperature", temperature)
    # A difference that overflows to infinity is right: `tanh` makes it a certain win.
    with np.errstate(over="ignore"):
        logits = (s[..., :, None] - s[..., None, :]) / temperature
    return _game(0.5 + 0.5 * np.tanh(0.5 * logits), found.labels[-1], found.labels[:-1])


def majority_of(criteria: ArrayLike) -> PreferenceGame:
    """The game of a majority vote of criteria.

    `P[i, j]` is 1 if more criteria score `i` above `j` than below, 0 if fewer do, and else 1/2.
    `criteria` is `(C, Y)` or `(X, C, Y)`: a score per criterion and response, of which only the
    order matters. Each criterion is transitive; their majority need not be (Condorcet 1785).
    """
    found, votes = _votes(criteria)
    rates = 0.5 + 0.5 * np.sign(votes.sum(axis=-3))
    return _game(rates, found.labels[-1], found.labels[:-2])


def mean_of(criteria: ArrayLike, weights: ArrayLike | None = None) -> PreferenceGame:
    """The game of one criterion drawn at random.

    `P[i, j]` is the weighted share of criteria that score `i` above `j`; a tie counts half.
    `criteria` is `(C, Y)` or `(X, C, Y)`; `weights` is `(C,)`, non-negative, equal if None. The
    cycles of the majority vote are weaker here, but not gone.
    """
    found, votes = _votes(criteria)
    if weights is None:
        w = np.ones(votes.shape[-3])
    else:
        w = finite_numbers(weights, "weights", found.labels[-2])
    if w.shape != votes.shape[-3:-2] or not (w >= 0).all() or not w.sum() > 0:
        raise ValueError(
            f"`weights` must be {votes.shape[-3]} non-negative numbers, one per criterion "
            "and not all 0."
        )
    rates = 0.5 + 0.5 * np.einsum("c,...cij->...ij", w / w.sum(), votes)
    return _game(rates, found.labels[-1], found.labels[:-2])


def from_function(prefers: Callable[[R, R], float], responses: Iterable[R]) -> PreferenceGame:
    """The game of a judge: `prefers(a, b)` is the probability that `a` is preferred to `b`.

    The judge is asked about every ordered pair of `responses`. The two orders are averaged,
    `P = (f(a, b) + 1 - f(b, a)) / 2`, so a constant bias towards one position cancels. The keys of
    a mapping `{name: response}` name the responses; else they are their own names, if they differ.

    Raises `ValueError` if there are no responses, or for an answer outside [0, 1].
    """
    items, names = ordered(responses, "responses")
    if not items:
        raise ValueError("`responses` must hold at least one response.")
    verdicts = finite_numbers([[_answer(prefers(a, b)) for b in items] for a in items], "prefers")
    if not ((verdicts >= -SLACK) & (verdicts <= 1.0 + SLACK)).all():
        raise ValueError("`prefers` must return probabilities: finite and in [0, 1].")
    verdicts = np.clip(verdicts, 0.0, 1.0)
    return _game(0.5 + 0.5 * (verdicts - verdicts.T), names or _own_names(items), ())


def _won(found: Labelled, prior: float) -> PreferenceGame:
    """The game of win counts that were read, and whose rows and columns have one order."""
    wins = finite(found, "counts")
    if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2]:
        raise ValueError(f"`counts` must be square, (Y, Y) or (X, Y, Y), got shape {wins.shape}.")
    if not (wins >= 0).all():
        raise ValueError("`counts` must be non-negative: they are numbers of wins.")
    require_weight("prior", prior)
    wins = wins + prior
    with np.errstate(over="ignore"):
        total = wins + np.swapaxes(wins, -1, -2)
    if not np.isfinite(total).all():
        raise ValueError("`counts` must be small enough that two of them have a finite sum.")
    rates = np.divide(wins, total, out=np.full(wins.shape, 0.5), where=total > 0)
    return _game(rates, found.labels[-1], found.labels[:-2])


def _game(rates: Array, names: Labels | None, lead: tuple[Labels | None, ...]) -> PreferenceGame:
    """The game of `rates` whose responses have `names`, and its contexts those of axis `lead`."""
    contexts = lead[-1] if lead else None
    return PreferenceGame(rates, responses=names, contexts=contexts)


def _votes(criteria: ArrayLike) -> tuple[Labelled, Array]:
    """The criteria, and 1, 0 or -1, `(..., C, Y, Y)`, if one scores `i` above, as or below `j`."""
    found = read(criteria, "criteria")
    scores = finite(found, "criteria")
    if scores.ndim < 2 or scores.size == 0:
        raise ValueError(f"`criteria` must be (C, Y) or (X, C, Y), got shape {scores.shape}.")
    above = scores[..., :, None] > scores[..., None, :]
    return found, above.astype(np.float64) - np.swapaxes(above, -1, -2)


def _answer(value: object) -> float:
    """A judge's answer as a number; `ValueError` unless it is one."""
    found = read(value, "prefers").values
    if found.size != 1:
        raise ValueError(f"`prefers` must return one probability, got shape {found.shape}.")
    return float(found.item())


def _own_names(items: list[Any]) -> Labels | None:
    """The items as their own names; None if two are equal, or cannot be compared."""
    try:
        return labels_of(items, "responses")
    except ValueError:
        return None
