"""Judges made of a score: each distinct response is scored once, however many it meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from mpo_games.protocol import Array

Score = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""`score(prompts, responses)`: how good each is. NaN or None where the score failed."""


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    r"""$P(a \succ b) = \sigma((s(a) - s(b)) / \text{scale})$: what a reward model prefers."""

    score: Score
    scale: float = 1.0
    """The difference of scores that is worth odds of e to 1."""

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ValueError(f"`scale` must be above 0, got {self.scale}.")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.asarray(expit(_differences(self.score, prompts, a, b) / self.scale))


@dataclass(frozen=True, slots=True)
class Higher:
    """The higher score wins outright; scores within `tie` of each other tie."""

    score: Score
    tie: float = 0.0

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        apart = _differences(self.score, prompts, a, b)
        return 0.5 + 0.5 * np.sign(apart) * (np.abs(apart) > self.tie)


def scored(score: Score, prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The score of each response, asked once for equal ones. `ValueError` unless one number each.

    NaN where the score failed.
    """
    rows = list(zip(prompts, responses, strict=True))
    distinct = list(dict.fromkeys(rows))
    said = np.array(score([x for x, _ in distinct], [y for _, y in distinct]), dtype=np.float64)
    if said.shape != (len(distinct),):
        raise ValueError(
            f"A score must return one number for each of {len(distinct)} responses, "
            f"got shape {said.shape}."
        )
    where = {row: i for i, row in enumerate(distinct)}
    return said[[where[row] for row in rows]]


def _differences(score: Score, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    both = scored(score, [*prompts, *prompts], [*a, *b])
    return np.asarray(both[: len(a)] - both[len(a) :])
