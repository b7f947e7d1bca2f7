"""The loop: what is charged, what is recorded, and that a run goes on as if never stopped."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.metrics import (
    DivergenceTo,
    RegularisedGap,
    SupportSize,
    average_gap,
    duality_gap,
    entropy,
    exploitability,
    magnet_divergence,
)

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
    "when solved": mg.MMD(0.3, 0.1, magnet=mg.WhenGapFell(0.9)),
    "when settled": mg.MMD(0.3, 0.1, magnet=mg.WhenInnerSolved(0.5)),
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
        np.testing.assert_array_equal(solution.trace[name], [metric(GAME, s) for s in run])
    np.testing.assert_array_equal(solution.trace["gap"] / 2, solution.trace["exploitability"])
    last = run[-1].policy.probs
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


# Going on


@all_solvers
@pytest.mark.parametrize("game", [GAME, NOISY], ids=["exact", "noisy"])
def test_resumed_is_uninterrupted(game: Any, solver: Any, tmp_path: Path) -> None:
    at = range(0, 1000, 10)
    metrics = {"gap": duality_gap, "travelled": magnet_divergence}
    whole = mg.solve(game, solver, 300, seed=3, at=at, metrics=metrics)
    first = mg.solve(game, solver, 120, seed=3, at=at, metrics=metrics)
    resumed = mg.solve(game, solver, 300, resume=first, at=at, metrics=metrics)
    assert resumed.provenance["seed"] == 3
    if first.state.evaluations == 120:
        assert_same_solution(resumed, whole)
    assert_same_solution(resumed, whole, trace=False)
    loaded = mg.Solution.load(first.save(tmp_path / "first"), game)
    assert_same_solution(loaded, first)
    assert_same_solution(
        mg.solve(game, solver, 300, resume=loaded, at=at, metrics=metrics), resumed
    )
    other = mg.solve(game, solver, 300, seed=4, at=at, metrics=metrics)
    assert same(other.policy, whole.policy) == (game is GAME or solver == mg.FictitiousPlay())


def test_a_resumed_trace_keeps_the_stop_and_nothing_else() -> None:
    """With the default marks: the row of the earlier budget is the only one more."""
    whole = mg.solve(GAME, MPO, 1000)
    resumed = mg.solve(GAME, MPO, 1000, resume=mg.solve(GAME, MPO, 333))
    rows = resumed.trace["step"] != 333
    for name in whole.trace.columns:
        np.testing.assert_array_equal(resumed.trace[name][rows], whole.trace[name])
    assert_same_state(resumed.state, whole.state)


def test_resuming_what_is_done_changes_nothing() -> None:
    done = mg.solve(GAME, MPO, 100)
    assert_same_solution(mg.solve(GAME, MPO, 100, resume=done), done)
    assert_same_solution(mg.solve(GAME, MPO, 50, resume=done), done)
    solver = mg.OptimisticMD(0.5)
    converged = mg.solve(GAME, solver, 10**4, tol=1e-3)
    assert converged.converged
    assert_same_solution(mg.solve(GAME, solver, 10**5, tol=1e-3, resume=converged), converged)
    looser = mg.solve(GAME, solver, 10**5, tol=1e-2, resume=converged)
    assert looser.converged
    assert looser.state.step == converged.state.step
    # A tighter tolerance is not reached yet, whatever was reached before.
    assert not mg.solve(GAME, solver, 1, tol=1e-9, resume=converged).converged
    further = mg.solve(GAME, solver, 10**5, tol=1e-9, resume=converged)
    assert further.converged
    assert further.gap <= 1e-9


@pytest.mark.parametrize("where", ["step", "callback", "feedback"])
@all_solvers
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    solver: Any, where: str, tmp_path: Path
) -> None:
    whole = mg.solve(NOISY, solver, 200, seed=5)
    left = [20 if where == "callback" else 75]

    def tick() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    class Interrupted(Noisy):
        def feedback(self, *args: Any, rng: Any = None, **options: Any) -> Any:
            if where == "step" and rng is not None:
                tick()
            q = super().feedback(*args, rng=rng, **options)
            if where == "feedback" and rng is not None:  # the generator has been used
                tick()
            return q

        def best_response(self, policy: Any) -> Any:
            if where != "callback":
                tick()
            return super().best_response(policy)

    Interrupted.__name__ = "Noisy"  # the same game, interrupted: not another one
    file = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        mg.solve(
            Interrupted(GAME.payoff),
            solver,
            200,
            seed=5,
            checkpoint=file,
            callback=(lambda _: tick()) if where == "callback" else None,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    stopped = mg.Solution.load(file, NOISY)
    assert 0 < stopped.state.step < whole.state.step
    resumed = mg.solve(NOISY, solver, 200, resume=stopped)
    assert_same_state(resumed.state, whole.state)
    assert resumed.rng_state == whole.rng_state
    kept = np.isin(resumed.trace["step"], whole.trace["step"])
    assert (~kept).sum() <= 1  # the record of the interruption
    for name in whole.trace.columns:
        assert same(resumed.trace[name][kept], whole.trace[name])


def test_an_interrupted_record_leaves_no_ragged_trace(tmp_path: Path) -> None:
    calls = [0]

    def clumsy(game: Any, state: mg.State) -> float:
        calls[0] += 1
        if calls[0] == 10:
            raise KeyboardInterrupt
        return 0.0

    metrics = {"gap": duality_gap, "clumsy": clumsy}
    with pytest.raises(KeyboardInterrupt):
        mg.solve(GAME, MPO, 100, metrics=metrics, checkpoint=tmp_path / "a")
    stopped = mg.Solution.load(tmp_path / "a", GAME)
    assert len({len(column) for column in stopped.trace.columns.values()}) == 1
    whole = mg.solve(GAME, MPO, 100, metrics=metrics)
    assert_same_solution(mg.solve(GAME, MPO, 100, resume=stopped, metrics=metrics), whole)


def test_no_checkpoint_is_written_without_an_interruption(tmp_path: Path) -> None:
    mg.solve(GAME, MPO, 20, checkpoint=tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


def test_equal_runs_are_equal() -> None:
    """Provenance included: it names functions, not addresses."""
    one, two = (mg.solve(NOISY, MPO, 50, seed=1) for _ in range(2))
    assert_same_solution(one, two)
    assert one.provenance["solver"] == (
        "MMD(eta=0.3, alpha=0.1, magnet=Every(period=7, floor=0.0), feedback=current, "
        "pull=proximal, geometry=as_given)"
    )
    assert "numpy" in one.provenance["versions"]


# Saving


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


def test_memory_of_every_kind_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    memory = {
        "policy": START,
        "array": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "integers": np.arange(5),
        "flags": np.array([True, False]),
        "float": 0.1 + 0.2,
        "infinite": -np.inf,
        "count": 7,
        "flag": True,
        "empty": np.zeros((0, 3)),
        "nested/name/array": 1.5,
        "memory/policy": START,
        "best": 2.0,
        "trace/step": 3.0,
        "header": 4.0,
    }
    solution = remembering(**memory)
    loaded = mg.Solution.load(solution.save(tmp_path / "run.npz"), GAME)
    assert_same_solution(loaded, solution)
    for name in ("float", "infinite", "count", "flag"):
        assert type(loaded.state.memory[name]) is type(memory[name])


@pytest.mark.parametrize("bad", [None, object(), [START, START], {"a": 1}])
def test_memory_that_cannot_be_saved_says_so(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cannot save `memory/pool`"):
        remembering(pool=bad).save(tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


def test_a_policy_of_another_kind_in_memory_is_refused(tmp_path: Path) -> None:
    other = mg.TabularPolicy.uniform(GAME.legal, mg.Euclidean())
    with pytest.raises(ValueError, match="Cannot save `memory/other`"):
        remembering(other=other).save(tmp_path / "run.npz")


def test_a_run_in_another_geometry_needs_its_policy(tmp_path: Path) -> None:
    start = mg.TabularPolicy.from_probs(START.probs, START.legal, mg.Euclidean())
    first = mg.solve(GAME, MPO, 50, policy=start)
    file = first.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"Euclidean.* pass a `policy` of the kind"):
        mg.Solution.load(file, GAME)
    loaded = mg.Solution.load(file, GAME, start)
    assert_same_solution(loaded, first)
    whole = mg.solve(GAME, MPO, 100, policy=start, at=[50])
    assert_same_state(mg.solve(GAME, MPO, 100, resume=loaded, at=[50]).state, whole.state)


def test_batches_come_back(tmp_path: Path) -> None:
    game = mg.MatrixGame(np.random.default_rng(0).normal(size=(5, 3, 4)))
    solution = mg.solve(game, mg.Averaged(MPO), 30)
    assert_same_solution(mg.Solution.load(solution.save(tmp_path / "b"), game), solution)
    # A batch of seeds on one game.
    start = mg.TabularPolicy.from_probs(np.stack([START.probs] * 3), START.legal)
    solution = mg.solve(GAME, MPO, 30, policy=start)
    assert_same_solution(mg.Solution.load(solution.save(tmp_path / "s"), GAME), solution)


def test_numpy_scalars_as_arguments_can_be_saved(tmp_path: Path) -> None:
    solution = mg.solve(
        GAME,
        mg.MPO(np.float64(0.3), np.float64(0.1), 7),
        np.float64(50),
        tol=np.float64(1e-9),
        seed=np.int64(2),
    )
    loaded = mg.Solution.load(solution.save(tmp_path / "run"), GAME)
    assert_same_solution(loaded, solution)
    assert loaded.converged is False


def test_save_and_load_agree_on_the_name(tmp_path: Path) -> None:
    solution = mg.solve(GAME, MPO, 5)
    file = solution.save(str(tmp_path / "deep" / "v1.5"))
    assert file == tmp_path / "deep" / "v1.5.npz"
    assert_same_solution(mg.Solution.load(tmp_path / "deep" / "v1.5", GAME), solution)


def test_no_pickle_in_the_file(tmp_path: Path) -> None:
    file = mg.solve(GAME, mg.Averaged(MPO), 5).save(tmp_path / "run")
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            assert not arrays[name].dtype.hasobject
        header = json.loads(str(arrays["header"]))
    assert header["provenance"]["game"].startswith("MatrixGame 4 x 3, checksum ")


def test_solutions_travel_to_other_processes() -> None:
    solution = mg.solve(NOISY, mg.Averaged(mg.OptimisticMPO(0.3, 0.1, 7)), 20)
    assert_same_solution(pickle.loads(pickle.dumps(solution)), solution)


def test_only_the_same_run_is_resumed() -> None:
    solution = mg.solve(GAME, MPO, 20)
    other = mg.MatrixGame(GAME.payoff + np.eye(*GAME.payoff.shape))
    with pytest.raises(ValueError, match="`resume` ran another game"):
        mg.solve(other, MPO, 40, resume=solution)
    with pytest.raises(ValueError, match="`resume` ran another solver"):
        mg.solve(GAME, mg.MMD(0.1, 0.1), 40, resume=solution)


@pytest.mark.parametrize("name", ["policy", "magnet"])
def test_a_start_from_another_game_is_refused(name: str) -> None:
    for start in (
        mg.MatrixGame(np.eye(7)).initial_policy(),
        mg.PreferenceGame([[0.5]]).initial_policy(),
        [0.5, 0.5],
    ):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            mg.solve(GAME, MPO, 10, **{name: start})


def test_a_trace_is_a_mapping_of_its_columns() -> None:
    trace = mg.solve(GAME, MPO, 10).trace
    assert list(trace) == ["step", "evaluations", "gap"]
    assert "gap" in trace
    assert "loss" not in trace


def test_files_that_are_no_solution(tmp_path: Path) -> None:
    good = mg.solve(GAME, MPO, 20).save(tmp_path / "good.npz")
    content = good.read_bytes()
    middle = len(content) // 2
    bad = {
        "empty": b"",
        "text": b"not a solution",
        "zip start": b"PK\x03\x04 and then nothing",
        "cut": content[:middle],
        "flipped": content[: middle - 40] + b"\xff" * 80 + content[middle + 40 :],
        "pickle": pickle.dumps({"policy": 1}),
    }
    files = []
    for name, data in bad.items():
        files.append(tmp_path / f"{name}.npz")
        files[-1].write_bytes(data)
    np.savez(tmp_path / "foreign.npz", a=np.arange(3))
    np.savez(tmp_path / "header.npz", header=np.array("[1, 2]"))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.arange(3))
    (tmp_path / "folder.npz").mkdir()
    files += [tmp_path / f"{name}.npz" for name in ("foreign", "header", "array", "folder")]
    for file in files:
        with pytest.raises(ValueError, match="is not a saved solution of this game"):
            mg.Solution.load(file, GAME)
    with pytest.raises(ValueError, match="There is no file"):
        mg.Solution.load(tmp_path / "missing.npz", GAME)
    for other in (mg.MatrixGame(np.eye(2)), mg.PreferenceGame(np.full((4, 4), 0.5))):
        with pytest.raises(ValueError, match="is not a saved solution of this game"):
            mg.Solution.load(good, other)


def test_a_failing_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = mg.solve(GAME, MPO, 20).save(tmp_path / "run.npz")
    content = file.read_bytes()

    def full(handle: Any, **arrays: Any) -> None:
        handle.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        mg.solve(GAME, MPO, 40).save(file)
    with pytest.raises(ValueError, match="Cannot save"):
        remembering(pool=None).save(file)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


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
