"""The average iterate, tracked beside any solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mpo_games.checks import require_kind, require_power, require_solver, require_verbs
from mpo_games.protocol import Array, ExactGame, Game, Mask, Mixture, Number, P, Solver, State
from mpo_games.solvers.schedules import Power, at_step
from mpo_games.written import Shorthand, first_that_makes, written


@dataclass(frozen=True, slots=True)
class Averaged:
    r"""Runs `solver` and keeps the average of the policies it played in `memory["average"]`.

    $$\bar p_T = \sum_{t\le T} t^{d} p_t \Big/ \sum_{t\le T} t^{d}$$

    The `degree` d is 0 for the uniform average, 1 for the linear one (CFR+) and 2 for the quadratic
    one (DCFR). It may be a function of t. Then the policies until t are discounted by
    $(t/(t+1))^{d(t)}$ before the next one is added; with a constant this is the same average.
    The average is the answer: `solve` measures and returns it. The iterates are those of `solver`,
    bit for bit.
    `ValueError` unless `degree` lies in [0, 30].

    >>> run = solve(load('comal'), Averaged(MirrorDescent(0.3)), 500)
    >>> bool(run.gap < load('comal').duality_gap(run.iterate))
    True
    """

    solver: Solver
    degree: Power = 0.0

    __repr__ = written

    def __post_init__(self) -> None:
        require_solver(self.solver)
        if isinstance(self.degree, type) or not callable(self.degree):
            require_power("degree", cast(float, self.degree))

    def shorthand(self) -> Shorthand | None:
        """The function that makes this average of a solver, if the solver knows one."""
        # By name, since the solvers whose averages have names stand above this file.
        readings = getattr(self.solver, "averages", None)
        return first_that_makes(self, readings(self.degree)) if callable(readings) else None

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """Add the policy that is played now to the average, then step."""
        if "average" not in state.memory:
            require_verbs(self, game, "average")
        degree = self._degree(state.step)
        weight = (state.step + 1.0) ** degree
        total = self._rescaled(state, degree) + weight
        average = state.memory.get("average", state.policy)
        share: Any = weight / total
        # `Restarted` may restart the games of a batch at different times: each has its own weight.
        if isinstance(share, np.ndarray):
            share = along(share, np.ndim(average.coordinates))
        average = cast(ExactGame[P, Any], game).average(
            Mixture((average, state.policy), (1.0 - share, share))
        )
        own = _own(state)
        after = self.solver.step(game, own, rng)
        # Under noise `AutoMPO` plays an average of its own, under the same names.
        if after.memory.get("average") is not own.memory.get("average"):
            after = after.remember(
                inner_average=after.memory["average"],
                # A restart of the solver begins its average anew, without a weight.
                inner_average_weight=after.memory.get("average_weight", 0.0),
            )
        return after.remember(average=average, average_weight=total)

    def answer(self, game: Game[P, Any], state: State[P]) -> P:
        """The average; before the first step the start."""
        average: P = state.memory.get("average", state.policy)
        return average

    def _degree(self, t: Number) -> Number:
        return at_step("degree", self.degree, t, least=0.0)

    def _rescaled(self, state: State[P], degree: Number) -> Number:
        """The weight of the policies until now, in powers of `degree`."""
        total: Number = state.memory.get("average_weight", 0.0)
        if not callable(self.degree):
            return total
        # In this total the newest policy, the t-th, weighs t^d(t - 1); from now on it is t^d(t). In
        # the first step the total is 0, and so it stays.
        t = np.maximum(state.step, 1)
        return np.asarray(total * t ** (degree - self._degree(t - 1)))[()]


def _own(state: State[P]) -> State[P]:
    """The state as the solver inside knows it: with the average that it keeps itself, if any."""
    if "inner_average" not in state.memory:
        return state
    return state.remember(
        average=state.memory["inner_average"],
        average_weight=state.memory["inner_average_weight"],
    )


def along(numbers: Array | Mask, axes: int) -> Array:
    """`numbers` with trailing axes of length 1, to broadcast against an array of `axes` axes."""
    lead = np.shape(numbers)
    return np.reshape(numbers, (*lead, *(1,) * (axes - len(lead))))


@dataclass(frozen=True, slots=True)
class PlayedAverage:
    """Runs `solver` and makes the average of its policies the policy of every state.

    The iterate of `solver`, from which it steps and asks for feedback, is `state.iterate`. `solve`
    gives the same answer with `solver` alone; this is for who reads the states of `iterate`, and
    for a method that answers with an average on some games only, as `AutoMPO` does.

    >>> game = load('comal')
    >>> run = solve(game, PlayedAverage(Averaged(MirrorDescent(0.3))), 300)
    >>> run.policy is run.state.policy is run.state.memory['average']
    True
    """

    solver: Averaged

    __repr__ = written

    def __post_init__(self) -> None:
        require_kind("solver", self.solver, Averaged, "an average, `Averaged(solver)`")

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `solver` from its own iterate."""
        # The steps are taken at the iterate, so the feedback must be asked there too.
        state = self.solver.step(game, replace(state, policy=state.iterate), rng)
        # In the memory of the new state, the iterate is still that of the state before.
        average: P = state.memory["average"]
        return replace(state, policy=average).remember(iterate=state.policy)
