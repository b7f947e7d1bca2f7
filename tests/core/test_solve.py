"""The loop: what it charges, what it records, when it stops, and the input that it refuses."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solutions import GAME, MPO, START, all_solvers, assert_same_solution, assert_same_state, same

import mpo_games as mg
from mpo_games.games.noisy import NoisyGame
from mpo_games.metrics import (
    DivergenceTo,
    RegularisedGap,
    SupportSize,
    average_gap,
    duality_gap,
    entropy,
    exploitability,
    iterate_gap,
    magnet_divergence,
)
from mpo_games.solvers.averaged import PlayedAverage

# What is charged and recorded


@pytest.mark.parametrize(
    ("solver", "evaluations"), [(MPO, 11.0), (mg.Extragradient(0.3), 12.0)], ids=["1", "2"]
)
def test_the_budget_is_in_evaluations(solver: Any, evaluations: float) -> None:
    solution = mg.solve(GAME, solver, 11)
    assert solution.state.evaluations == evaluations
    assert solution.state.step == evaluations / (2 if evaluations == 12 else 1)
    assert_same_state(
        solution.state, list(islice(mg.iterate(GAME, solver), solution.state.step + 1))[-1]
    )


def test_records_stand_at_the_marks() -> None:
    at = [30, 0, 3, 3, 12, 1000]
    trace = mg.solve(GAME, MPO, 50, at=at).trace
    np.testing.assert_array_equal(trace["evaluations"], [0, 3, 12, 30, 50])
    trace = mg.solve(GAME, mg.Extragradient(0.3), 50, at=at).trace
    np.testing.assert_array_equal(trace["evaluations"], [0, 4, 12, 30, 50])
    np.testing.assert_array_equal(trace["step"], [0, 2, 6, 15, 25])
    np.testing.assert_array_equal(mg.solve(GAME, MPO, 50, at=[]).trace["step"], [50])
    np.testing.assert_array_equal(mg.solve(GAME, MPO, 50, at=[7.5]).trace["step"], [8, 50])
    assert len(trace) == 5


@pytest.mark.parametrize("budget", [0.5, 1, 3, 10, 100.0, 1234, 10**6])
def test_log_spacing(budget: float) -> None:
    marks = mg.log_spaced(budget)
    assert marks[0] == 0.0
    assert marks[-1] == budget
    assert np.all(np.diff(marks) > 0)
    assert len(marks) < 20 * np.log10(max(budget, 10)) + 3


def test_what_is_recorded_is_the_metric_of_the_state() -> None:
    target = GAME.policy([0.2, 0.6, 0.2, 0.0], [0.2, 0.6, 0.2])
    metrics = {
        "gap": duality_gap,
        "exploitability": exploitability,
        "average": average_gap,
        "last": iterate_gap,
        "regularised": RegularisedGap(0.1),
        "distance": DivergenceTo(target),
        "travelled": magnet_divergence,
        "entropy": entropy,
        "support": SupportSize(1e-3),
    }
    solver = mg.Averaged(MPO)
    solution = mg.solve(GAME, solver, 20, policy=START, metrics=metrics, at=range(21))
    run = list(islice(mg.iterate(GAME, solver, policy=START), 21))
    for name, metric in metrics.items():
        # Of what the solver answers with: the average, and at first the start.
        shown = [s.answering(solver.answer(GAME, s)) for s in run]
        np.testing.assert_array_equal(solution.trace[name], [metric(GAME, s) for s in shown])
    np.testing.assert_array_equal(solution.trace["gap"] / 2, solution.trace["exploitability"])
    np.testing.assert_array_equal(solution.trace["gap"], solution.trace["average"])
    np.testing.assert_array_equal(
        solution.trace["last"], [GAME.duality_gap(state.policy) for state in run]
    )
    last = run[-1].memory["average"].probs
    rows = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in last]
    assert solution.trace["entropy"][-1] == pytest.approx(np.mean(rows), rel=1e-12)
    assert solution.trace["support"][-1] == np.mean((last > 1e-3).sum(-1))
    with pytest.raises(KeyError, match="no column 'nothing'"):
        solution.trace["nothing"]


def test_the_best_is_the_best_checked() -> None:
    solution = mg.solve(GAME, mg.MirrorDescent(0.5), 300, policy=START, at=range(301))
    gaps = solution.trace["gap"]
    assert solution.best_gap == gaps.min() < solution.gap == gaps[-1]
    assert float(GAME.duality_gap(solution.best)) == solution.best_gap
    assert same(solution.policy, solution.state.policy)


def test_tolerance_stops_at_the_first_record_below() -> None:
    solver = mg.OptimisticMD(0.5)
    solution = mg.solve(GAME, solver, 5000, tol=1e-3, at=range(5000))
    gaps = solution.trace["gap"]
    assert solution.converged
    assert gaps[-1] <= 1e-3 < gaps[:-1].min()
    assert not mg.solve(GAME, solver, 10, tol=1e-3).converged
    assert not mg.solve(GAME, solver, 5000).converged


def test_a_batch_stops_with_its_worst_game() -> None:
    payoffs = np.random.default_rng(0).normal(size=(4, 3, 3))
    game = mg.MatrixGame(payoffs)
    solution = mg.solve(game, mg.OptimisticMD(0.5), 10**5, tol=1e-3, at=range(0, 10**5, 10))
    gaps = solution.trace["gap"]
    assert gaps.shape == (len(solution.trace), 4)
    assert solution.converged
    assert solution.gap == gaps[-1].max() <= 1e-3 < gaps[:-1].max(axis=-1).min()
    alone = [mg.solve(mg.MatrixGame(a), mg.OptimisticMD(0.5), 10**5, tol=1e-3) for a in payoffs]
    assert all(one.converged for one in alone)


def test_the_callback_sees_every_record() -> None:
    seen: list[mg.Solution] = []
    solution = mg.solve(GAME, MPO, 100, callback=seen.append)
    assert [s.state.evaluations for s in seen] == list(solution.trace["evaluations"])
    assert [len(s.trace) for s in seen] == list(range(1, len(solution.trace) + 1))
    assert_same_solution(seen[-1], solution)
    # Each is a full solution: the run can start again from any of them.
    assert_same_solution(mg.solve(GAME, MPO, 100, resume=seen[5]), solution)


def test_a_game_without_a_gap() -> None:
    class Blind:
        players = 2

        def initial_policy(self) -> Any:
            return GAME.initial_policy()

        def feedback(self, *args: Any, **options: Any) -> Any:
            return GAME.feedback(*args, **options)

    solution = mg.solve(Blind(), MPO, 20)
    assert set(solution.trace.columns) == {"step", "evaluations"}
    assert solution.best_gap == np.inf
    assert same(solution.best, solution.policy)
    with pytest.raises(KeyError, match="gap"):
        _ = solution.gap
    with pytest.raises(ValueError, match="`tol` needs a metric"):
        mg.solve(Blind(), MPO, 20, tol=1e-3)


def test_start_and_magnet() -> None:
    first = next(mg.iterate(GAME, MPO, policy=START))
    assert same(first.policy, START)
    assert same(first.magnet, START)
    first = next(mg.iterate(GAME, MPO, policy=START, magnet=GAME.initial_policy()))
    assert same(first.magnet, GAME.initial_policy())


def test_a_trace_is_a_mapping_of_its_columns() -> None:
    trace = mg.solve(GAME, MPO, 10).trace
    assert list(trace) == ["step", "evaluations", "gap"]
    assert "gap" in trace
    assert "loss" not in trace


# Bad input


@pytest.mark.parametrize("budget", [0, -1, np.nan, np.inf])
def test_the_budget_is_checked(budget: float) -> None:
    with pytest.raises(ValueError, match="`budget`"):
        mg.solve(GAME, MPO, budget)


def test_other_arguments_are_checked() -> None:
    solution = mg.solve(GAME, MPO, 5)
    with pytest.raises(ValueError, match="`resume` brings its own"):
        mg.solve(GAME, MPO, 10, resume=solution, policy=START)
    with pytest.raises(ValueError, match="`resume` recorded other metrics"):
        mg.solve(GAME, MPO, 10, resume=solution, metrics={})
    with pytest.raises(ValueError, match="`metrics` may not"):
        mg.solve(GAME, MPO, 10, metrics={"step": duality_gap})
    for tol in (-1.0, np.nan):
        with pytest.raises(ValueError, match="`tol`"):
            mg.solve(GAME, MPO, 10, tol=tol)
    with pytest.raises(ValueError, match="`average_gap` needs"):
        mg.solve(GAME, MPO, 10, metrics={"gap": average_gap})


@pytest.mark.parametrize("metrics", [None, {}], ids=["gap", "no metrics"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@all_solvers
def test_nan_stops_the_run(solver: Any, bad: float, metrics: Any) -> None:
    class Broken(mg.MatrixGame):
        def feedback(self, policy: Any, *args: Any, rng: Any = None, **options: Any) -> Any:
            q = super().feedback(policy, *args, **options)
            if rng is not None:  # a call by the solver
                q[0, 0] += bad
            return q

        def best_response(self, policy: Any) -> Any:
            return policy.replace(policy.coordinates * np.nan)

    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=r"is NaN at step .* lower `eta`"),
    ):
        mg.solve(Broken(GAME.payoff), solver, 50, metrics=metrics)


@pytest.mark.parametrize("name", ["policy", "magnet"])
def test_a_start_from_another_game_is_refused(name: str) -> None:
    for start in (
        mg.MatrixGame(np.eye(7)).initial_policy(),
        mg.PreferenceGame([[0.5]]).initial_policy(),
        [0.5, 0.5],
    ):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            mg.solve(GAME, MPO, 10, **{name: start})


@pytest.mark.parametrize("shape", [(3, 1, 3), (3,), (3, 3), (1, 1), (1, 1, 3), ()])
def test_feedback_of_another_shape_is_refused_and_not_broadcast(shape: tuple[int, ...]) -> None:
    class Misshapen(mg.PreferenceGame):
        def feedback(self, *args: Any, **options: Any) -> Any:
            return np.zeros(shape)

    game = Misshapen(np.full((3, 3), 0.5))
    with pytest.raises(ValueError, match=r"must have the policy's shape \(1, 3\), got"):
        mg.solve(game, MPO, 10)


def test_batches_of_policies_games_and_settings_are_no_other_shape() -> None:
    rng = np.random.default_rng(0)
    game, games = mg.MatrixGame(np.eye(3)), mg.MatrixGame(rng.normal(size=(5, 3, 3)))
    starts = mg.TabularPolicy.from_probs(rng.dirichlet(np.ones(3), (5, 2)))
    etas = np.linspace(0.1, 0.5, 5).reshape(5, 1, 1)
    for case, solver, start in (
        (game, MPO, starts),
        (games, MPO, game.initial_policy()),
        (games, MPO, starts),
        (game, mg.MMD(lambda state: etas, 0.1), starts),
    ):
        solution = mg.solve(case, solver, 5, policy=start)
        assert solution.policy.coordinates.shape == (5, 2, 3)
        resumed = mg.solve(case, solver, 9, resume=solution)
        assert resumed.policy.coordinates.shape == (5, 2, 3)


@pytest.mark.parametrize(
    "solver",
    [
        mg.AutoMPO(),
        mg.Averaged(mg.MMD(0.1, 0.1), degree=2.0),
        PlayedAverage(mg.Averaged(mg.MMD(0.1, 0.1), degree=1.0)),
    ],
)
def test_an_average_of_a_solver_that_keeps_one_itself(solver: Any, tmp_path: Path) -> None:
    """Both averages have their own entries in the memory, also in a file."""
    game = NoisyGame(mg.load("rps"), 0.1)
    alone, averaged = (mg.solve(game, s, 200).state for s in (solver, mg.Averaged(solver)))
    assert np.array_equal(alone.policy.coordinates, averaged.policy.coordinates)
    played = [s.policy for s in islice(mg.iterate(game, solver, rng=np.random.default_rng(0)), 9)]
    short = mg.solve(game, mg.Averaged(solver), averaged.evaluations / 2)
    loaded = mg.Solution.load(short.save(tmp_path / "run"), game)
    resumed = mg.solve(game, mg.Averaged(solver), 200, resume=loaded)
    assert np.array_equal(
        resumed.state.memory["average"].coordinates, averaged.memory["average"].coordinates
    )
    states = mg.iterate(game, mg.Averaged(solver), rng=np.random.default_rng(0))
    last = next(islice(states, 9, None))
    mean = np.mean([policy.probs for policy in played], axis=0)
    assert last.memory["average"].probs == pytest.approx(mean, abs=1e-12)
