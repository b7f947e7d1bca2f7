"""Second choice of a mirror-type solver: how long the step is, and how strong the magnet.

`eta`, in 1 / payoff, and `alpha`, in units of payoff, are numbers or functions of the state. `eta`
is computed first, so a function for `alpha` finds the step size of the same step in `state.eta`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.capabilities import Measurable
from mpo_games.checks import require_positive, require_power, require_weight
from mpo_games.choices.feedback import earlier
from mpo_games.labelled import shown
from mpo_games.protocol import Number, State
from mpo_games.written import written

Setting = float | Callable[[State[Any]], Number]
"""A number, or a function of the state (of `state.step - state.moved_at`, say)."""

NEAR = 1e-6
"""`Measured` suspects rounding errors if a step is shorter than this share of the geometry's unit,
or if `eta` times the change of feedback is smaller than this share of the step."""

LONGEST = 1e305
"""The longest step size, and the reciprocal of the shortest one: beyond it payoffs are so small or
large that products with them are 0 or infinite."""

ROUNDING = 1e-14
"""Changes below this, relative to the feedback, are rounding errors."""


@dataclass(frozen=True, slots=True)
class Decaying:
    """The setting `start / (t + 1)^power` at step `t`.

    >>> MMD(eta=Decaying(start=1.0, power=0.5), alpha=0.1)
    MMD(eta=Decaying(start=1.0, power=0.5), alpha=0.1)
    """

    start: float
    """The setting of the first step."""
    power: float
    """How fast it falls."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_weight("start", self.start)
        require_positive("power", self.power)
        require_power("power", self.power)

    def __call__(self, state: State[Any]) -> float:
        return float(self.start / (state.step + 1) ** self.power)


@dataclass(frozen=True, slots=True)
class Anchored:
    """The annealed magnet weight `alpha_k = 1 / (eta (k + 1))`, `k` steps after the last move.

    With it MMD's step is Halpern's: `eta alpha_k = 1 / (k + 1)` (Halpern 1967).

    >>> MMD(eta=Measured(0.45), alpha=Anchored(), magnet=WhenGapFell(0.3), feedback=popov)
    MMD(eta=Measured(0.45), alpha=Anchored(), magnet=WhenGapFell(0.3), feedback=popov)
    """

    __repr__ = written

    def __call__(self, state: State[Any]) -> Number:
        assert state.eta is not None
        return 1.0 / (state.eta * (state.step - state.moved_at + 1))


@dataclass(frozen=True, slots=True)
class Measured:
    r"""A step size measured at the policy: `ratio` over the local Lipschitz constant of feedback.

    $$\eta_{t+1} = \min\Big(\text{growth}\;\eta_t,\;
    \text{ratio}\,\frac{\|p_t - p_{t-1}\|}{\|q_t - q_{t-1}\|_*}\Big)$$

    in the norm of the geometry at `p` and its dual. The first step size is the geometry's unit of
    length over the norm of `q`. Once a change is a rounding error, the step size stays as it is.
    It needs a `Measurable` policy and a feedback that keeps `q` (`popov`). `ValueError` unless
    `ratio` and `growth` are above 0.

    >>> MMD(eta=Measured(0.45), alpha=0.0, feedback=popov)
    MMD(eta=Measured(0.45), alpha=0.0, feedback=popov)
    """

    ratio: float
    growth: float = 1.05

    __repr__ = written

    def __post_init__(self) -> None:
        require_positive("ratio", self.ratio)
        require_positive("growth", self.growth)

    def __call__(self, state: State[Measurable]) -> float:
        before = earlier(state)
        if before is None:
            return _opening(state)
        earlier_policy, earlier_q, tried = before
        policy, q, eta = state.policy, state.q, _last(state)
        moved = policy.distance(earlier_policy)
        changed = policy.dual_norm(q - earlier_q, earlier_policy)
        # The quotient of two rounding errors would be an arbitrary step size.
        if moved < NEAR * policy.extent or eta * changed < NEAR * moved:
            rounding = ROUNDING * policy.magnitude(q)
            if not (changed > rounding and moved > eta * rounding):
                return eta
        # Feedback that does not change, or play that does not move, measures nothing.
        if not (changed > 0.0 and moved > 0.0):
            return eta
        measured = _within_floats(self.ratio * moved / changed)
        # The opening's step size is a guess: the first measurement may exceed it by any factor.
        return measured if tried else _within_floats(min(self.growth * eta, measured))


@dataclass(frozen=True, slots=True)
class Adaptive:
    r"""A step size that shrinks with every change of feedback, and therefore with noise.

    $$\eta_t = \text{ratio}\;D\,\Big(\sum_{s\le t}\|q_s - q_{s-1}\|_*^2\Big)^{-1/2}$$

    with `D` the geometry's unit of length and $q_0 = 0$ (Rakhlin & Sridharan 2013). The gap of the
    average then falls like `1/t` without noise and like `sigma / sqrt(t)` with it. It needs a
    `Measurable` policy and a feedback that keeps `q` (`popov`). `ValueError` unless `ratio` is
    above 0.

    >>> MMD(eta=Adaptive(0.3), alpha=0.0, feedback=popov)
    MMD(eta=Adaptive(0.3), alpha=0.0, feedback=popov)
    """

    ratio: float

    __repr__ = written

    def __post_init__(self) -> None:
        require_positive("ratio", self.ratio)

    def __call__(self, state: State[Measurable]) -> float:
        policy, before = state.policy, earlier(state)
        length = self.ratio * policy.extent
        if before is None:
            return float(self.ratio * _opening(state))
        eta, (earlier_policy, earlier_q, _) = _last(state), before
        surprise = policy.dual_norm(state.q - earlier_q, earlier_policy)
        # A tree without decisions has no length, and nothing to step.
        if not length > 0.0:
            return eta
        # 1 / eta is the root of the sum of squares so far; `hypot` adds one more square to it.
        return _within_floats(1.0 / math.hypot(1.0 / eta, surprise / length))


def _last(state: State[Any]) -> float:
    """The step size of the last step. `ValueError` if it is no number, as in an edited file."""
    if not isinstance(state.eta, float):
        raise ValueError(
            f"`state.eta` must be the number that the last step used, got {shown(state.eta)}."
        )
    return state.eta


def at(name: str, setting: Callable[[State[Any]], Number], state: State[Any]) -> Number:
    """The setting at `state`; `ValueError`, naming `name`, unless it is finite and at least 0."""
    number = setting(state)
    # Floats are compared first, since the check by NumPy takes longer than a step of a small table.
    if isinstance(number, float) and 0.0 <= number < math.inf:
        return number
    table = np.asarray(number)
    if table.dtype.kind not in "fiub" or not (np.isfinite(table) & (table >= 0.0)).all():
        raise ValueError(f"`{name}` must give finite numbers of at least 0, got {shown(number)}.")
    return number


def _opening(state: State[Measurable]) -> float:
    """The step size of `popov`'s opening: the trial step has the geometry's unit of length.

    The step before the trial does not move, so any number will do for it.
    """
    policy, q = state.policy, state.q
    if q is None:
        return 1.0
    length, magnitude = policy.dual_norm(q, policy), policy.magnitude(q)
    # Where all actions are worth the same, `length` is a rounding error.
    if not length > ROUNDING * magnitude:
        length = magnitude
    return _within_floats(policy.extent / (length or 1.0) or 1.0)


def _within_floats(eta: float) -> float:
    """`eta`, at most `LONGEST` and at least the reciprocal of that."""
    # NaN comes first, so that it stays NaN and is refused by `at`.
    return float(min(max(eta, 1.0 / LONGEST), LONGEST))
