"""Adapters that make a `Judge` of a plain function or of one of TRL's pairwise judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpo_games.checks import has_verbs, require_callable, require_flag
from mpo_games.labelled import shown
from mpo_games.protocol import Array
from mpo_games.written import written
from mpo_llm.judges.protocol import JudgeError


@dataclass(frozen=True, slots=True)
class OneByOne:
    """A judge made of a function of a single comparison."""

    function: Callable[[str, str, str], float | None]
    """`function(prompt, a, b)`: the probability that a is preferred to b; None for a failure."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("function", self.function, "`lambda prompt, a, b: 0.5`")

    def __call__(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]
    ) -> list[float | None]:
        return [self.function(*comparison) for comparison in zip(prompts, a, b, strict=True)]


class PairwiseJudge(Protocol):
    """The interface of TRL's pairwise judges (up to TRL 1.0). TRL itself is not imported."""

    def judge(
        self, prompts: list[str], completions: list[list[str]], shuffle_order: bool = True
    ) -> list[int]:
        """The index, 0 or 1, of the better completion of each pair; -1 for no answer."""
        ...


@dataclass(frozen=True, slots=True)
class FromPairwiseJudge:
    """A judge made of a TRL pairwise judge; its answers become 0, 1 or, for a failure, NaN.

    TRL's own trainers count -1 as a win of one side. Here it is a failure. `JudgeError` for any
    other answer than 0, 1 and -1.
    """

    judge: PairwiseJudge
    shuffle_order: bool = False
    """Whether the TRL judge may swap the two sides by its own random numbers. `OrderDebiased`
    removes the same bias without random numbers."""

    __repr__ = written

    def __post_init__(self) -> None:
        if not has_verbs(self.judge, "judge"):
            raise ValueError(f"`judge` must have a method `judge`, got {shown(self.judge)}.")
        require_flag("shuffle_order", self.shuffle_order)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        pairs = [list(pair) for pair in zip(a, b, strict=True)]
        best = self.judge.judge(list(prompts), pairs, shuffle_order=self.shuffle_order)
        # TRL names the winner by its index, so index 0 means that `a` is preferred for certain.
        answers = {0: 1.0, 1: 0.0, -1: np.nan}
        strange = [rank for rank in best if rank not in answers]
        if strange:
            raise JudgeError(f"A pairwise judge must answer 0, 1 or -1, got {strange[0]}.")
        return np.array([answers[rank] for rank in best])
