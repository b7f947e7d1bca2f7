"""The magnet schedule that only networks have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mpo_games.protocol import State
from mpo_llm.policy import TokenPolicy


@dataclass(frozen=True, slots=True)
class WeightEma:
    """Drifts towards the policy in weights, `magnet + rate (policy - magnet)`, every step.

    For a network what `mg.Ema` is for a table, whose geometric mixtures would pile up networks.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"`rate` must lie in (0, 1], got {self.rate}.")

    def __call__(self, game: Any, state: State[TokenPolicy]) -> State[TokenPolicy]:
        return replace(state, magnet=state.magnet.averaged(state.policy, self.rate))
