"""Restarts: a method begins again from its best policy whenever that has improved enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from mpo_games.capabilities import Coordinated, answer_of
from mpo_games.checks import require_ratio, require_solver, require_verbs
from mpo_games.protocol import ExactGame, Game, Mask, Number, P, Solver, State
from mpo_games.solvers.averaged import Averaged, along
from mpo_games.written import written

KEPT = ("regrets",)
"""The entries of the memory that survive a restart. Without its regrets, regret matching would lose
the policy in the next step. (With a `floor` it makes new regrets from the policy.)"""


@dataclass(frozen=True, slots=True)
class Restarted:
    r"""Restarts `solver` whenever its gap has fallen to `ratio` times that of the last restart.

    If `solver` is an `Averaged`, it restarts from the better of policy and average (Chakrabarti,
    Diakonikolas & Kroer 2023; PDLP does the same, Applegate et al. 2021), otherwise from the last
    iterate (Cai et al. 2023). Every `check` steps the gap is compared with that of the last
    restart. Once $\text{gap} \le \text{ratio}\cdot\text{gap}_{\text{last}}$, that point becomes
    policy, magnet and average, and the method begins anew. If a method has an $O(1/T)$ gap on a
    sharp problem, as zero-sum games are, restarts make its rate linear. A comparison charges an
    evaluation for each point, and the gap of the start costs one more. In a batch every game
    restarts by itself. The answer is the point from which it would restart. `ValueError` unless
    `0 < ratio < 1` and `check >= 1`.

    >>> solve(load('biased_rps'), Restarted(PCFRPlus()), 500).gap < 1e-12
    True
    """

    solver: Solver
    ratio: float = 0.5
    check: int = 10

    __repr__ = written

    def __post_init__(self) -> None:
        require_solver(self.solver)
        require_ratio(self.ratio, self.check)

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `solver`, which counts steps from the last restart; then perhaps a restart."""
        exact = cast(ExactGame[P, Any], game)
        if "restarted" not in state.memory:
            require_verbs(self, game, "duality_gap")
            gap = exact.duality_gap(state.policy)
            start = np.full(np.shape(gap), state.step)[()]
            state = state.remember(gap_at_restart=gap, restarted=start).charge(1.0)
        start, last = state.memory["restarted"], state.memory["gap_at_restart"]
        # In a batch the solver's step count is an array: every game restarts by itself.
        moved_at: Any = np.maximum(state.moved_at - start, 0)
        local = replace(state, step=state.step - start, moved_at=moved_at)
        local = self.solver.step(game, local, rng)
        moved_at = int(np.max(local.moved_at + start))
        state = replace(local, step=state.step + 1, moved_at=moved_at)
        return state if state.step % self.check else self._look(exact, state, start, last)

    def answer(self, game: Game[P, Any], state: State[P]) -> P:
        """The better of policy and average of an `Averaged`; else the answer of `solver`."""
        if isinstance(self.solver, Averaged) and "average" in state.memory:
            return _better(cast(ExactGame[P, Any], game), state)[0]
        return answer_of(self.solver, game, state)

    def _look(
        self, game: ExactGame[P, Any], state: State[P], start: Number, last: Number
    ) -> State[P]:
        """The state after a restart of the games whose gap has fallen far enough."""
        if isinstance(self.solver, Averaged):
            best, gap = _better(game, state)
            state = state.charge(1.0)
        else:
            best, gap = state.policy, game.duality_gap(state.policy)
        state = state.charge(1.0)
        restart = np.asarray(gap <= self.ratio * last)
        if not restart.any():
            return state
        # In a batch the other games go on, so memory is emptied entry by entry.
        memory = {
            name: item if name in KEPT else _where(restart, best, item)
            for name, item in state.memory.items()
            if name in KEPT or not restart.all() or name == "average"
        }
        memory["restarted"] = np.where(restart, state.step, start)[()]
        memory["gap_at_restart"] = np.where(restart, gap, last)[()]
        # The kept feedback is that of the policy before the restart.
        q = None if state.q is None or restart.all() else _where(restart, best, state.q)
        policy, magnet = (_where(restart, best, old) for old in (state.policy, state.magnet))
        begun = replace(state, policy=policy, memory=memory, q=q, eta=None, alpha=None)
        return begun.move(magnet)


def _better(game: ExactGame[P, Any], state: State[P]) -> tuple[P, Number]:
    """The better of policy and average, in each game of a batch, and its gap."""
    average: P = state.memory["average"]
    gap, other = game.duality_gap(state.policy), game.duality_gap(average)
    better: P = _where(np.asarray(other <= gap), average, state.policy)
    return better, np.minimum(gap, other)


def _where(chosen: Mask, new: Any, old: Any) -> Any:
    """The `new` policy in the `chosen` games, the `old` one in the others.

    If `old` is a number or an array, it becomes 0 in the `chosen` games.
    """
    if not isinstance(old, Coordinated):
        return np.where(along(chosen, np.ndim(old)), 0.0, old)
    if not np.ndim(chosen):
        return new if chosen else old
    mask = along(chosen, old.coordinates.ndim)
    return old.replace(np.where(mask, new.coordinates, old.coordinates))
