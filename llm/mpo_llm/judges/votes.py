"""Judges that vote. The majority of transitive judges can be cyclic (Condorcet)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpo_games.checks import require_callable
from mpo_games.labelled import ordered
from mpo_games.protocol import Array
from mpo_games.written import written
from mpo_llm.judges.protocol import Judge, ask

Rule = Callable[[Array], Array]
"""A function from S judges' probabilities `(S, N)` to their common verdicts `(N,)`, in [0, 1]."""


def majority(votes: Array) -> Array:
    """The response that more judges prefer wins with probability 1; equal numbers make a tie.

    A judge counts by the side it is on, not by how sure it is. A judge at 1/2 abstains.
    """
    balance = np.sign(votes - 0.5).sum(axis=0)
    return np.asarray(0.5 + 0.5 * np.sign(balance))


def mean(votes: Array) -> Array:
    """The judges' mean probability, which is the preference of a judge drawn at random."""
    return np.asarray(votes.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Vote:
    """A judge that puts the question to several judges and combines their answers by `rule`.

    If one of them fails on a comparison, so does the vote. `ValueError` without judges.
    """

    judges: tuple[Judge, ...]
    rule: Rule = majority
    """`majority`, `mean` or a function of your own."""

    __repr__ = written

    def __post_init__(self) -> None:
        judges, _ = ordered(self.judges, "judges")
        if not judges:
            raise ValueError("`judges` must hold at least one judge, got none.")
        for judge in judges:
            require_callable("judges", judge, "`Higher(score)`")
        require_callable("rule", self.rule, "`majority`")
        object.__setattr__(self, "judges", tuple(judges))

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        votes = np.stack([ask(judge, prompts, a, b) for judge in self.judges])
        # A rule need not know about failures.
        return np.where(np.isnan(votes).any(axis=0), np.nan, self.rule(votes))
