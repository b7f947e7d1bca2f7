"""Preference games from data: win counts, ballots, scores, criteria, a judge.

Shapes: Y responses, X contexts, C criteria. Every builder raises `ValueError` for data of another
shape, and for numbers that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import finite_numbers
from mpo_games.games.preference import PreferenceGame
from mpo_games.protocol import Array

R = TypeVar("R")


def from_wins(counts: ArrayLike, *, prior: float = 0.0) -> PreferenceGame:
    r"""The game of win counts: `counts[..., i, j]` says how often `i` beat `j`.

    $$P_{ij} = \frac{W_{ij} + \text{prior}}{W_{ij} + W_{ji} + 2\,\text{prior}}$$

    and 1/2 if the two were never compared. `counts` is `(Y, Y)` or `(X, Y, Y)`; a draw counts half
    for both. `prior` is a number of pseudo-wins for either side (1 is Laplace's rule): it keeps a
    few comparisons from looking like certainty.

    Raises `ValueError` for counts that are not square, finite and non-negative.

    >>> from_wins([[0, 3], [1, 0]]).preferences
    array([[[0.5 , 0.75],
            [0.25, 0.5 ]]])
    """
    wins = finite_numbers(counts, "counts")
    if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2]:
        raise ValueError(f"`counts` must be square, (Y, Y) or (X, Y, Y), got shape {wins.shape}.")
    if (wins < 0).any():
        raise ValueError("`counts` must be non-negative: they are numbers of wins.")
    if not (prior >= 0.0 and np.isfinite(prior)):
        raise ValueError(f"`prior` must be a finite pseudo-count of at least 0, got {prior}.")
    wins = wins + prior
    total = wins + np.swapaxes(wins, -1, -2)
    return PreferenceGame(np.divide(wins, total, out=np.full(wins.shape, 0.5), where=total > 0))


def from_ballots(
    ballots: Sequence[Sequence[Hashable]],
    candidates: Sequence[Hashable] | None = None,
    *,
    counts: Sequence[float] | None = None,
) -> PreferenceGame:
    """The game of an election: `P[i, j]` is the share of voters who rank `i` above `j`.

    Candidates that are missing from a ballot rank below all that are on it, and tie with each
    other (half a vote for each). The equilibrium is the maximal lottery of the election (Kreweras
    1965; Fishburn 1984).

    Args:
        ballots: rankings, best first, each a sequence of distinct candidates.
        candidates: the names of the candidates, in the order of the game's responses. If None, the
            ballots hold indices, and the candidates are 0, 1, ... up to the largest index.
        counts: the number of voters who cast each ballot; one each if None.

    Raises:
        ValueError: for no ballots, an unknown or repeated candidate, or counts that are negative or
            all 0.

    >>> ballots = [["tea", "milk", "water"], ["milk", "water", "tea"]]
    >>> from_ballots(ballots, ["tea", "milk", "water"]).preferences[0]
    array([[0.5, 0.5, 0.5],
           [0.5, 0.5, 1. ],
           [0.5, 0. , 0.5]])
    """
    if len(ballots) == 0:
        raise ValueError("`ballots` must hold at least one ballot.")
    votes = np.ones(len(ballots)) if counts is None else finite_numbers(counts, "counts")
    if votes.shape != (len(ballots),) or (votes < 0).any() or not votes.sum() > 0:
        raise ValueError(
            f"`counts` must be {len(ballots)} non-negative numbers, one per ballot and not all 0."
        )
    names = _indices_of(ballots) if candidates is None else list(candidates)
    place = {name: i for i, name in enumerate(names)}
    if len(place) != len(names) or not names:
        raise ValueError("`candidates` must be at least one name, and no name twice.")
    wins = np.zeros((len(names), len(names)))
    for ballot, vote in zip(ballots, votes, strict=True):
        # The last rank is that of all candidates who are not on the ballot.
        rank = np.full(len(names), len(names))
        for position, name in enumerate(ballot):
            if name not in place:
                raise ValueError(f"A ballot names {name!r}, which is not one of the `candidates`.")
            if rank[place[name]] < len(names):
                raise ValueError(f"A ballot ranks {name!r} twice.")
            rank[place[name]] = position
        wins += vote * (0.5 + 0.5 * np.sign(rank - rank[:, None]))
    return from_wins(wins)


def from_scores(scores: ArrayLike, temperature: float = 1.0) -> PreferenceGame:
    r"""The Bradley-Terry game $P_{ij} = \sigma((s_i - s_j) / \text{temperature})$: transitive.

    `scores` is `(Y,)` or `(X, Y)`: rewards, logits, or Elo / 173.7. Finite scores of any size are
    allowed.
    """
    s = finite_numbers(scores, "scores")
    if s.ndim < 1 or s.size == 0:
        raise ValueError(f"`scores` must be (Y,) or (X, Y), got shape {s.shape}.")
    if not (temperature > 0.0 and np.isfinite(temperature)):
        raise ValueError(f"`temperature` must be finite and above 0, got {temperature}.")
    # A difference that overflows to infinity is right: `tanh` makes it a certain win.
    with np.errstate(over="ignore"):
        logits = (s[..., :, None] - s[..., None, :]) / temperature
    return PreferenceGame(0.5 + 0.5 * np.tanh(0.5 * logits))


def majority_of(criteria: ArrayLike) -> PreferenceGame:
    """The game of a majority vote of criteria.

    `P[i, j]` is 1 if more criteria score `i` above `j` than below, 0 if fewer do, and else 1/2.
    `criteria` is `(C, Y)` or `(X, C, Y)`: a score per criterion and response, of which only the
    order matters. Each criterion is transitive; their majority need not be (Condorcet 1785).
    """
    return PreferenceGame(0.5 + 0.5 * np.sign(_votes(criteria).sum(axis=-3)))


def mean_of(criteria: ArrayLike, weights: ArrayLike | None = None) -> PreferenceGame:
    """The game of one criterion drawn at random.

    `P[i, j]` is the weighted share of criteria that score `i` above `j`; a tie counts half.
    `criteria` is `(C, Y)` or `(X, C, Y)`; `weights` is `(C,)`, non-negative, equal if None. The
    cycles of the majority vote are weaker here, but not gone.
    """
    votes = _votes(criteria)
    w = np.ones(votes.shape[-3]) if weights is None else finite_numbers(weights, "weights")
    if w.shape != votes.shape[-3:-2] or (w < 0).any() or not w.sum() > 0:
        raise ValueError(
            f"`weights` must be {votes.shape[-3]} non-negative numbers, one per criterion "
            "and not all 0."
        )
    return PreferenceGame(0.5 + 0.5 * np.einsum("c,...cij->...ij", w / w.sum(), votes))


def from_function(prefers: Callable[[R, R], float], responses: Sequence[R]) -> PreferenceGame:
    """The game of a judge: `prefers(a, b)` is the probability that `a` is preferred to `b`.

    The judge is asked about every ordered pair of `responses`. The two orders are averaged,
    `P = (f(a, b) + 1 - f(b, a)) / 2`, so a constant bias towards one position cancels.

    Raises `ValueError` if there are no responses, or for an answer outside [0, 1].
    """
    verdicts = np.array([[float(prefers(a, b)) for b in responses] for a in responses])
    if verdicts.size == 0:
        raise ValueError("`responses` must hold at least one response.")
    # Not the negation of `<` and `>`, which NaN would pass.
    if not ((verdicts >= 0) & (verdicts <= 1)).all():
        raise ValueError("`prefers` must return probabilities: finite and in [0, 1].")
    return PreferenceGame(0.5 + 0.5 * (verdicts - verdicts.T))


def _votes(criteria: ArrayLike) -> Array:
    """1, 0 or -1 if a criterion scores `i` above, equal to or below `j`, `(..., C, Y, Y)`."""
    scores = finite_numbers(criteria, "criteria")
    if scores.ndim < 2 or scores.size == 0:
        raise ValueError(f"`criteria` must be (C, Y) or (X, C, Y), got shape {scores.shape}.")
    above = scores[..., :, None] > scores[..., None, :]
    return above.astype(np.float64) - np.swapaxes(above, -1, -2)


def _indices_of(ballots: Sequence[Sequence[Hashable]]) -> list[Hashable]:
    seen = [name for ballot in ballots for name in ballot]
    if not seen or not all(isinstance(i, (int, np.integer)) and i >= 0 for i in seen):
        raise ValueError(
            "`ballots` must hold indices 0, 1, ...; if they hold names, list these in `candidates`."
        )
    return list(range(1 + max(int(i) for i in seen if isinstance(i, (int, np.integer)))))
