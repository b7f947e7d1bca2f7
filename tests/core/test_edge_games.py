"""Self-tuning and the other solvers on games at the edges: nothing at stake, tiny, huge, mixed."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Chance, Decision, Payoff, build_tree
from mpo_games.kernels.scaled import root_of_squares
from mpo_games.kernels.tables import weighted_squares
from mpo_games.policies.dilation import payoff_scaled

RPS = np.array([[0.0, -1.0, 3.0], [1.0, 0.0, -1.0], [-3.0, 1.0, 0.0]])
NORMAL = np.random.default_rng(0).normal(size=(4, 4))


def tree_of(payoff: Any) -> SequenceFormGame:
    n, m = np.shape(payoff)
    rows = {
        str(i): Decision(1, "column", {str(j): Payoff(float(payoff[i][j])) for j in range(m)})
        for i in range(n)
    }
    return build_tree(Decision(0, "row", rows))


def outlier(size: float) -> np.ndarray:
    payoff = NORMAL.copy()
    payoff[1, 1] = size
    return payoff


NOTHING_TO_DECIDE = {
    "1 x 1": [[3.0]],
    "one row": [[1.0, 2.0, 3.0]],
    "one column": [[1.0], [2.0]],
    "all 0": np.zeros((3, 3)),
    "all equal": np.full((3, 4), 7.1),
    "all 1e200": np.full((2, 2), 1e200),
}
PLAYED = {
    "1e200": RPS * 1e200,
    "1e-200": RPS * 1e-200,
    "1e300": RPS * 1e300,
    "1e-300": RPS * 1e-300,
    "duplicates": NORMAL[np.ix_([0, 0, 1, 2], [1, 1, 2, 3])],
    "dominated": np.vstack([NORMAL, NORMAL[0] - 1.0]),
}
HARD = {
    "denormal": RPS * 5e-324,
    "-1e9": outlier(-1e9),
    "-1e300": outlier(-1e300),
    "1e300": outlier(1e300),
    "rows": RPS * np.array([[1e-200], [1.0], [1e200]]),
}


@pytest.mark.parametrize("name", NOTHING_TO_DECIDE)
@pytest.mark.parametrize("make", [mg.MatrixGame, tree_of])
def test_games_without_a_choice_are_solved(name: str, make: Any) -> None:
    payoff = NOTHING_TO_DECIDE[name]
    found = mg.solve(make(payoff), mg.AutoMPO(), 300)
    assert found.gap == 0.0
    if "all" in name:
        at_once = mg.solve(make(payoff), mg.AutoMPO(), 300, tol=0.0)
        assert at_once.converged
        assert at_once.state.evaluations == 0.0


@pytest.mark.parametrize(
    "root",
    [
        Payoff(2.0),
        Chance([(0.5, Payoff(1.0)), (0.5, Payoff(-2.0))]),
        Decision(1, "only", {"a": Payoff(2.0), "b": Payoff(-3.0)}),
        Decision(0, "x", {"a": Decision(1, "y", {"b": Payoff(-3.0)})}),
    ],
    ids=["leaf", "chance", "one player", "one action"],
)
def test_trees_with_little_to_decide_are_solved(root: Any) -> None:
    assert mg.solve(build_tree(root), mg.AutoMPO(), 100).gap == 0.0


@pytest.mark.parametrize("name", PLAYED)
@pytest.mark.parametrize("make", [mg.MatrixGame, tree_of])
def test_payoffs_of_any_size_are_solved(name: str, make: Any) -> None:
    payoff = PLAYED[name]
    assert mg.solve(make(payoff), mg.AutoMPO(), 400).gap <= 1e-12 * np.abs(payoff).max()


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("make", [mg.MatrixGame, tree_of])
def test_payoffs_of_mixed_sizes_end_in_numbers(name: str, make: Any) -> None:
    found = mg.solve(make(HARD[name]), mg.AutoMPO(), 200)
    assert np.isfinite(found.trace["gap"]).all()
    assert found.gap <= found.trace["gap"][0]


def test_a_batch_in_which_one_game_is_0() -> None:
    found = mg.solve(mg.MatrixGame(np.stack([RPS, np.zeros((3, 3)), RPS])), mg.AutoMPO(), 400)
    assert (found.trace["gap"][-1] <= [1e-12, 0.0, 1e-12]).all()
    # One step size serves the batch, so a game of another size waits, but with numbers.
    mixed = mg.solve(mg.MatrixGame(np.stack([RPS, RPS * 1e-200])), mg.AutoMPO(), 400)
    assert mixed.trace["gap"][-1][0] <= 1e-12
    assert np.isfinite(mixed.trace["gap"]).all()


@pytest.mark.parametrize("power", [-600, -300, 300, 600])
@pytest.mark.parametrize("make", [mg.MatrixGame, tree_of])
def test_payoffs_times_a_power_of_two_are_the_same_iterates(power: int, make: Any) -> None:
    runs = [mg.iterate(make(NORMAL * c), mg.AutoMPO()) for c in (1.0, 2.0**power)]
    for one, other in zip(*(islice(run, 120) for run in runs), strict=True):
        np.testing.assert_array_equal(one.policy.coordinates, other.policy.coordinates)


@pytest.mark.parametrize("offset", [1e9, 1e15])
def test_a_gap_does_not_lose_its_digits_to_a_constant(offset: float) -> None:
    payoff = np.round(NORMAL * 64.0)
    for make in (mg.MatrixGame, tree_of):
        plain, shifted = make(payoff), make(payoff + offset)
        policy = plain.initial_policy()
        gap = float(plain.duality_gap(policy))
        assert float(shifted.duality_gap(policy)) == pytest.approx(gap, rel=1e-14)
        wanted = float(plain.regularised_gap(policy, policy, 3.0))
        assert float(shifted.regularised_gap(policy, policy, 3.0)) == pytest.approx(
            wanted, rel=1e-12
        )


SOLVERS = {
    "MPO": mg.MPO(0.1, 0.1, 20),
    "Measured": mg.MMD(mg.Measured(0.4), 0.1, feedback=mg.popov),
    "Adaptive": mg.MMD(mg.Adaptive(0.3), 0.0, feedback=mg.popov, geometry=mg.smoothed),
    "smoothed": mg.MMD(0.3, 0.1, geometry=mg.smoothed),
    "DCFR": mg.DCFR(),
    "PCFR+": mg.PCFRPlus(),
    "HS-DCFR(30)": mg.HSDCFR(30),
    "PDCFR+": mg.PDCFRPlus(),
    "SmoothPRM+": mg.Restarted(mg.SmoothPRMPlus(1.0)),
    "fictitious play": mg.FictitiousPlay(),
    "gradient": mg.GradientAscent(0.1),
    "WhenInnerSolved": mg.MMD(0.1, 0.1, mg.WhenInnerSolved(0.5)),
    "M2WU": mg.M2WU(0.1, 0.1, 10),
    "APMD": mg.APMD(0.1, 0.1, 10),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_ends_in_numbers(name: str) -> None:
    for payoff in (*NOTHING_TO_DECIDE.values(), *PLAYED.values(), *HARD.values()):
        found = mg.solve(mg.MatrixGame(payoff), SOLVERS[name], 30)
        assert np.isfinite(found.trace["gap"]).all()


def test_weights_of_a_tree_in_which_nothing_is_at_stake() -> None:
    for scale in (0.0, 5e-324, 1e-310):
        game = tree_of(RPS * scale)
        np.testing.assert_array_equal(payoff_scaled(game), np.ones(game.tree.states))
    huge, plain = (payoff_scaled(tree_of(RPS * c)) for c in (2.0**900, 1.0))
    np.testing.assert_array_equal(huge, plain * 2.0**900)


def test_roots_of_squares_that_overflow_or_vanish() -> None:
    q, one = np.array([[3.0, 4.0]]), np.ones((1, 2))

    def squares(x: np.ndarray) -> float:
        return float(weighted_squares(one, x, False))

    for power in (-1060, -600, 0, 600, 1020):
        assert root_of_squares(squares, q * 2.0**power) == 5.0 * 2.0**power
    assert root_of_squares(squares, np.zeros((1, 2))) == 0.0
    assert np.isnan(root_of_squares(squares, np.array([[np.nan, 1.0]])))


@pytest.mark.parametrize("constant", [1e9, -1e9, 1e16])
def test_a_constant_in_the_logarithms_rounds_no_policy_away(constant: float) -> None:
    """The probabilities sum to 1: else a gap could be below 0."""
    game = mg.MatrixGame(RPS + constant)
    for solver in (mg.MPO(0.15, 0.2, 50), mg.OptimisticMD(0.5), mg.NashMD(0.05, 0.04)):
        found = mg.solve(game, solver, 50)
        assert found.policy.probs.sum(axis=-1) == pytest.approx(1.0, abs=1e-12)
        assert found.gap >= 0.0


@pytest.mark.parametrize("constant", [1e9, -1e9, 1e16])
def test_a_constant_rounds_no_policy_of_a_tree_away(constant: float) -> None:
    """As in tables: the probabilities of every state sum to 1, in a tree of two levels too."""
    halves = [(0.5, branch(name, c)) for name, c in (("a", constant), ("b", 0.0))]
    for game in (tree_of(RPS + constant), build_tree(Chance(halves))):
        for solver in (mg.MPO(0.15, 0.2, 50), mg.OptimisticMD(0.5), mg.NashMD(0.05, 0.04)):
            found = mg.solve(game, solver, 50)
            sums = np.add.reduceat(np.exp(found.policy.log_probs), game.tree.offset[:-1])
            np.testing.assert_allclose(sums, 1.0, rtol=1e-12)
            assert found.gap >= 0.0


def branch(name: str, constant: float) -> Decision:
    """Rock, paper, scissors, in which the row player first chooses whether to play at all."""
    rows = {
        f"{i}": Decision(1, name, {f"{j}": Payoff(constant + RPS[i, j]) for j in range(3)})
        for i in range(3)
    }
    again = Decision(0, f"{name} row", rows)
    return Decision(0, name, {"play": again, "leave": Payoff(constant - 1.0)})


def test_a_constant_is_not_at_stake() -> None:
    """The smoothed geometry weighs what play decides, and not a constant."""
    weights = []
    for constant in (0.0, 1e9):
        game = tree_of(NORMAL + constant)
        weights.append(game.smoothed(game.initial_policy())[0].geometry.weights)
    assert (weights[1] < 4.0 * weights[0]).all()
