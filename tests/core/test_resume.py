"""A run that stopped goes on as if it had never stopped; other runs are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solutions import (
    GAME,
    MPO,
    NOISY,
    Noisy,
    all_solvers,
    assert_same_solution,
    assert_same_state,
    same,
)

import mpo_games as mg
from mpo_games.metrics import duality_gap, magnet_divergence


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
    for name in whole.trace.columns:
        assert same(resumed.trace[name], whole.trace[name])


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


def test_equal_runs_are_equal() -> None:
    """Provenance included: it names functions, not addresses."""
    one, two = (mg.solve(NOISY, MPO, 50, seed=1) for _ in range(2))
    assert_same_solution(one, two)
    assert one.provenance["solver"] == (
        "MMD(eta=0.3, alpha=0.1, magnet=Every(period=7, floor=0.0), feedback=current, "
        "pull=proximal, geometry=as_given)"
    )
    assert "numpy" in one.provenance["versions"]


def test_only_the_same_run_is_resumed() -> None:
    solution = mg.solve(GAME, MPO, 20)
    other = mg.MatrixGame(GAME.payoff + np.eye(*GAME.payoff.shape))
    with pytest.raises(ValueError, match="`resume` ran another game"):
        mg.solve(other, MPO, 40, resume=solution)
    with pytest.raises(ValueError, match="`resume` ran another solver"):
        mg.solve(GAME, mg.MMD(0.1, 0.1), 40, resume=solution)
