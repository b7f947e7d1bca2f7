"""The answer of a solver is what it declares: `policy`, `gap`, `tol`, `best` speak of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solutions import GAME, MPO, START, assert_same_solution, same

import mpo_games as mg
from mpo_games.capabilities import Answering, answer_of
from mpo_games.metrics import average_gap, better_gap, iterate_gap

AVERAGING = {
    "average": mg.Averaged(mg.MirrorDescent(0.3)),
    "linear average": mg.Averaged(mg.RegretMatching(plus=True), degree=1),
    "CFR": mg.CFR(),
    "CFR+": mg.CFRPlus(),
    "DCFR": mg.DCFR(),
    "HS-PCFR+": mg.HSPCFRPlus(200),
    "PDCFR+": mg.PDCFRPlus(),
}
averaging = pytest.mark.parametrize("solver", AVERAGING.values(), ids=AVERAGING)
METRICS = {
    "gap": mg.metrics.duality_gap,
    "last": iterate_gap,
    "average": average_gap,
    "better": better_gap,
}


@averaging
def test_everything_speaks_of_the_average(solver: Any) -> None:
    found = mg.solve(GAME, solver, 200, policy=START)
    average = found.state.memory["average"]
    assert found.policy is average
    assert found.iterate is found.state.policy
    assert found.gap == GAME.duality_gap(average) != GAME.duality_gap(found.iterate)
    assert found.best_gap == found.trace["gap"].min() == GAME.duality_gap(found.best)
    plain = mg.solve(GAME, solver.solver, 200, policy=START)
    assert same(plain.policy, found.iterate)


@averaging
def test_a_tolerance_is_one_of_the_average(solver: Any) -> None:
    tol = 0.05
    found = mg.solve(GAME, solver, 10_000, policy=START, tol=tol, at=range(10_000))
    assert found.converged
    assert found.gap <= tol < found.trace["gap"][-2]
    assert GAME.duality_gap(found.policy) <= tol


def test_the_last_iterate_is_the_answer_of_a_solver_that_declares_none() -> None:
    found = mg.solve(GAME, MPO, 50)
    assert not isinstance(MPO, Answering)
    assert found.answer is None
    assert found.policy is found.iterate is found.state.policy


@pytest.mark.parametrize("inner", [mg.Averaged(mg.Extragradient(0.3)), mg.PCFRPlus()])
def test_restarts_answer_with_the_point_from_which_they_restart(inner: Any) -> None:
    solver = mg.Restarted(inner, 0.5, 5)
    found = mg.solve(GAME, solver, 300, policy=START, metrics=METRICS, at=range(300))
    gap, last, average = (found.trace[name] for name in ("gap", "last", "average"))
    assert np.array_equal(gap, found.trace["better"])
    assert np.array_equal(gap, np.minimum(last, average))
    assert len({*np.sign(last - average)} - {0.0}) == 2, "each is better at times"
    assert answer_of(solver, GAME, mg.State(START, START)) is START
    plain = mg.Restarted(mg.SmoothPRMPlus(1.0))
    state = mg.solve(GAME, plain, 50).state
    assert answer_of(plain, GAME, state) is state.policy


def test_each_game_of_a_batch_has_the_better_answer() -> None:
    payoffs = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 4, 4))
    games = mg.MatrixGame(payoffs)
    solver = mg.Restarted(mg.Averaged(mg.Extragradient(0.5)), 0.5, 7)
    found = mg.solve(games, solver, 120, metrics=METRICS)
    assert np.array_equal(found.trace["gap"], found.trace["better"])


def test_a_solver_inside_is_asked() -> None:
    solver = mg.Averaged(mg.CFRPlus(), degree=2)
    found = mg.solve(GAME, solver, 60, policy=START)
    assert found.policy is found.state.memory["average"]
    restarted = mg.Restarted(mg.PCFRPlus())
    around = mg.solve(GAME, mg.Averaged(restarted), 60, policy=START)
    assert same(around.iterate, mg.solve(GAME, restarted, 60, policy=START).iterate)
    wrapped = mg.Restarted(mg.PlayedAverage(mg.Averaged(MPO)))
    assert answer_of(wrapped, GAME, found.state) is found.state.policy


def test_a_state_that_shows_an_average_remembers_its_iterate() -> None:
    noisy = mg.NoisyGame(mg.load("comal"), 0.1)
    for solver in (mg.AutoMPO(), mg.PlayedAverage(mg.Averaged(MPO))):
        found = mg.solve(noisy, solver, 60, metrics=METRICS)
        assert found.policy is found.state.policy is found.state.memory["average"]
        assert found.iterate is found.state.memory["iterate"]
        assert found.trace["last"][-1] == noisy.duality_gap(found.iterate) != found.gap
    state = found.state.answering(found.iterate)
    assert state.policy is found.iterate
    assert state.answering(state.policy) is state


def test_a_saved_answer_is_read_back(tmp_path: Path) -> None:
    for i, solver in enumerate((mg.CFRPlus(), mg.Restarted(mg.PCFRPlus(), 0.5, 5), MPO)):
        whole = mg.solve(GAME, solver, 60, policy=START)
        half = mg.solve(GAME, solver, 30, policy=START)
        loaded = mg.Solution.load(half.save(tmp_path / f"{i}"), GAME)
        assert same(loaded.policy, half.policy)
        assert same(loaded.iterate, half.iterate)
        assert (loaded.answer is None) == (half.answer is None)
        resumed = mg.solve(GAME, solver, 60, resume=loaded)
        assert_same_solution(resumed, whole, trace=False)
        assert same(resumed.policy, whole.policy)
        assert resumed.gap == whole.gap


def test_a_file_holds_an_average_once(tmp_path: Path) -> None:
    file = mg.solve(GAME, mg.CFRPlus(), 30).save(tmp_path / "run")
    with np.load(file) as arrays:
        assert not any(name.startswith("answer/") for name in arrays)


def test_a_run_from_before_goes_on_as_it_began(tmp_path: Path) -> None:
    """Before release 0.3 an `Averaged` measured its iterates, and so does such a run's rest."""
    metrics = {"gap": iterate_gap}
    before = replace(mg.solve(GAME, mg.CFRPlus(), 30, metrics=metrics), answer=None)
    loaded = mg.Solution.load(before.save(tmp_path / "run"), GAME)
    assert loaded.policy is loaded.iterate
    resumed = mg.solve(GAME, mg.CFRPlus(), 60, resume=loaded)
    assert resumed.policy is resumed.iterate
    assert resumed.gap == GAME.duality_gap(resumed.iterate)


def test_another_game_of_the_same_shape_is_refused(tmp_path: Path) -> None:
    file = mg.solve(GAME, MPO, 10).save(tmp_path / "run")
    other = mg.MatrixGame(GAME.payoff + np.eye(4, 3))
    with pytest.raises(ValueError, match=r"not a saved solution of this game: it is one of .*4 x"):
        mg.Solution.load(file, other)
    noisy = mg.NoisyGame(GAME, 0.1)
    run = mg.solve(noisy, MPO, 10)
    # Its policies are those of the game without noise, too.
    assert same(mg.Solution.load(run.save(tmp_path / "run"), GAME).policy, run.policy)
    with pytest.raises(ValueError, match="not a saved solution of this game: it is one of"):
        mg.Solution.load(tmp_path / "run.npz", mg.NoisyGame(other, 0.1))
