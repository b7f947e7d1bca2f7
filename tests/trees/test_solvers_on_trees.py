"""The solvers on Kuhn poker: where they end, units of payoff, and saved runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dilated import WEIGHTS, close
from reference import kuhn, random_tree

import mpo_games as mg
from mpo_games import exact
from mpo_games.policies import dilation

KUHN_RUNS = {
    "MPO": mg.MPO(1.0, 0.05, 100),
    "MPO_RT": mg.MPO_RT(1.0 / 1.05, 0.05, 100),
    "OptimisticMPO": mg.OptimisticMPO(1.0, 0.05, 100),
    "extragradient": mg.MMD(1.0, 0.05, mg.Every(50), feedback=mg.half_step),
    "popov": mg.MMD(1.0, 0.05, mg.Every(100), feedback=mg.popov),
    "alternating": mg.MMD(1.0, 0.05, mg.Every(100), feedback=mg.alternating),
    "inner game solved": mg.MMD(1.0, 0.05, mg.WhenInnerSolved(0.1)),
    "Ema": mg.MMD(1.0, 0.1, mg.Ema(0.05)),
    "OMWU": mg.OptimisticMD(1.0),
    "Extragradient": mg.Extragradient(2.0),
}
"""The last iterate of each is a Nash equilibrium to within rounding errors."""


@pytest.mark.parametrize("name", KUHN_RUNS)
def test_last_iterates_on_kuhn(name: str) -> None:
    game = kuhn()
    run = mg.solve(game, KUHN_RUNS[name], 8192)
    assert abs(run.gap) < 1e-13
    assert float(game.value(run.policy)) == pytest.approx(-1 / 18, abs=1e-13)


@pytest.mark.parametrize(
    "solver", [mg.MMD(0.1, 0.1), mg.MMD(0.1, 0.1, feedback=mg.alternating), mg.EGPO(0.1, 0.1)]
)
def test_fixed_magnets_end_in_the_regularised_equilibrium(solver: Any) -> None:
    game = kuhn()
    run = mg.solve(game, solver, 8192, magnet=game.center())
    assert game.regularised_gap(run.policy, game.center(), 0.1) < 1e-12
    assert close(run.policy.plan, exact.qre(game, 0.1, game.center()).policy.plan, 1e-7)
    assert game.duality_gap(run.policy) > 1e-3


def test_nash_md_comes_near_the_regularised_equilibrium() -> None:
    game = kuhn()
    for eta in (0.1, 0.01):
        run = mg.solve(game, mg.NashMD(eta, 0.2), 20 / eta, magnet=game.center())
        assert game.regularised_gap(run.policy, game.center(), 0.2) < eta


def test_averages_converge_where_iterates_circle() -> None:
    game = kuhn()
    run = mg.solve(game, mg.Averaged(mg.MirrorDescent(0.2)), 8192)
    average = run.state.memory["average"]
    assert game.duality_gap(average) < 1e-2
    assert run.gap == game.duality_gap(average)
    assert game.duality_gap(run.iterate) > 20 * run.gap
    plain = mg.solve(game, mg.MirrorDescent(0.2), 8192)
    assert np.array_equal(plain.policy.coordinates, run.iterate.coordinates)


def test_annealing() -> None:
    game = kuhn()
    run = mg.solve(game, mg.AnnealedMMD(1.0, 1.0), 8192, magnet=game.center())
    assert run.gap < 2e-2


@pytest.mark.parametrize(
    "solver",
    [mg.OptimisticMPO(0.5, 0.1, 7), mg.Averaged(mg.MMD(0.5, 0.1, mg.Ema(0.1), feedback=mg.popov))],
)
def test_a_saved_run_goes_on_bit_for_bit(solver: Any, tmp_path: Path) -> None:
    game = kuhn().with_dilation(dilation.payoff_scaled)
    whole = mg.solve(game, solver, 200)
    mg.solve(game, solver, 90).save(tmp_path / "half.npz")
    half = mg.Solution.load(tmp_path / "half.npz", game)
    rest = mg.solve(game, solver, 200, resume=half)
    for state in (rest.state, mg.Solution.load(rest.save(tmp_path / "rest"), game).state):
        assert np.array_equal(state.policy.coordinates, whole.iterate.coordinates)
        assert np.array_equal(state.policy.plan, whole.iterate.plan)
        assert np.array_equal(state.magnet.coordinates, whole.state.magnet.coordinates)
        assert (state.step, state.evaluations) == (whole.state.step, whole.state.evaluations)
        assert np.array_equal(state.policy.geometry.weights, whole.policy.geometry.weights)
    with pytest.raises(ValueError, match="not a saved solution of this game"):
        mg.Solution.load(tmp_path / "half.npz", random_tree(0))


@pytest.mark.parametrize("size", [1e-12, 1e12])
@pytest.mark.parametrize("weighing", WEIGHTS)
def test_units_of_payoff_do_not_matter(size: float, weighing: Any) -> None:
    """`alpha w` is in units of payoff and `eta / w` in their inverse; `payoff_scaled` says so."""
    game = kuhn()
    large = game.with_payoff(game.payoff * size)
    if weighing is dilation.payoff_scaled:
        game, large = game.with_dilation(weighing), large.with_dilation(weighing)
        assert close(large.weights / size, game.weights)
        settings_of = {1.0: (0.3, 0.1), size: (0.3, 0.1)}
    else:
        game, large = game.with_dilation(weighing), large.with_dilation(weighing)
        settings_of = {1.0: (0.3, 0.1), size: (0.3 / size, 0.1 * size)}
    a = mg.solve(game, mg.MPO(*settings_of[1.0], 20), 500)
    b = mg.solve(large, mg.MPO(*settings_of[size], 20), 500)
    assert close(a.policy.probs, b.policy.probs, 1e-9)
    assert close(b.gap / size, a.gap, 1e-9)


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_huge_and_tiny_payoffs_at_one_setting(size: float) -> None:
    game = kuhn()
    game = game.with_payoff(game.payoff * size)
    run = mg.solve(game, mg.MMD(0.5, 0.1), 100, magnet=game.center())
    assert np.isfinite(run.policy.coordinates).all()
    assert np.isfinite(run.gap)
    sums = np.add.reduceat(run.policy.probs, game.tree.offset[:-1])
    assert close(sums, 1.0)
