"""AutoMPO, and each of its ingredients alone."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpo_games as mg
from mpo_games.games.families import random_preferences
from mpo_games.method import CONVERGED
from mpo_games.solvers.self_tuning import ONE_SEAT, TWO_SEATS

COMAL = mg.load("comal")
RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def egpo(seed: int, n: int = 10) -> mg.PreferenceGame:
    return random_preferences(n, np.random.default_rng(seed))


def gap(game: Any, budget: float, **options: Any) -> float:
    return mg.solve(game, mg.AutoMPO(), budget, **options).gap


def states(game: Any, solver: Any, steps: int) -> list[Any]:
    return list(islice(mg.iterate(game, solver), steps + 1))


@pytest.mark.parametrize(
    "name", ["rps", "biased_rps", "perturbed_rps", "comal", "mne", "matching_pennies"]
)
def test_small_games_are_solved_within_300_evaluations(name: str) -> None:
    assert gap(mg.load(name), 300) < 1e-13


@pytest.mark.parametrize("name", ["rps", "biased_rps", "perturbed_rps", "comal", "mne"])
@pytest.mark.parametrize("seed", range(5))
def test_and_from_anywhere_within_1000(name: str, seed: int) -> None:
    game, rng = mg.load(name), np.random.default_rng(seed)
    legal = game.legal
    start = mg.TabularPolicy.from_probs(rng.dirichlet(np.ones(legal.shape[-1]), legal.shape[:-1]))
    assert gap(game, 1000, policy=start) < 1e-13


@pytest.mark.parametrize("n", [3, 5, 7, 9, 11])
def test_condorcet_cycles(n: int) -> None:
    assert gap(mg.load("condorcet", n=n), 5000) < 1e-12


@pytest.mark.slow
def test_one_setting_on_a_hundred_random_games() -> None:
    """Fresh games of EGPO's family: median, 90 % and worst gap of the last iterate.

    A run ends where its game is solved, since it stays there. The first ten go on and show that.
    """
    gaps, looks = [], [1000.0, 5000.0]
    for seed in range(20_000, 20_100):
        tol = None if seed < 20_010 else CONVERGED
        at = sorted({*looks, *np.arange(200.0, 5000.0, 200.0)})
        trace = mg.solve(egpo(seed), mg.AutoMPO(), 5000, at=at, tol=tol).trace
        rows = np.minimum(np.searchsorted(trace["evaluations"], looks), len(trace) - 1)
        gaps.append(trace["gap"][rows])
    early, late = np.quantile(gaps, (0.5, 0.9, 1.0), axis=0).T
    assert (early <= (1e-13, 1e-8, 1e-3)).all()
    assert (late <= (1e-14, 1e-13, 5e-4)).all()


@pytest.mark.slow
def test_the_hardest_games_are_a_test_family() -> None:
    """What `experiments/hardest.py` searched for: games as they are stored, with certified
    equilibria, on which the self-tuning solver is no worse than it was."""
    stored = json.loads((RESULTS / "hardest.json").read_text(encoding="utf-8"))["results"]
    gaps = []
    for payoff in stored["payoffs"]:
        game = mg.MatrixGame(payoff)
        assert float(game.bound) == pytest.approx(1.0, abs=1e-6)
        assert float(mg.exact.nash(game).gap) < 1e-9
        gaps.append(gap(game, stored["marks"][0]))
    worst = max(found[0] for found in stored["methods"]["AutoMPO"])
    assert max(gaps) <= 10.0 * worst


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["preferences", "zero-sum"])
def test_payoffs_times_1024_are_the_same_iterates(seed: int, kind: str) -> None:
    payoff = np.random.default_rng(seed).uniform(-1, 1, (6, 4))
    if kind == "preferences":
        payoff = egpo(seed).payoff[0]
    one, other = (states(mg.MatrixGame(c * payoff), mg.AutoMPO(), 200) for c in (1.0, 1024.0))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.policy.probs, b.policy.probs)


@pytest.mark.parametrize("seed", range(5))
def test_payoffs_scaled_and_shifted_are_the_same_iterates_but_for_rounding(seed: int) -> None:
    payoff = np.random.default_rng(seed).uniform(-1, 1, (6, 4))
    games = [mg.MatrixGame(m) for m in (payoff, 1000.0 * payoff, payoff + 3.0)]
    for a, b, c in zip(*(states(game, mg.AutoMPO(), 50) for game in games), strict=True):
        np.testing.assert_allclose(a.policy.probs, b.policy.probs, atol=1e-8)
        np.testing.assert_allclose(a.policy.probs, c.policy.probs, atol=1e-8)


def test_it_is_a_composition_of_choices_that_can_each_be_had_alone() -> None:
    for game, method in ((COMAL, ONE_SEAT), (mg.load("biased_rps"), TWO_SEATS)):
        for before, state in pairwise(states(game, mg.AutoMPO(), 60)[1:]):
            alone = method.step(game, before)
            np.testing.assert_array_equal(state.policy.coordinates, alone.policy.coordinates)
    for solver in (
        mg.MMD(0.3, 0.1, geometry=mg.smoothed),
        mg.MMD(mg.Measured(0.4), 0.1, feedback=mg.popov),
        mg.MMD(0.3, mg.Anchored(), mg.WhenGapFell(0.5)),
        mg.MMD(0.3, 0.1, mg.Leap(mg.Every(50)), feedback=mg.popov),
    ):
        assert np.isfinite(mg.solve(COMAL, solver, 200).gap)


def test_an_equilibrium_is_not_left() -> None:
    equilibrium = mg.exact.nash(COMAL).policy
    found = mg.solve(COMAL, mg.AutoMPO(), 2000, policy=equilibrium)
    assert found.trace["gap"].max() < 1e-14


def test_nothing_happens_after_convergence() -> None:
    """Rounding errors are no measurements: the gap stays at their level."""
    for name in ("biased_rps", "comal", "matching_pennies", "mne"):
        trace = mg.solve(mg.load(name), mg.AutoMPO(), 6000).trace
        assert trace["gap"][trace["evaluations"] > 1000].max() < 1e-13


def test_the_bill_counts_every_look() -> None:
    """An evaluation a step, the gap included: it comes with the feedback that is kept. The first
    step looks twice more."""
    for game in (COMAL, mg.load("biased_rps")):
        for state in states(game, mg.AutoMPO(), 40):
            assert state.evaluations == state.step + 2 * (state.step > 0)


def test_halpern_is_magnetic() -> None:
    """`eta alpha_k = 1 / (k + 1)`: the weight of the magnet in the step is `1 / (k + 2)`."""
    for before, state in pairwise(states(egpo(1), ONE_SEAT, 80)):
        k = before.step - before.moved_at
        assert mg.Anchored()(state) == pytest.approx(
            1 / (state.eta * (state.step - state.moved_at + 1))
        )
        if k > 1 and "base" in before.memory and before.moved_at:
            b, eta = 1.0 / (k + 2), state.eta
            base, q = before.memory["base"], before.q
            mean = (1 - b) * (base.coordinates + eta * q) + b * before.magnet.coordinates
            zero = np.zeros(mean.shape)
            step = base.geometry.step(mean, zero, None, 1.0, 0.0)
            if state.moved_at != state.step:
                np.testing.assert_allclose(state.policy.coordinates, step, atol=1e-12)


def euclidean(game: mg.PreferenceGame) -> tuple[mg.TabularPolicy, float]:
    """Uniform play in Euclidean geometry, and the Lipschitz constant of feedback there."""
    start = mg.TabularPolicy.from_probs(game.initial_policy().probs, geometry=mg.Euclidean())
    return start, float(np.linalg.norm(game.payoff[0], 2))


@pytest.mark.parametrize("seed", range(8))
def test_the_anchored_last_iterate_is_of_order_one_over_k(seed: int) -> None:
    """The theorem in Euclidean geometry: `gap <= C L |p* - p_0| / k`, here with C = 4 sqrt(2)."""
    game = egpo(seed)
    start, lipschitz = euclidean(game)
    solver = mg.MMD(0.4 / lipschitz, mg.Anchored(), feedback=mg.popov)
    found = mg.solve(game, solver, 4096, policy=start, at=[2**i for i in range(5, 13)]).trace
    away = np.linalg.norm(mg.exact.nash(game).policy.probs - start.probs)
    late = found["evaluations"] >= 32
    bound = 4.0 * np.sqrt(2.0) * lipschitz * away / found["evaluations"]
    assert (found["gap"][late] <= bound[late]).all()


@pytest.mark.parametrize("seed", range(8))
def test_restarts_of_the_anchor_make_the_rate_linear(seed: int) -> None:
    """Sharpness, in Euclidean geometry: near the equilibrium no epoch, in which the gap falls by
    the same factor, is much longer than another."""
    game = egpo(seed)
    start, lipschitz = euclidean(game)
    magnet = mg.WhenGapFell(0.3, 1)
    solver = mg.MMD(0.4 / lipschitz, mg.Anchored(), magnet, feedback=mg.popov)
    moves = [
        (state.step, state.memory["gap_at_move"])
        for state in islice(mg.iterate(game, solver, policy=start), 6000)
        if state.moved_at == state.step > 0
    ]
    epochs = np.diff([step for step, gap in moves if 1e-11 < gap < 1e-5])
    assert len(epochs) > 8
    assert epochs.max() <= 4 * epochs.min()


def test_the_step_size_is_the_ratio_over_the_local_lipschitz_constant() -> None:
    setting = mg.Measured(0.4, growth=1e9)
    run = states(egpo(2), mg.MMD(setting, 0.1, feedback=mg.popov), 30)
    for before, state in pairwise(run[2:]):
        p, old = before.policy, before.memory["previous"]
        theta, other = p.coordinates, old.coordinates
        length = np.sqrt(np.sum((theta - other) * (p.probs - old.probs)))
        weights = 0.5 * (p.probs + old.probs)
        change = before.q - before.memory["previous_q"]
        centre = np.sum(weights * change) / np.sum(weights)
        lipschitz = np.sqrt(np.sum(weights * (change - centre) ** 2)) / length
        assert state.eta == pytest.approx(0.4 / lipschitz, rel=1e-9)


def test_a_start_is_left_with_a_step_size_that_was_measured_there() -> None:
    """The first step looks, the second tries one over the feedback; neither moves."""
    game = egpo(3)
    run = states(game, mg.MMD(mg.Measured(0.4), 0.1, feedback=mg.popov), 3)
    q = game.feedback(game.initial_policy())
    assert run[2].eta == pytest.approx(1.0 / np.std(q))
    assert run[2].policy is run[0].policy
    tried = run[2].memory["previous"]
    np.testing.assert_allclose(run[2].memory["previous_q"], game.feedback(tried), atol=1e-15)
    assert run[3].policy is not run[0].policy


def test_feedback_that_does_not_change_measures_nothing() -> None:
    """Along an edge of rock-paper-scissors both living actions gain alike."""
    game = mg.load("condorcet", n=3)
    start = game.policy([0.15880448, 0.04564997, 0.79554555])
    states = list(islice(mg.iterate(game, mg.AutoMPO(), policy=start), 200))
    edge = states[5]
    living = states[5].policy.probs[0] > 0
    assert living.sum() == 2
    assert np.ptp((edge.q - edge.memory["previous_q"])[0, living]) == 0.0
    assert states[6].eta == edge.eta
    assert mg.solve(game, mg.AutoMPO(), 1000, policy=start).gap < 1e-14


def test_a_leap_goes_as_far_as_the_gap_allows() -> None:
    """Along the drift of the means; feedback there is what the game would say."""
    leaps = 0
    for seed in range(1000, 1020):
        game = egpo(seed)
        for before, state in pairwise(states(game, ONE_SEAT, 600)):
            k = state.step - before.moved_at
            if state.moved_at != state.step or k < 32 or "mean" not in state.memory:
                continue
            if not np.array_equal(state.policy.point, state.magnet.point) or k & (k - 1):
                continue
            mean = state.memory["mean"]
            if np.allclose(mean, state.policy.point, atol=1e-12):
                continue
            leaps += 1
            np.testing.assert_allclose(state.q, game.feedback(state.policy), atol=1e-12)
            start = float(game.duality_gap(game.policy(mean[0])))
            assert float(game.duality_gap(state.policy)) <= start + 1e-12
    assert leaps >= 3


def test_a_leap_needs_whole_windows() -> None:
    with pytest.raises(ValueError, match="`windows`"):
        mg.Leap(mg.Fixed(), windows=0.0)
    with pytest.raises(ValueError, match="`first`"):
        mg.Leap(mg.Fixed(), first=3)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 7), m=st.integers(1, 7))
def test_any_matrix_game(seed: int, n: int, m: int) -> None:
    payoff = np.random.default_rng(seed).normal(size=(n, m)) * 10.0 ** (seed % 7 - 3)
    game = mg.MatrixGame(payoff)
    found = mg.solve(game, mg.AutoMPO(), 1500)
    assert np.isfinite(found.trace["gap"]).all()
    assert found.gap <= 1e-2 * np.abs(payoff).max()
    np.testing.assert_allclose(found.policy.probs.sum(axis=-1), 1.0, atol=1e-12)


def test_a_run_is_saved_and_resumed_bit_for_bit(tmp_path: Any) -> None:
    game = egpo(5)
    whole = mg.solve(game, mg.AutoMPO(), 400)
    half = mg.solve(game, mg.AutoMPO(), 150)
    half.save(tmp_path / "run")
    rest = mg.solve(game, mg.AutoMPO(), 400, resume=mg.Solution.load(tmp_path / "run", game))
    np.testing.assert_array_equal(whole.policy.coordinates, rest.policy.coordinates)
    assert whole.state.eta == rest.state.eta
    assert TWO_SEATS.feedback is mg.alternating_popov


def test_the_adaptive_step_shrinks_with_every_surprise() -> None:
    game, setting = egpo(4), mg.Adaptive(0.5)
    total = 0.0
    solver = mg.MMD(setting, 0.0, feedback=mg.popov)
    for state in states(game, solver, 20)[2:]:
        memory = state.memory
        if "base" not in memory:
            total = state.policy.dual_norm(state.q, state.policy) ** 2
        elif state.step > 3:
            assert state.eta == pytest.approx(0.5 / np.sqrt(total))
        surprise = state.q - memory["previous_q"]
        total += state.policy.dual_norm(surprise, memory["previous"]) ** 2


def test_an_average_handed_out_is_the_average_kept_beside() -> None:
    inner = mg.Averaged(mg.OptimisticMPO(0.3, 0.1, 20))
    beside, out = (states(COMAL, s, 40) for s in (inner, mg.PlayedAverage(inner)))
    for a, b in zip(beside[1:], out[1:], strict=True):
        np.testing.assert_array_equal(a.memory["average"].probs, b.policy.probs)
        np.testing.assert_array_equal(a.policy.probs, b.memory["iterate"].probs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda game: mg.NoisyGame(game, 0.1),
        lambda game: mg.SampledGame(game, 8),
        lambda game: mg.BanditGame(game, 8, exploration=0.1),
    ],
    ids=["noisy", "sampled", "bandit"],
)
def test_samples_are_heard_and_the_average_goes_on(wrap: Any) -> None:
    """Sixteen times the budget quarters the gap (half of it is asked); no action is dropped."""
    traces = [
        mg.solve(wrap(egpo(seed)), mg.AutoMPO(), 1600, seed=seed, at=[100, 1600]).trace
        for seed in range(8)
    ]
    few, many = (
        np.median([trace["gap"][trace["evaluations"] >= budget][0] for trace in traces])
        for budget in (100, 1600)
    )
    assert many < 0.5 * few
    found = mg.solve(wrap(egpo(0)), mg.AutoMPO(), 400)
    assert found.state.memory["noise"] > 0.0
    assert np.sum(found.policy.probs > 1e-3) > 2


def test_exact_feedback_is_heard_as_such() -> None:
    for game in (egpo(0), mg.load("biased_rps")):
        assert states(game, mg.AutoMPO(), 3)[-1].memory["noise"] == 0.0


def test_a_game_without_the_geometry_is_refused() -> None:
    class Bare:
        players = 1

        def initial_policy(self) -> Any:
            return COMAL.initial_policy()

        def feedback(self, policy: Any, opponent: Any = None, **_: Any) -> Any:
            return COMAL.feedback(policy)

    with pytest.raises(ValueError, match="must have `smoothed"):
        mg.solve(Bare(), mg.AutoMPO(), 10)


def test_its_decisions_are_in_the_trace() -> None:
    trace = mg.solve(egpo(1003), mg.AutoMPO(), 1000, at=range(1001)).trace
    assert (trace["eta"][1:] > 0.0).all()
    assert (np.diff(trace["moved"]) >= 0).all()
    # A step is anchored where the magnet stood before it, and the magnet moves after it.
    np.testing.assert_array_equal(np.diff(trace["step"]), 1)
    k = trace["step"][:-1] - trace["moved"][:-1]
    np.testing.assert_allclose(trace["weight"], [0.0, *(1.0 / (k + 2))])
    assert (trace["moved"] <= trace["step"]).all()
    assert trace["leaps"][-1] >= 0


@pytest.mark.parametrize("shift", [0.0, 1e-13])
def test_rounding_errors_are_no_drift(shift: float) -> None:
    """Among many equilibria play may creep for ever; no leap magnifies that."""
    payoff = np.zeros((4, 4))
    payoff[:2, :2] = [[0.0, 1.0], [-1.0, 0.0]]
    game = mg.MatrixGame(payoff + shift)
    trace = mg.solve(game, mg.AutoMPO(), 5000).trace
    assert trace["gap"][trace["evaluations"] > 300].max() < 1e-12


class Bringing(mg.PreferenceGame):
    """A game with choices of its own."""

    @property
    def self_tuning(self) -> mg.MMD:
        return mg.OptimisticMPO(0.5, 0.1, 7)


def test_a_game_brings_its_own_choices() -> None:
    game = Bringing(COMAL.preferences)
    own = mg.solve(game, mg.AutoMPO(), 40).policy
    np.testing.assert_array_equal(
        own.probs, mg.solve(game, game.self_tuning, 40).policy.probs, strict=True
    )
    assert isinstance(game, mg.capabilities.SelfTuned)
    # The magnet's share is that of these choices.
    weight = mg.solve(game, mg.AutoMPO(), 40).trace["weight"]
    np.testing.assert_allclose(weight, [0.0, *[0.05 / 1.05] * (len(weight) - 1)])


def test_without_a_pull_the_magnet_has_no_share() -> None:
    trace = mg.solve(mg.NoisyGame(egpo(1003), 0.1), mg.AutoMPO(), 20).trace
    assert not trace["weight"].any()
    assert not isinstance(COMAL, mg.capabilities.SelfTuned)
