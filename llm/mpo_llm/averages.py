"""The average of weights, tracked beside any solver of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from mpo_games.capabilities import answer_of
from mpo_games.checks import is_number, require_solver
from mpo_games.labelled import shown
from mpo_games.protocol import Game, P, Solver, State
from mpo_games.written import written


@dataclass(frozen=True, slots=True)
class WeightAveraged:
    r"""Runs `solver` and keeps an average of the weights it played in `memory["average"]`.

    $$\bar\theta_{t+1} = \bar\theta_t + \max\Big(\text{rate}, \frac{1}{t+2}\Big)
    (\theta_{t+1} - \bar\theta_t)$$

    So it is the plain mean of all policies at first, and forgets old ones later. It is for networks
    what `mg.Averaged` is for tables, with one difference: unless `answers`, the answer that
    `mg.solve` measures and returns stays that of `solver`, the last iterate.
    `mg.metrics.average_gap` measures the average. The iterates are those of `solver`, bit for bit.
    `ValueError` unless `0 < rate <= 1`.
    """

    solver: Solver
    rate: float = 0.05
    answers: bool = False
    """Whether the average is the answer. It is a network as well, so it can be played."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_solver(self.solver)
        if not (is_number(self.rate) and 0.0 < self.rate <= 1.0):
            raise ValueError(f"`rate` must lie in (0, 1], got {shown(self.rate)}.")

    def answer(self, game: Game[P, Any], state: State[P]) -> P:
        """The average if it `answers`, and else that of `solver`: it is no better everywhere."""
        if self.answers and "average" in state.memory:
            average: P = state.memory["average"]
            return average
        return answer_of(self.solver, game, state)

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `solver`; then the average goes a part of the way to the new policy."""
        # A snapshot, because an average needs no optimiser.
        average: Weighed = state.memory.get("average", state.policy.snapshot())
        share = max(self.rate, 1.0 / (state.step + 2))
        after = self.solver.step(game, state, rng)
        return after.remember(average=average.averaged(after.policy, share))


class Weighed(Protocol):
    """A policy of networks, whose weights can be averaged: `TokenPolicy`, `TreePolicy`."""

    def averaged(self, other: Any, weight: float, /) -> Self:
        """The networks of weights `(1 - weight) self + weight other`."""
        ...
