"""Several judges, one verdict: a majority of transitive criteria can be cyclic (Condorcet)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpo_games.protocol import Array
from mpo_llm.judges.protocol import Judge, heard

Rule = Callable[[Array], Array]
"""Verdicts `(N,)` of the judges' probabilities `(judges, N)`."""


def majority(votes: Array) -> Array:
    """The side that most judges are on wins outright; a judge at 1/2 abstains, and sides tie."""
    balance = np.sign(votes - 0.5).sum(axis=0)
    return np.asarray(0.5 + 0.5 * np.sign(balance))


def mean(votes: Array) -> Array:
    """The judges' mean probability: how a judge drawn at random decides."""
    return np.asarray(votes.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Vote:
    """Judges put to the vote. Where one of them fails, so does the verdict."""

    judges: tuple[Judge, ...]
    rule: Rule = majority

    def __post_init__(self) -> None:
        if not self.judges:
            raise ValueError("A vote needs a judge.")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        votes = np.stack([heard(judge, prompts, a, b) for judge in self.judges])
        return np.where(np.isnan(votes).any(axis=0), np.nan, self.rule(votes))
