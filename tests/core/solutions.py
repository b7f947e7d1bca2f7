"""A small game, one solver of each kind, and solutions that are equal bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mpo_games as mg

GAME = mg.MatrixGame([[0.0, -1.0, 3.0], [1.0, 0.0, -1.0], [-3.0, 1.0, 0.0], [0.1, 0.2, -0.4]])
START = GAME.policy([0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.3])
MPO = mg.MPO(0.3, 0.1, 7)


class Noisy(mg.MatrixGame):
    """Feedback with noise, a different one at each call."""

    def feedback(self, policy: Any, opponent: Any = None, *, player: Any = None, rng: Any = None):
        q = super().feedback(policy, opponent, player=player)
        return q if rng is None else q + 0.1 * rng.normal(size=q.shape)


NOISY = Noisy(GAME.payoff)

SOLVERS = {
    "MPO": MPO,
    "optimistic": mg.OptimisticMPO(0.3, 0.1, 7),
    "popov": mg.MMD(0.3, 0.1, feedback=mg.popov),
    "alternating": mg.MMD(0.3, 0.1, feedback=mg.alternating),
    "extragradient": mg.EGPO(0.3, 0.1),
    "regret matching": mg.RegretMatching(plus=True, predictive=True),
    "averaged": mg.Averaged(mg.OptimisticMD(0.3), degree=1),
    "when the gap fell": mg.MMD(0.3, 0.1, magnet=mg.WhenGapFell(0.9)),
    "when the inner game is solved": mg.MMD(0.3, 0.1, magnet=mg.WhenInnerSolved(0.5)),
    "ema": mg.MMD(0.3, mg.Decaying(0.1, 0.5), magnet=mg.Ema(0.1)),
    "fictitious play": mg.FictitiousPlay(),
}
all_solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit."""
    if isinstance(a, mg.TabularPolicy):
        return a.geometry == b.geometry and same(a.coordinates, b.coordinates)
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_state(a: mg.State, b: mg.State) -> None:
    assert (a.step, a.moved_at, a.evaluations) == (b.step, b.moved_at, b.evaluations)
    assert same(a.policy, b.policy)
    assert same(a.magnet, b.magnet)
    assert all(same(getattr(a, name), getattr(b, name)) for name in ("q", "eta", "alpha"))
    assert a.memory.keys() == b.memory.keys()
    assert all(same(a.memory[name], b.memory[name]) for name in a.memory)


def assert_same_solution(a: mg.Solution, b: mg.Solution, trace: bool = True) -> None:
    assert_same_state(a.state, b.state)
    assert a.rng_state == b.rng_state
    assert a.provenance == b.provenance
    if trace:
        assert a.trace.columns.keys() == b.trace.columns.keys()
        assert all(same(a.trace[name], b.trace[name]) for name in a.trace.columns)
        assert (a.best_gap, a.converged) == (b.best_gap, b.converged)
        assert same(a.best, b.best)


def remembering(**memory: Any) -> mg.Solution:
    solution = mg.solve(GAME, MPO, 5)
    state = solution.state.remember(**memory)
    return mg.Solution(
        state,
        solution.trace,
        solution.best,
        solution.best_gap,
        solution.converged,
        solution.rng_state,
        solution.provenance,
    )
