"""Fourth choice of a mirror-type solver: when and where the magnet moves.

Each is a `MagnetSchedule`: a frozen value, called after every step with `(game, state)`. It returns
the state as it is, or with the magnet moved (`state.move`). If the decision cost evaluations, the
schedule charges them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mpo_games.capabilities import Checkable, Located, SelfTunable, Smoothable
from mpo_games.checks import (
    is_number,
    require_callable,
    require_count,
    require_positive,
    require_ratio,
    require_steps,
    require_verbs,
)
from mpo_games.labelled import shown
from mpo_games.protocol import Array, ExactGame, Game, MagnetSchedule, Number, P, State
from mpo_games.written import written

SOLVED = 1e-15
"""A gap below this share of the first gap is a rounding error, and the magnet no longer moves."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Never moves: MMD converges to the regularised equilibrium (Sokota et al. 2023).

    >>> solve(load('comal'), MMD(eta=0.3, alpha=0.1, magnet=Fixed()), 500).state.moved_at
    0
    """

    __repr__ = written

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        return state


@dataclass(frozen=True, slots=True)
class Every:
    """Moves to the current policy every `period` steps: MPO (Wang et al. 2025).

    `period = 1` is plain mirror descent, and circles. With a `floor` the magnet is the policy with
    that share of uniform play mixed in at every decision. Actions whose probability fell to 0 can
    then come back; in return, a gap of the order of the floor remains. `ValueError` for a `floor`
    outside [0, 1), or with a policy that is not `Smoothable`.

    >>> solve(load('comal'), MMD(eta=0.3, alpha=0.1, magnet=Every(50)), 3000).state.moved_at
    3000
    """

    period: int
    floor: float = 0.0

    __repr__ = written

    def __post_init__(self) -> None:
        require_steps("period", self.period)
        if not (is_number(self.floor) and 0.0 <= self.floor < 1.0):
            raise ValueError(f"`floor` must lie in [0, 1), got {shown(self.floor)}.")

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        if state.step % self.period:
            return state
        if not self.floor:
            return state.move(state.policy.snapshot())
        if not isinstance(state.policy, Smoothable):
            raise ValueError(
                f"`floor` mixes uniform play into the magnet, which a "
                f"{type(state.policy).__name__} cannot: use `Every(period)` without it."
            )
        return state.move(cast(P, state.policy.smooth(self.floor)))


@dataclass(frozen=True, slots=True)
class Ema:
    """Drifts towards the policy every step: `magnet^(1 - rate) policy^rate`, normalised.

    This is the moving magnet of the MMD paper (Sokota et al. 2023). It drifts and never jumps, so
    it never sets `state.moved_at`. `ValueError` unless `0 < rate <= 1`.

    >>> solve(load('comal'), MMD(eta=0.3, alpha=0.1, magnet=Ema(0.01)), 3000).gap < 1e-3
    True
    """

    rate: float
    """The share of the way to the policy that the magnet goes in a step, in logarithms."""

    __repr__ = written

    def __post_init__(self) -> None:
        if not (is_number(self.rate) and 0.0 < self.rate <= 1.0):
            raise ValueError(f"`rate` must lie in (0, 1], got {shown(self.rate)}.")

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        return replace(state, magnet=state.magnet.mix(state.policy, self.rate))


@dataclass(frozen=True, slots=True)
class WhenGapFell:
    """Moves when the duality gap has fallen to `ratio` times its value at the last move.

    It looks at the gap every `check` steps. A look is free if the solver keeps the feedback of the
    policy that is played (`popov`); otherwise it charges an evaluation, and one more for the gap of
    the first magnet. In a batch of games all magnets move together, when the worst gap has fallen
    far enough. `ValueError` for a game without `duality_gap`, and unless `0 < ratio < 1`.

    >>> solve(load('comal'), MMD(0.3, 0.1, magnet=WhenGapFell(0.8)), 2000).gap < 0.01
    True
    """

    ratio: float
    check: int = 10

    __repr__ = written

    def __post_init__(self) -> None:
        require_ratio(self.ratio, self.check)

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        if state.step % self.check:
            return state
        price = 1.0 if state.q is None else 0.0
        if "gap_at_move" not in state.memory:
            if not isinstance(game, Checkable):
                raise ValueError(
                    "`WhenGapFell` asks for the duality gap, which "
                    f"a {type(game).__name__} does not know: use `Every(period)`."
                )
            start = _worst(game.duality_gap(state.magnet)) if price else _gap(game, state)
            state = state.remember(gap_at_move=start, gap_at_start=start)
            state = state.charge(price)
        gap = _gap(game, state)
        if price:
            state = state.charge(price)
        # A gap of rounding errors falls by chance: each move would restart the anchor for nothing.
        solved = gap <= SOLVED * state.memory["gap_at_start"]
        if solved or not gap <= self.ratio * state.memory["gap_at_move"]:
            return state
        return state.remember(gap_at_move=gap).move(state.policy.snapshot())


@dataclass(frozen=True, slots=True)
class WhenInnerSolved:
    r"""Moves when the regularised game is solved to a fraction of the distance travelled.

    $$\text{regularised gap} \le \text{ratio}\;\alpha\,\mathrm{KL}(\text{policy}\|\text{magnet})$$

    This is the relative-error criterion of an inexact proximal point step, at the `alpha` of the
    solver's last step. It looks every `check` steps and charges an evaluation for each look. It
    needs an `ExactGame`, and a solver whose `alpha` is a number above 0, else `ValueError`. In a
    batch of games all magnets move together, when the largest gap of any game satisfies this with
    the smallest KL of any game.

    >>> solve(load('comal'), MMD(0.3, 0.1, magnet=WhenInnerSolved(0.1)), 3000).gap < 1e-6
    True
    """

    ratio: float
    """How far the regularised game is to be solved: smaller moves later."""
    check: int = 10
    """Steps between two looks."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_ratio(self.ratio, self.check)

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        if state.step % self.check:
            return state
        alpha = state.alpha
        if not isinstance(alpha, float | int) or not alpha > 0.0:
            raise ValueError(
                f"`WhenInnerSolved` needs a solver whose `alpha` is a number above 0, got {alpha}."
            )
        require_verbs(self, game, "regularised_gap", "divergence")
        exact = cast(ExactGame[P, Any], game)
        left = np.max(exact.regularised_gap(state.policy, state.magnet, alpha))
        travelled = alpha * np.min(exact.divergence(state.policy, state.magnet))
        state = state.charge(1.0)
        return state.move(state.policy.snapshot()) if left <= self.ratio * travelled else state


@dataclass(frozen=True, slots=True)
class Leap:
    r"""Moves like `schedule`, and leaps ahead where play drifts.

    Play may still give weight to an action that no equilibrium uses. The game among the actions
    with weight then has no equilibrium inside its simplex, and play circles about a point that
    drifts towards the boundary at constant speed (the displacement vector of Applegate et al.
    2024). This lasts until the action is gone. `Leap` covers that way at once. Let `k` be the steps
    since the last move. At every power of two `k`, from `first` on, the means of play over the last
    two windows, `[k/4, k/2)` and `[k/2, k)`, give the direction $d = \bar p - \bar p'$. Policy and
    magnet leap to

    $$\bar p + s\,d,\qquad
    s = \max\{s : \bar p + s\,d \text{ is a policy},\ \text{gap}(\bar p + s\,d) \le
    \text{gap}(\bar p)\}$$

    if `s` is at least `windows` and does not magnify rounding errors to the size of the gap.
    Feedback and gap there are free, because feedback is linear. `Leap` needs exact feedback that is
    kept (`popov`), a `Located` policy and a `SelfTunable` game. `ValueError` unless `windows` is
    above 0 and `first` a power of two of at least 4.

    >>> MMD(eta=Measured(0.45), alpha=Anchored(), magnet=Leap(WhenGapFell(0.3)), feedback=popov)
    MMD(eta=Measured(0.45), alpha=Anchored(), magnet=Leap(WhenGapFell(0.3)), feedback=popov)
    """

    schedule: MagnetSchedule
    windows: float = 4.0
    first: int = 32

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("schedule", self.schedule, "`Every(50)`")
        require_positive("windows", self.windows)
        require_count("first", self.first, least=4)
        if self.first & (self.first - 1):
            raise ValueError(f"`first` must be a power of two, at least 4, got {self.first}.")

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        state = self.schedule(game, state)
        k = state.step - state.moved_at
        # The windows begin anew after a move, and where the state has no feedback to add up.
        if k == 0 or state.q is None:
            return state.remember(travelled=0.0, gathered=0.0)
        policy = cast(Located, state.policy)
        total = state.memory.get("travelled", 0.0) + policy.point
        total_q = state.memory.get("gathered", 0.0) + state.q
        if k & (k - 1):  # not a power of two: within a window
            return state.remember(travelled=total, gathered=total_q)
        window = max(k // 2, 1)
        mean, mean_q = total / window, total_q / window
        ended = state.remember(travelled=0.0, gathered=0.0, mean=mean, mean_q=mean_q)
        if k < self.first:
            return ended
        drift, drift_q = mean - state.memory["mean"], mean_q - state.memory["mean_q"]

        tunable = cast(SelfTunable[P], game)

        def gap(ahead: float) -> float:
            return _worst(tunable.gap(state.policy, mean_q + ahead * drift_q))

        limit = gap(0.0)
        ahead = _largest(lambda s: gap(s) <= limit, _room(mean, drift))
        # An extrapolated gap is worth nothing once its rounding errors are as large as it is.
        magnified = ahead * SOLVED * float(np.max(np.abs(mean_q)))
        # A short leap gains less than the steps that the restart of the anchor loses.
        if not (ahead >= self.windows and magnified < limit):
            return ended
        # The room was measured in floats: an entry may end a rounding error below 0.
        there = cast(P, policy.at(np.maximum(mean + ahead * drift, 0.0)))
        leapt = replace(ended, policy=there, q=mean_q + ahead * drift_q)
        leaps = state.memory.get("leaps", 0) + 1
        return leapt.remember(gap_at_move=gap(ahead), leaps=leaps).move(there)


def _worst(gap: Number) -> float:
    return float(gap if np.ndim(gap) == 0 else np.max(gap))


def _gap(game: Game[P, Any], state: State[P]) -> float:
    """The duality gap of the policy that is played: free where its feedback is kept."""
    if state.q is not None:
        return _worst(cast(SelfTunable[P], game).gap(state.policy, state.q))
    return _worst(cast(Checkable, game).duality_gap(state.policy))


def _room(point: Array, drift: Array) -> float:
    """The largest `s` at which `point + s drift` is not negative."""
    falls = drift < 0.0
    return float(np.min(point[falls] / -drift[falls], initial=np.inf))


def _largest(holds: Callable[[float], bool], high: float) -> float:
    """The largest `s` in `[0, high]` for which `holds(s)`, to one per cent.

    `holds` must be true from 0 up to some number, and false from there on. The result is 0 if
    `high` is infinite.
    """
    if not np.isfinite(high):
        return 0.0
    if holds(high):
        return high
    low = 0.0
    while high - low > 0.01 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
        # A leap this short gains nothing, so its exact length is not worth the search.
        if high < 1.0:
            break
    return low
