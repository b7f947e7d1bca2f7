"""The average iterate, tracked beside any solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mpo_games.protocol import Array, ExactGame, Game, Mask, Mixture, P, Solver, State


@dataclass(frozen=True, slots=True)
class Averaged:
    r"""Runs `solver` and keeps the average of the policies it played in `memory["average"]`.

    $$\bar p_T = \sum_{t\le T} t^{d} p_t \Big/ \sum_{t\le T} t^{d}$$

    with `degree` d = 0 the uniform average, 1 linear (CFR+), 2 quadratic (DCFR).
    `metrics.average_gap` reads it. The iterates are those of `solver`, bit for bit.
    """

    solver: Solver
    degree: float = 0.0

    def __post_init__(self) -> None:
        if self.degree < 0:
            raise ValueError(f"`degree` must be at least 0, got {self.degree}.")

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """Add the policy that is played now to the average, then step."""
        weight = (state.step + 1.0) ** self.degree
        total = state.memory.get("average_weight", 0.0) + weight
        average = state.memory.get("average", state.policy)
        share = weight / total
        # Games of a batch that were restarted at different times have weights of their own.
        if isinstance(share, np.ndarray):
            share = along(share, np.ndim(average.coordinates))
        average = cast(ExactGame[P, Any], game).average(
            Mixture((average, state.policy), (1.0 - share, share))
        )
        return self.solver.step(game, state, rng).remember(average=average, average_weight=total)


def along(numbers: Array | Mask, axes: int) -> Array:
    """Numbers over the leading axes, such that they broadcast against arrays of `axes` axes."""
    lead = np.shape(numbers)
    return np.reshape(numbers, (*lead, *(1,) * (axes - len(lead))))


@dataclass(frozen=True, slots=True)
class PlayedAverage:
    """Runs `solver` out of sight and hands out the average of its policies, as `Averaged` has it.

    The policy is the average; the iterate, against which feedback is asked, is
    `memory["iterate"]`.
    """

    solver: Averaged

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `solver` from its own iterate."""
        # Feedback must be asked where the steps are taken, not at the average.
        iterate: P = state.memory.get("iterate", state.policy)
        state = self.solver.step(game, replace(state, policy=iterate), rng)
        average: P = state.memory["average"]
        return replace(state, policy=average).remember(iterate=state.policy)
