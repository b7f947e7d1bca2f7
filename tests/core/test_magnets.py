"""When and where the magnet moves, and what deciding costs."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

import mpo_games as mg

GAME = mg.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
START = GAME.policy([0.2, 0.5, 0.3])


def states(magnet: Any, steps: int = 100, eta: float = 0.3, alpha: float = 0.1, **options: Any):
    solver = mg.MMD(eta, alpha, magnet=magnet, **options)
    return list(islice(mg.iterate(GAME, solver, policy=START), steps + 1))


def test_fixed_never_moves() -> None:
    run = states(mg.Fixed())
    assert all(s.magnet is run[0].magnet and s.moved_at == 0 for s in run)


@pytest.mark.parametrize("period", [1, 7, 7.0])
def test_every(period: float) -> None:
    run = states(mg.Every(period))
    for t, state in enumerate(run):
        moved = int(t // period * period)
        assert state.moved_at == moved
        np.testing.assert_array_equal(state.magnet.probs, run[moved].policy.probs)
    assert [s.evaluations for s in run] == list(range(101))


def test_every_with_a_floor() -> None:
    run = states(mg.Every(10, floor=0.1))
    mixed = 0.9 * run[20].policy.probs + 0.1 / 3
    np.testing.assert_allclose(run[25].magnet.probs, mixed, rtol=1e-13)


def test_ema_is_a_geometric_walk() -> None:
    rate, run = 0.05, states(mg.Ema(0.05))
    log_magnet = np.log(START.probs)
    for t, state in enumerate(run):
        if t:
            log_magnet = (1 - rate) * log_magnet + rate * state.policy.log_probs
        expected = np.exp(log_magnet)
        np.testing.assert_allclose(state.magnet.probs, expected / expected.sum(), rtol=1e-12)
        assert state.moved_at == 0  # it drifts: `moved_at` is for magnets that jump


def test_ema_at_rate_one_is_every_step() -> None:
    for a, b in zip(states(mg.Ema(1.0)), states(mg.Every(1)), strict=True):
        np.testing.assert_allclose(a.policy.probs, b.policy.probs, rtol=1e-11)


def test_when_gap_fell_moves_exactly_when_the_gap_has_fallen() -> None:
    schedule = mg.WhenGapFell(0.5, check=5)
    run = states(schedule, 400, eta=0.3, alpha=0.02, feedback=mg.optimistic)
    reference, bill, moves = float(GAME.duality_gap(START)), 0.0, 0
    for before, state in pairwise(run):
        bill += 1.0
        if state.step % 5 == 0:
            bill += 1.0 + (state.step == 5)
            gap = float(GAME.duality_gap(state.policy))
            if gap <= 0.5 * reference:
                reference, moves = gap, moves + 1
                assert state.moved_at == state.step
                assert state.magnet is state.policy
            else:
                assert state.moved_at == before.moved_at
        else:
            assert state.magnet is before.magnet
        assert state.evaluations == bill
    assert moves >= 3


def test_when_inner_solved_moves_when_the_inner_game_is_solved() -> None:
    schedule = mg.WhenInnerSolved(0.2, check=4)
    run = states(schedule, 600)
    moves = 0
    for before, state in pairwise(run):
        if state.step % 4:
            assert state.magnet is before.magnet
            continue
        left = float(GAME.regularised_gap(state.policy, before.magnet, 0.1))
        travelled = 0.1 * float(GAME.divergence(state.policy, before.magnet))
        assert (state.moved_at == state.step) == (left <= 0.2 * travelled)
        moves += state.moved_at == state.step
    assert moves >= 3
    assert run[-1].evaluations == 600 + 150
    assert GAME.duality_gap(run[-1].policy) < 1e-3 * GAME.duality_gap(START)


def test_any_callable_is_a_schedule() -> None:
    def halfway(game: Any, state: mg.State) -> mg.State:
        return state.move(state.policy).charge(3.0) if state.step == 50 else state

    run = states(halfway)
    assert [s.moved_at for s in run] == [0] * 50 + [50] * 51
    assert run[-1].evaluations == 103.0
    assert run[-1].magnet is run[50].policy


def test_settings_see_when_the_magnet_moved() -> None:
    seen = []

    def alpha(state: mg.State) -> float:
        seen.append(state.step - state.moved_at)
        return 0.1

    list(islice(mg.iterate(GAME, mg.MMD(0.3, alpha, magnet=mg.Every(4))), 13))
    assert seen == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("period", [0, -3, 2.5, np.nan, np.inf])
def test_periods_are_whole_steps(period: float) -> None:
    with pytest.raises(ValueError, match="`period`"):
        mg.Every(period)
    with pytest.raises(ValueError, match="`check`"):
        mg.WhenGapFell(0.5, check=period)


@pytest.mark.parametrize("bad", [0.0, -1.0, 1.5, np.nan])
def test_ratios_and_rates(bad: float) -> None:
    with pytest.raises(ValueError, match="`rate`"):
        mg.Ema(bad)
    with pytest.raises(ValueError, match="`ratio`"):
        mg.WhenGapFell(bad)
    with pytest.raises(ValueError, match="`ratio`"):
        mg.WhenInnerSolved(bad)
    with pytest.raises(ValueError, match="`floor`"):
        mg.Every(3, floor=bad if bad else 1.0)


def test_when_inner_solved_needs_an_alpha() -> None:
    for alpha in (0.0, lambda state: 0.0, lambda state: np.full((1, 1), 0.1)):
        solver = mg.MMD(0.3, alpha, magnet=mg.WhenInnerSolved(0.5, check=1))
        with pytest.raises(ValueError, match="`alpha` is a number above 0"):
            mg.solve(GAME, solver, 5)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_the_earlier_when_settled_is_told_alpha(bad: float) -> None:
    with pytest.raises(ValueError, match="`alpha`"):
        mg.WhenSettled(0.5, bad)


def test_the_earlier_when_settled_keeps_its_own_alpha() -> None:
    """It moves as `WhenInnerSolved` does at the solver's `alpha`, and by its own at another."""
    today = states(mg.WhenInnerSolved(0.2, check=4), 600)
    earlier = states(mg.WhenSettled(0.2, 0.1, 4), 600)
    assert [s.moved_at for s in today] == [s.moved_at for s in earlier]
    np.testing.assert_array_equal(today[-1].policy.probs, earlier[-1].policy.probs)
    other = states(mg.WhenSettled(0.2, 0.01, 4), 600)
    assert [s.moved_at for s in other] != [s.moved_at for s in earlier]
    assert other[-1].alpha == 0.1


def test_a_run_goes_on_under_the_name_of_today_only_with_the_solver_s_alpha() -> None:
    def run(magnet: mg.MagnetSchedule, budget: float, resume: mg.Solution | None = None):
        return mg.solve(GAME, mg.MMD(0.3, 0.1, magnet=magnet), budget, resume=resume)

    same, other = (run(mg.WhenSettled(0.2, alpha, 4), 20) for alpha in (0.1, 0.02))
    assert run(mg.WhenInnerSolved(0.2, 4), 40, same).state.step >= 32
    for magnet in (mg.WhenInnerSolved(0.2, 4), mg.WhenSettled(0.2, 0.1, 4)):
        with pytest.raises(ValueError, match="`resume` ran another solver"):
            run(magnet, 40, other)
