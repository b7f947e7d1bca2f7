"""How strong the step and the magnet are: numbers, or functions of the state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from mpo_games.checks import require_positive, require_weight
from mpo_games.protocol import State

Setting = float | Callable[[State[Any]], Any]
"""A number, or a function of the state (of `state.step - state.moved`, say)."""


@dataclass(frozen=True, slots=True)
class Decaying:
    """The setting `start / (t + 1)^power` at step `t`."""

    start: float
    power: float

    def __post_init__(self) -> None:
        require_weight("start", self.start)
        require_positive("power", self.power)

    def __call__(self, state: State[Any]) -> float:
        return float(self.start / (state.step + 1) ** self.power)


@dataclass(frozen=True, slots=True)
class Anchored:
    """The annealed magnet weight `alpha_k = 1 / (eta (k + 1))`, `k` steps after the last move.

    With it MMD's step is Halpern's: `eta alpha_k = 1 / (k + 1)` (Halpern 1967).
    """

    def __call__(self, state: State[Any]) -> float:
        eta: float = state.memory["eta"]
        return 1.0 / (eta * (state.step - state.moved + 1))


def _at(name: str, setting: Setting, state: State[Any]) -> Any:
    if not callable(setting):
        return setting
    number = setting(state)
    if isinstance(number, float) and 0.0 <= number < inf:
        return number
    if not (np.isfinite(number) & (np.asarray(number) >= 0.0)).all():
        raise ValueError(f"`{name}` must give finite numbers of at least 0, got {number}.")
    return number


NEAR = 1e-6
"""Only steps shorter than this, in the geometry's unit, or feedback that hardly changes by a step,
can be rounding errors."""


ROUNDING = 1e-14
"""Changes below this, relative to the feedback, are rounding errors."""


@dataclass(frozen=True, slots=True)
class Measured:
    r"""A step size measured where play is: `ratio` over the local Lipschitz constant of feedback.

    $$\eta_{t+1} = \min\Big(\text{growth}\;\eta_t,\;
    \text{ratio}\,\frac{\|p_t - p_{t-1}\|}{\|q_t - q_{t-1}\|_*}\Big)$$

    in the norm of the geometry at `p` and its dual; the first is the inverse of `q`'s norm. Needs a
    feedback that remembers `q` (`popov`). Below `ROUNDING` nothing is measured any more.
    """

    ratio: float
    growth: float = 1.05

    def __post_init__(self) -> None:
        require_positive("ratio", self.ratio)
        require_positive("growth", self.growth)

    def __call__(self, state: State[Any]) -> float:
        memory, policy = state.memory, state.policy
        if "previous" not in memory:
            return _opening(state)
        eta: float = memory["eta"]
        moved = policy.distance(memory["previous"])
        changed = policy.dual_norm(memory["q"] - memory["previous_q"], memory["previous"])
        if moved < NEAR * policy.extent or eta * changed < NEAR * moved:
            rounding = ROUNDING * policy.magnitude(memory["q"])
            if not (changed > rounding and moved > eta * rounding):
                return eta
        measured = float(self.ratio * moved / changed)
        return min(self.growth * eta, measured) if "base" in memory else measured


@dataclass(frozen=True, slots=True)
class Adaptive:
    r"""A step size that shrinks with every surprise, and so with the noise.

    $$\eta_t = \text{ratio}\;D\,\Big(\sum_{s\le t}\|q_s - q_{s-1}\|_*^2\Big)^{-1/2}$$

    with `D` the geometry's unit of length and $q_0 = 0$ (Rakhlin & Sridharan 2013). The gap of the
    average then falls like `1/t` without noise and like `sigma / sqrt(t)` with it. Needs a feedback
    that remembers `q` (`popov`).
    """

    ratio: float

    def __post_init__(self) -> None:
        require_positive("ratio", self.ratio)

    def __call__(self, state: State[Any]) -> float:
        memory, policy = state.memory, state.policy
        length = self.ratio * policy.extent
        if "previous" not in memory:
            return self.ratio * _opening(state)
        surprise = policy.dual_norm(memory["q"] - memory["previous_q"], memory["previous"])
        return float(1.0 / math.hypot(1.0 / memory["eta"], surprise / length))


def _opening(state: State[Any]) -> float:
    """The step size of `popov`'s opening: anything for the look, then a unit of length."""
    policy, memory = state.policy, state.memory
    if "q" not in memory:
        return 1.0
    return float(policy.extent / (policy.dual_norm(memory["q"], policy) or 1.0))
