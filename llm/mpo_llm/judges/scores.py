"""Judges made of a score. Each distinct response is scored once, however many rivals it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from mpo_games.protocol import Array

Score = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""`score(prompts, responses)`: N numbers, in any unit, that say how good each response is.

NaN or None says that the score failed on a response.
"""


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    r"""$P(a \succ b) = \sigma((s(a) - s(b)) / \text{scale})$: the preferences of a reward model.

    Its preferences are transitive. `ValueError` unless `scale` is above 0.
    """

    score: Score
    scale: float = 1.0
    """The difference of scores that means odds of e to 1, in units of the score."""

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < inf:
            raise ValueError(f"`scale` must be a finite number above 0, got {self.scale}.")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.asarray(expit(_differences(self.score, prompts, a, b) / self.scale))


@dataclass(frozen=True, slots=True)
class Higher:
    """The response with the higher score wins with probability 1."""

    score: Score
    tie: float = 0.0
    """Scores that differ by at most this much tie, in units of the score."""

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        apart = _differences(self.score, prompts, a, b)
        # A failed score stays NaN, because NaN times False is NaN.
        return 0.5 + 0.5 * np.sign(apart) * (np.abs(apart) > self.tie)


def scored(score: Score, prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The scores of N responses, `(N,)`, NaN where the score failed.

    Equal responses to equal prompts are scored once. `ValueError` unless the score returns one
    number, None or NaN for each distinct response.
    """
    rows = list(zip(prompts, responses, strict=True))
    distinct = list(dict.fromkeys(rows))
    found = np.array(score([x for x, _ in distinct], [y for _, y in distinct]), dtype=np.float64)
    if found.shape != (len(distinct),):
        raise ValueError(
            f"A score must return one number for each of {len(distinct)} responses, "
            f"got shape {found.shape}."
        )
    where = {row: i for i, row in enumerate(distinct)}
    return found[[where[row] for row in rows]]


def _differences(score: Score, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    # One call, so that a response that stands on both sides is scored once.
    both = scored(score, [*prompts, *prompts], [*a, *b])
    return np.asarray(both[: len(a)] - both[len(a) :])
