"""Smooth and extragradient RM+: the papers' updates, their fixed points, restarts in batches."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpo_games as mg
from mpo_games import exact
from mpo_games.games.families import random_preferences
from mpo_games.metrics import better_gap

PUBLISHED = mg.MatrixGame([[-3, 0, 3], [0, -3, 4], [0, 0, -1]])
"""The game of Farina et al. (2023) and Cai et al. (2023), whose rows minimise: here -A."""


def cut(z: Any, floor: float) -> Any:
    """The nearest point of `R >= 0, sum R >= floor`, by bisection."""
    if np.maximum(z, 0).sum() >= floor:
        return np.maximum(z, 0)
    low, high = 0.0, floor - z.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(z + middle, 0).sum() < floor else (low, middle)
    return np.maximum(z + high, 0)


def regrets(a: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The operator of both papers, for the row player who maximises."""
    u, v = a @ y, -(x @ a)
    return u - x @ u, v - y @ v


def normalised(r: Any) -> Any:
    return r / r.sum()


def smooth_predictive(a: Any, floor: float, steps: int) -> Any:
    """Algorithm "Smooth PRM+", line by line: aggregates R, S and predictions m."""
    r, s = floor * np.ones(a.shape[0]) / a.shape[0], floor * np.ones(a.shape[1]) / a.shape[1]
    m, k = np.zeros(a.shape[0]), np.zeros(a.shape[1])
    for _ in range(steps):
        x, y = normalised(cut(r + m, floor)), normalised(cut(s + k, floor))
        yield x, y
        m, k = regrets(a, x, y)
        r, s = cut(r + m, floor), cut(s + k, floor)


def extragradient(a: Any, floor: float, steps: int) -> Any:
    """Algorithm "ExRM+", line by line."""
    r, s = floor * np.ones(a.shape[0]) / a.shape[0], floor * np.ones(a.shape[1]) / a.shape[1]
    for _ in range(steps):
        x, y = normalised(r), normalised(s)
        yield x, y
        m, k = regrets(a, x, y)
        half = normalised(cut(r + m, floor)), normalised(cut(s + k, floor))
        m, k = regrets(a, *half)
        r, s = cut(r + m, floor), cut(s + k, floor)


@pytest.mark.parametrize(
    ("solver", "paper"),
    [(mg.SmoothPRMPlus, smooth_predictive), (mg.ExtragradientRMPlus, extragradient)],
)
@pytest.mark.parametrize("floor", [0.3, 2.0, 20.0])
def test_the_update_is_the_papers(solver: Any, paper: Any, floor: float) -> None:
    for seed, shape in enumerate([(3, 3), (4, 7), (6, 2)]):
        a = np.random.default_rng(seed).uniform(-1, 1, size=shape)
        game = mg.MatrixGame(a)
        states = mg.iterate(game, solver(floor))
        for state, (x, y) in zip(states, paper(a, floor, 20), strict=False):
            expected = game.policy(x, y).probs
            np.testing.assert_allclose(state.policy.probs, expected, atol=1e-10)


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=6),
    st.lists(st.floats(0, 5), min_size=6, max_size=6),
    st.floats(0.01, 8),
)
def test_the_cut_is_the_projection(z: list[float], other: list[float], floor: float) -> None:
    """`<z - P(z), w - P(z)> <= 0` for every `w` of the set."""
    policy = mg.TabularPolicy.uniform(np.ones((1, len(z)), dtype=bool))
    point = mg.SmoothPRMPlus(floor)._cut(policy, np.array([z]))[0]
    w = np.array(other[: len(z)])
    w *= max(1.0, floor / max(w.sum(), 1e-12)) if w.sum() > 1e-3 else 0.0
    w += floor / len(z) if not w.any() else 0.0
    assert (point >= 0).all()
    assert point.sum() >= floor * (1 - 1e-12)
    assert (np.array(z) - point) @ (w - point) <= 1e-9


@pytest.mark.parametrize("solver", [mg.SmoothPRMPlus, mg.ExtragradientRMPlus])
def test_regrets_never_vanish(solver: Any) -> None:
    game = mg.MatrixGame(np.random.default_rng(3).uniform(-1, 1, size=(5, 3)))
    for state in islice(mg.iterate(game, solver(0.7)), 1, 200):
        held = np.where(game.legal, state.memory["regrets"], 0.0)
        assert (held >= 0).all()
        assert (held.sum(axis=-1) >= 0.7 - 1e-12).all()


@pytest.mark.parametrize("solver", [mg.SmoothPRMPlus(2.0), mg.ExtragradientRMPlus(2.0)])
def test_an_equilibrium_is_a_fixed_point(solver: Any) -> None:
    for seed in range(5):
        game = random_preferences(7, np.random.default_rng(seed))
        nash = exact.nash(game).policy
        state = next(islice(mg.iterate(game, solver, policy=nash), 10, None))
        np.testing.assert_allclose(state.policy.probs, nash.probs, atol=1e-12)


@pytest.mark.parametrize("make", [mg.SmoothPRMPlus, mg.ExtragradientRMPlus])
def test_the_floor_is_in_units_of_payoff(make: Any) -> None:
    """Payoffs and floor doubled: the same policies, bit for bit."""
    a = np.random.default_rng(0).uniform(-1, 1, size=(6, 6))
    pairs = zip(
        mg.iterate(mg.MatrixGame(a), make(0.5)),
        mg.iterate(mg.MatrixGame(1024.0 * a), make(512.0)),
        strict=True,
    )
    for one, other in islice(pairs, 100):
        assert np.array_equal(one.policy.coordinates, other.policy.coordinates)


def test_published_last_iterates() -> None:
    """On the papers' game RM+ and predictive RM+ go on circling; the smooth ones arrive."""
    nash = exact.nash(PUBLISHED)
    np.testing.assert_allclose(nash.policy.probs[0], [1 / 12, 1 / 12, 5 / 6], atol=1e-12)
    np.testing.assert_allclose(nash.policy.probs[1], [1 / 3, 5 / 12, 1 / 4], atol=1e-12)
    for circling in (mg.RegretMatching(plus=True), mg.RegretMatching(plus=True, predictive=True)):
        late = islice(mg.iterate(PUBLISHED, circling), 9000, 10_000)
        assert max(float(PUBLISHED.duality_gap(s.policy)) for s in late) > 1e-2
    for arriving in (mg.SmoothPRMPlus(20.0), mg.ExtragradientRMPlus(20.0)):
        plain = mg.solve(PUBLISHED, arriving, 10_000).gap
        restarted = mg.solve(PUBLISHED, mg.Restarted(arriving), 10_000).gap
        assert restarted < 1e-12
        assert plain < 1e-12


@pytest.mark.parametrize(
    "inner",
    [
        mg.Averaged(mg.Extragradient(0.5)),
        mg.Averaged(mg.OptimisticMD(0.3)),
        mg.Averaged(mg.RegretMatching(plus=True, predictive=True), degree=2),
        mg.SmoothPRMPlus(2.0),
        mg.ExtragradientRMPlus(2.0),
    ],
)
@pytest.mark.parametrize("geometry", [mg.Entropy(), mg.Euclidean()])
def test_in_a_batch_every_game_restarts_by_itself(inner: Any, geometry: Any) -> None:
    games = [random_preferences(5, np.random.default_rng(s)) for s in range(6)]
    batch = mg.PreferenceGame(np.stack([g.preferences for g in games]))
    solver = mg.Restarted(inner, 0.5, 5)
    start = mg.TabularPolicy.uniform(batch.legal, geometry)
    together = next(islice(mg.iterate(batch, solver, policy=start), 150, None))
    assert len(set(np.asarray(together.memory["restarted"]).tolist())) > 1
    for i, game in enumerate(games):
        begin = mg.TabularPolicy.uniform(game.legal, geometry)
        alone = next(islice(mg.iterate(game, solver, policy=begin), 150, None))
        assert alone.evaluations == together.evaluations
        assert alone.memory["restarted"] == together.memory["restarted"][i]
        np.testing.assert_allclose(alone.policy.probs, together.policy.probs[i], atol=1e-9)


def test_restarts_make_the_euclidean_extragradient_fast() -> None:
    games = [random_preferences(10, np.random.default_rng(s)) for s in range(20)]
    batch = mg.PreferenceGame(np.stack([g.preferences for g in games]))
    start = mg.TabularPolicy.uniform(batch.legal, mg.Euclidean())
    inner = mg.Averaged(mg.Extragradient(0.7))
    median = {
        name: np.median(
            mg.solve(batch, s, 1000, policy=start, metrics={"gap": better_gap}).trace["gap"][-1]
        )
        for name, s in (("plain", inner), ("restarted", mg.Restarted(inner, 0.5, 20)))
    }
    assert median["restarted"] < 1e-11 < 1e-6 < median["plain"]


def test_better_gap_is_the_smaller_of_two() -> None:
    state = next(islice(mg.iterate(PUBLISHED, mg.Averaged(mg.MirrorDescent(0.1))), 50, None))
    gaps = [mg.metrics.duality_gap(PUBLISHED, state), mg.metrics.average_gap(PUBLISHED, state)]
    assert better_gap(PUBLISHED, state) == min(gaps)


def test_choices_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="`floor`"):
        mg.RegretMatching(floor=1.0)
    with pytest.raises(ValueError, match="`floor`"):
        mg.SmoothPRMPlus(-1.0)
    with pytest.raises(ValueError, match="`half_step`"):
        mg.RegretMatching(plus=True, half_step=True, predictive=True)
    with pytest.raises(ValueError, match="`half_step`"):
        mg.RegretMatching(plus=True, half_step=True, alternating=True)
