"""Judges made of a score. Each distinct response is scored once, however many rivals it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from mpo_games.checks import require_callable, require_positive, require_weight
from mpo_games.protocol import Array
from mpo_games.written import written
from mpo_llm.judges.protocol import numbers

Score = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""`score(prompts, responses)`: N numbers, in any unit, that say how good each response is.

NaN or None says that the score failed on a response. Infinite scores are above or below all others.
"""


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    r"""$P(a \succ b) = \sigma((s(a) - s(b)) / \text{scale})$: the preferences of a reward model.

    Its preferences are transitive. `ValueError` unless `scale` is finite and
    above 0.
    """

    score: Score
    scale: float = 1.0
    """The difference of scores that means odds of e to 1, in units of the score."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("score", self.score, "`brevity`")
        require_positive("scale", self.scale)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.asarray(expit(_differences(self.score, prompts, a, b) / self.scale))


@dataclass(frozen=True, slots=True)
class Higher:
    """The response with the higher score wins with probability 1."""

    score: Score
    tie: float = 0.0
    """Scores that differ by at most this much tie, in units of the score."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("score", self.score, "`brevity`")
        require_weight("tie", self.tie)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        apart = _differences(self.score, prompts, a, b)
        # A failed score stays NaN, because NaN times False is NaN.
        return 0.5 + 0.5 * np.sign(apart) * (np.abs(apart) > self.tie)


def scored(score: Score, prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The scores of N responses, `(N,)`, NaN where the score failed.

    Equal responses to equal prompts are scored once. `JudgeError` unless the score returns one
    number, None or NaN for each distinct response.
    """
    rows = list(zip(prompts, responses, strict=True))
    distinct = list(dict.fromkeys(rows))
    answers = score([x for x, _ in distinct], [y for _, y in distinct])
    found = numbers(answers, len(distinct), "A score", "response")
    where = {row: i for i, row in enumerate(distinct)}
    return found[[where[row] for row in rows]]


def _differences(score: Score, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    # One call, so that a response that stands on both sides is scored once.
    both = scored(score, [*prompts, *prompts], [*a, *b])
    first, second = both[: len(a)], both[len(a) :]
    # Two infinite scores that are equal tie. Their difference would be NaN, a failure.
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, first - second)
