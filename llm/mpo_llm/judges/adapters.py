"""Judges written elsewhere, as they are: plain functions and TRL's pairwise judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpo_games.protocol import Array


@dataclass(frozen=True, slots=True)
class OneByOne:
    """A function of one comparison, `(prompt, a, b) -> P(a > b)`; None where it has no answer."""

    function: Callable[[str, str, str], float | None]

    def __call__(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]
    ) -> list[float | None]:
        return [self.function(*comparison) for comparison in zip(prompts, a, b, strict=True)]


class PairwiseJudge(Protocol):
    """The shape of TRL's pairwise judges (up to its 1.0), which are not imported."""

    def judge(
        self, prompts: list[str], completions: list[list[str]], shuffle_order: bool = True
    ) -> list[int]:
        """The index of the better completion of each pair; -1 where there is no answer."""
        ...


@dataclass(frozen=True, slots=True)
class FromPairwiseJudge:
    """A judge of TRL's interface. Its -1 is a failure and not, as in TRL, a win of either side."""

    judge: PairwiseJudge
    shuffle_order: bool = False
    """Whether it may swap the sides by its own random numbers: `OrderDebiased` does without."""

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        pairs = [list(pair) for pair in zip(a, b, strict=True)]
        best = self.judge.judge(list(prompts), pairs, shuffle_order=self.shuffle_order)
        answers = {0: 1.0, 1: 0.0, -1: np.nan}
        strange = [rank for rank in best if rank not in answers]
        if strange:
            raise ValueError(f"A pairwise judge must answer 0, 1 or -1, got {strange[0]}.")
        return np.array([answers[rank] for rank in best])
