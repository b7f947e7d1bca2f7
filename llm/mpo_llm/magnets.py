"""The magnet schedule that only networks have: an average of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mpo_games.checks import is_number
from mpo_games.labelled import shown
from mpo_games.protocol import State
from mpo_llm.policy import TokenPolicy


@dataclass(frozen=True, slots=True)
class WeightEma:
    """The magnet drifts towards the policy in weights: `magnet + rate (policy - magnet)` a step.

    It is for a network what `mg.Ema` is for a table. `ValueError` unless `0 < rate <= 1`.
    """

    rate: float
    """The share of the distance that the magnet goes in a step."""

    def __post_init__(self) -> None:
        if not (is_number(self.rate) and 0.0 < self.rate <= 1.0):
            raise ValueError(f"`rate` must lie in (0, 1], got {shown(self.rate)}.")

    def __call__(self, game: Any, state: State[TokenPolicy]) -> State[TokenPolicy]:
        # Not the geometric mixture of `mg.Ema`, which would have one network more after each step.
        return replace(state, magnet=state.magnet.averaged(state.policy, self.rate))
