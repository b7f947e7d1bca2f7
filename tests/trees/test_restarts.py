"""Restarts: what they keep, what they cost, and what they gain."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from compiled import LIARS_DICE, compiled

import mpo_games as mg
from mpo_games.games.behavioural import BehaviouralGame, counterfactual_values
from mpo_games.metrics import average_gap
from mpo_games.solvers.regret import CFRPlus, PCFRPlus
from mpo_games.solvers.restarts import Restarted

RPS = mg.MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
START = RPS.policy([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])


def average(game: Any, solver: Any, budget: float, **options: Any) -> float:
    return mg.solve(game, solver, budget, metrics={"gap": average_gap}, **options).gap


def test_between_restarts_it_is_the_solver_from_the_average() -> None:
    """A restart is a fresh run from the average, bit for bit."""
    inner = mg.Averaged(mg.Extragradient(0.3))
    states = list(islice(mg.iterate(RPS, Restarted(inner, 0.5, 7), policy=START), 200))
    restarts = [s.step for s in states[1:] if s.memory["restarted"] == s.step]
    assert len(restarts) > 2
    first = restarts[0]
    again = states[first].memory["average"]
    assert states[first].policy is again
    assert states[first].magnet is again
    fresh = islice(mg.iterate(RPS, inner, policy=again), restarts[1] - first)
    for k, state in enumerate(fresh):
        assert np.array_equal(state.policy.coordinates, states[first + k].policy.coordinates)


def test_a_restart_goes_to_the_better_of_policy_and_average() -> None:
    inner, last, chosen = mg.Averaged(mg.Extragradient(0.3)), START, set()
    for state in islice(mg.iterate(RPS, Restarted(inner, 0.5, 7), policy=START), 1, 300):
        if state.memory["restarted"] == state.step:
            before = inner.step(RPS, replace(last, step=last.step - last.memory["restarted"]))
            points = (before.policy, before.memory["average"])
            gaps = [float(RPS.duality_gap(p)) for p in points]
            assert float(RPS.duality_gap(state.policy)) == min(gaps)
            chosen.add(int(np.argmin(gaps)))
        last = state
    assert chosen == {0, 1}


def test_it_restarts_when_the_gap_has_fallen_by_the_ratio() -> None:
    inner = mg.Averaged(mg.Extragradient(0.3))
    last = float(RPS.duality_gap(START))
    for state in islice(mg.iterate(RPS, Restarted(inner, 0.25, 5), policy=START), 1, 400):
        points = (state.policy, state.memory["average"])
        gap = min(float(RPS.duality_gap(p)) for p in points)
        started = state.memory["restarted"]
        if started == state.step:
            assert gap <= 0.25 * last
            last = gap
        elif (state.step - started) % 5 == 0:
            assert gap > 0.25 * last
        assert state.memory["gap_at_restart"] == pytest.approx(last)


def test_every_look_is_charged() -> None:
    for solver, cost, points in (
        (mg.Averaged(mg.Extragradient(0.3)), 2.0, 2),
        (CFRPlus(), 1.0, 2),
        (mg.SmoothPRMPlus(1.0), 1.0, 1),
    ):
        state = next(islice(mg.iterate(RPS, Restarted(solver, 0.01, 50), policy=START), 49, None))
        assert state.evaluations == 49 * cost + 1
        after = Restarted(solver, 0.01, 50).step(RPS, state)
        assert after.evaluations == state.evaluations + cost + points


def test_regret_matching_keeps_its_regrets() -> None:
    states = mg.iterate(RPS, Restarted(PCFRPlus(), 0.9, 1), policy=START)
    state = next(s for s in islice(states, 1, 300) if s.memory["restarted"] == s.step)
    assert np.asarray(state.memory["regrets"]).any()
    assert "average_weight" not in state.memory


def test_the_magnet_of_an_inner_schedule_keeps_its_own_time() -> None:
    inner = mg.Averaged(mg.MPO(0.3, 0.1, 10))
    for state in islice(mg.iterate(RPS, Restarted(inner, 0.5, 7), policy=START), 1, 300):
        assert state.memory["restarted"] <= state.moved_at <= state.step


def test_a_linear_rate_instead_of_one_over_t() -> None:
    inner = mg.Averaged(mg.Extragradient(0.3))
    plain = average(RPS, inner, 2000, policy=START)
    restarted = average(RPS, Restarted(inner), 2000, policy=START)
    assert restarted < 1e-12 < 1e-4 < plain


def test_kuhn_by_restarted_methods() -> None:
    tree = compiled("kuhn_poker")
    view = BehaviouralGame(tree, counterfactual_values)
    assert average(view, Restarted(PCFRPlus(), 0.5, 20), 1000) < 1e-14
    assert average(view, PCFRPlus(), 1000) > 1e-8
    eg = mg.Averaged(mg.Extragradient(1.0))
    assert average(tree, Restarted(eg, 0.5, 20), 3000) < 1e-14
    assert average(tree, eg, 3000) > 1e-3


@pytest.mark.slow
def test_liars_dice_by_restarted_predictive_cfr() -> None:
    view = BehaviouralGame(compiled(LIARS_DICE), counterfactual_values)
    assert average(view, Restarted(PCFRPlus(), 0.5, 20), 1000) < 1e-13
    assert average(view, PCFRPlus(), 1000) > 1e-7


def test_a_saved_run_goes_on_bit_for_bit(tmp_path: Any) -> None:
    solver = Restarted(mg.Averaged(mg.Extragradient(0.3)), 0.5, 5)
    whole = mg.solve(RPS, solver, 300, policy=START)
    half = mg.solve(RPS, solver, 150, policy=START)
    loaded = mg.Solution.load(half.save(tmp_path / "half"), RPS)
    rest = mg.solve(RPS, solver, 300, resume=loaded)
    assert np.array_equal(whole.policy.coordinates, rest.policy.coordinates)


def test_errors_are_sentences() -> None:
    with pytest.raises(ValueError, match="`ratio`"):
        Restarted(CFRPlus(), 1.0)
    with pytest.raises(ValueError, match="`check`"):
        Restarted(CFRPlus(), 0.5, 0)
