"""The smoothed dilated entropy against its definition, and AutoMPO on trees."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import kuhn, random_policy, trees

import mpo_games as mg
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.kernels import smoothed_trees as smoothed
from mpo_games.kernels import trees as kernels
from mpo_games.policies import dilation
from mpo_games.policies.dilated_entropy import DilatedEntropy
from mpo_games.policies.treeplex import TreeplexPolicy

SEEDS = st.integers(0, 2**32 - 1)
GAMMAS = st.floats(0.02, 0.95)


def some(game: SequenceFormGame, rng: np.random.Generator, gamma: float) -> TreeplexPolicy:
    """A random policy with random weights, some of its actions dead."""
    weights = rng.uniform(0.5, 2.0, game.tree.states)
    probs = random_policy(game, rng).probs * rng.integers(0, 2, game.tree.sequences)
    count = np.repeat(np.diff(game.tree.offset), np.diff(game.tree.offset))
    sums = np.repeat(np.add.reduceat(probs, game.tree.offset[:-1]), np.diff(game.tree.offset))
    probs[2:] = np.where(sums > 0, probs[2:] / np.where(sums > 0, sums, 1.0), 1.0 / count)
    return TreeplexPolicy.from_probs(game.tree, DilatedEntropy(weights, gamma), probs)


def entropy(policy: TreeplexPolicy, plan: np.ndarray) -> float:
    """`d` at a realisation plan that is positive everywhere, by its definition."""
    tree, gamma, total = policy.tree, policy.geometry.gamma, 0.0
    for j in range(tree.states):
        actions = slice(tree.offset[j], tree.offset[j + 1])
        reach = plan[tree.parent[j]]
        pi = (1.0 - gamma) * plan[actions] / reach + gamma / (actions.stop - actions.start)
        total += policy.geometry.weights[j] * reach * np.sum(pi * np.log(pi)) / (1.0 - gamma) ** 2
    return float(total)


def gradient(policy: TreeplexPolicy) -> np.ndarray:
    return policy.geometry.gradient(policy.tree, policy.coordinates)


@given(trees(), SEEDS, GAMMAS)
def test_the_gradient_is_that_of_the_entropy(
    game: SequenceFormGame, seed: int, gamma: float
) -> None:
    """Along every direction between two policies, by central differences."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, game.tree.states)
    here = random_policy(game, rng).smooth(0.3).within(DilatedEntropy(weights, gamma))
    there = random_policy(game, rng).smooth(0.3)
    way = there.plan - here.plan
    slope = (entropy(here, here.plan + 1e-6 * way) - entropy(here, here.plan - 1e-6 * way)) / 2e-6
    assert gradient(here) @ way == pytest.approx(slope, abs=1e-5 * (1 + abs(slope)))


@given(trees(), SEEDS, GAMMAS, st.floats(0.01, 10), st.floats(0, 10))
def test_a_step_is_optimal_among_all_policies(
    game: SequenceFormGame, seed: int, gamma: float, eta: float, alpha: float
) -> None:
    """First-order optimality on the treeplex, corners included: no direction gains."""
    rng = np.random.default_rng(seed)
    policy, q = some(game, rng, gamma), rng.normal(size=game.tree.sequences)
    magnet = some(game, rng, gamma).within(policy.geometry)
    stepped = policy.mirror_step(q, magnet, eta=eta, alpha=alpha)
    pull = eta * alpha
    ascent = eta * q + gradient(policy) + pull * gradient(magnet) - (1 + pull) * gradient(stepped)
    size = 1.0 + np.abs(ascent).max()
    for _ in range(5):
        other = some(game, rng, gamma)
        assert ascent @ (other.plan - stepped.plan) <= 1e-9 * size
    response = kernels.best_response(game.tree.parent, game.tree.offset, ascent)[0][:2].sum()
    assert response - ascent[2:] @ stepped.plan[2:] - ascent[:2].sum() <= 1e-9 * size


@given(trees(), SEEDS)
def test_without_smoothing_it_is_the_dilated_step(game: SequenceFormGame, seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy, magnet = random_policy(game, rng), random_policy(game, rng)
    q, tree = rng.normal(size=game.tree.sequences), game.tree
    log_p, plan = smoothed.smoothed_step(
        tree.parent, tree.offset, tree.block, policy.geometry.weights, 0.0, policy.coordinates,
        policy.plan, q, magnet.coordinates, 0.7, 0.3, 0, tree.states,
    )  # fmt: skip
    plain = policy.mirror_step(q, magnet, eta=0.7, alpha=0.3)
    np.testing.assert_allclose(log_p, plain.coordinates, atol=1e-10)
    np.testing.assert_allclose(plan, plain.plan, atol=1e-12)


@given(trees(), SEEDS, GAMMAS)
def test_one_player_after_the_other_is_both(
    game: SequenceFormGame, seed: int, gamma: float
) -> None:
    rng = np.random.default_rng(seed)
    policy, q = some(game, rng, gamma), rng.normal(size=game.tree.sequences)
    both = policy.mirror_step(q, None, eta=0.5, alpha=0.0)
    one = policy.mirror_step(q, None, eta=0.5, alpha=0.0, player=0)
    two = one.mirror_step(q, None, eta=0.5, alpha=0.0, player=1)
    np.testing.assert_array_equal(two.coordinates, both.coordinates)
    np.testing.assert_array_equal(two.plan, both.plan)
    theirs = game.tree.owner == 1
    np.testing.assert_array_equal(one.plan[theirs], policy.plan[theirs])


@given(trees(), SEEDS, GAMMAS)
def test_play_is_the_same_in_every_geometry(
    game: SequenceFormGame, seed: int, gamma: float
) -> None:
    policy = some(game, np.random.default_rng(seed), gamma)
    plain = policy.within(policy.geometry.plain)
    np.testing.assert_allclose(policy.probs, plain.probs, atol=1e-12)
    np.testing.assert_allclose(policy.plan, plain.plan, atol=1e-12)
    np.testing.assert_allclose(policy.at(policy.point).plan, policy.plan, atol=1e-12)
    np.testing.assert_allclose(policy.mix(policy, 0.3).plan, policy.plan, atol=1e-9)


@given(trees(), SEEDS, GAMMAS)
def test_regrets_are_matched_in_every_geometry(
    game: SequenceFormGame, seed: int, gamma: float
) -> None:
    rng = np.random.default_rng(seed)
    policy, q = some(game, rng, gamma), rng.normal(size=game.tree.sequences)
    plain, weights = policy.within(policy.geometry.plain), rng.normal(size=game.tree.sequences)
    np.testing.assert_allclose(policy.regrets(q), plain.regrets(q), atol=1e-9)
    for player in (None, 0, 1):
        matched = policy.matching(weights, player)
        assert matched.geometry is policy.geometry
        np.testing.assert_allclose(matched.plan, plain.matching(weights, player).plan, atol=1e-9)


@given(trees(), SEEDS, GAMMAS)
def test_a_smoothed_centre_is_the_minimum(game: SequenceFormGame, seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    policy = random_policy(game, rng).smooth(0.2)
    geometry = DilatedEntropy(rng.uniform(0.5, 2.0, game.tree.states), gamma)
    centre = TreeplexPolicy.center(game.tree, geometry)
    slope = gradient(centre) @ (policy.plan - centre.plan)
    assert slope >= -1e-9 * (1.0 + np.abs(gradient(centre)).max())


@pytest.mark.parametrize("gamma", [-0.1, 1.0, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="`gamma` must lie in"):
        DilatedEntropy(np.ones(3), gamma)


def test_a_batch_is_refused_where_it_is_smoothed() -> None:
    game = kuhn()
    policy = game.smoothed(game.initial_policy())[0]
    with pytest.raises(ValueError, match="one policy of a tree at a time"):
        policy.mirror_step(np.zeros((2, game.tree.sequences)), None, eta=1.0, alpha=0.0)


@given(trees(), SEEDS, GAMMAS)
def test_divergence_is_bregmans(game: SequenceFormGame, seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, game.tree.states)
    p, r = (
        random_policy(game, rng).smooth(0.2).within(DilatedEntropy(weights, gamma))
        for _ in range(2)
    )
    bregman = entropy(p, p.plan) - entropy(r, r.plan) - gradient(r) @ (p.plan - r.plan)
    assert p.divergence(r).sum() == pytest.approx(bregman, abs=1e-9)


@given(trees(), SEEDS, GAMMAS)
def test_norms_are_dual_where_steps_are_small(
    game: SequenceFormGame, seed: int, gamma: float
) -> None:
    """A small step along `q` is as long as `eta` times `q`."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, game.tree.states)
    policy = random_policy(game, rng).smooth(0.3).within(DilatedEntropy(weights, gamma))
    q = rng.normal(size=game.tree.sequences)
    moved = policy.mirror_step(q, None, eta=1e-5, alpha=0.0)
    assert moved.distance(policy) == pytest.approx(1e-5 * policy.dual_norm(q, policy), rel=1e-2)
    symmetrised = policy.divergence(moved).sum() + moved.divergence(policy).sum()
    assert moved.distance(policy) ** 2 == pytest.approx(symmetrised, rel=1e-2)


def states(game: Any, solver: Any, steps: int) -> list[Any]:
    return list(islice(mg.iterate(game, solver), steps + 1))


def test_payoffs_times_1024_are_the_same_iterates() -> None:
    game = kuhn()
    runs = (states(game.with_payoff(c * game.payoff), mg.AutoMPO(), 150) for c in (1.0, 1024.0))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a.policy.plan, b.policy.plan)


def test_payoffs_times_1000_are_the_same_iterates_but_for_rounding() -> None:
    game = kuhn()
    runs = (states(game.with_payoff(c * game.payoff), mg.AutoMPO(), 50) for c in (1.0, 1000.0))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a.policy.plan, b.policy.plan, atol=1e-8)


def test_the_bill_on_a_tree() -> None:
    """A step is an evaluation, and so is measuring the payoff at stake: at the start, and after
    every move of the magnet."""
    run = states(kuhn(), mg.AutoMPO(), 120)
    moves = 0
    for before, state in pairwise(run):
        measured = before.step == before.moved_at
        moves += measured
        listening = 2.0 * (before.step == 0)
        assert state.evaluations - before.evaluations == 1.0 + measured + listening
    assert moves >= 3


def test_weights_follow_play() -> None:
    game = kuhn()
    for state in states(game, mg.AutoMPO(), 60)[1:]:
        if state.step - state.moved_at == 1:
            expected = dilation.payoff_scaled(game, state.magnet)
            np.testing.assert_allclose(state.policy.geometry.weights, expected, rtol=1e-12)


def test_a_run_on_a_tree_is_resumed_bit_for_bit(tmp_path: Any) -> None:
    game = kuhn()
    whole = mg.solve(game, mg.AutoMPO(), 300)
    mg.solve(game, mg.AutoMPO(), 90).save(tmp_path / "run")
    rest = mg.solve(game, mg.AutoMPO(), 300, resume=mg.Solution.load(tmp_path / "run", game))
    np.testing.assert_array_equal(whole.policy.coordinates, rest.policy.coordinates)


def judged(name: str, budget: float) -> list[float]:
    """Exploitability of the last iterate, by OpenSpiel."""
    exploitability = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    from mpo_games.games import openspiel

    game = mg.load(name)
    found = mg.solve(game, mg.AutoMPO(), budget)
    source = openspiel.turn_based(name)
    policy = openspiel.to_openspiel(source, game, found.policy)
    return [exploitability.exploitability(source, policy), found.gap / 2.0]


@pytest.mark.parametrize(
    "name", ["kuhn_poker", "dark_hex(num_rows=2,num_cols=2)", "liars_dice(dice_sides=4)"]
)
def test_small_trees_are_solved_within_1000_evaluations(name: str) -> None:
    theirs, ours = judged(name, 1000)
    assert theirs <= 1e-13
    assert theirs == pytest.approx(ours, abs=1e-13)


@pytest.mark.parametrize("name", ["kuhn_poker", "dark_hex(num_rows=2,num_cols=2)"])
def test_what_is_reached_is_kept(name: str) -> None:
    pytest.importorskip("pyspiel")
    trace = mg.solve(mg.load(name), mg.AutoMPO(), 10_000).trace
    assert trace["gap"][trace["evaluations"] > 500].max() < 1e-13


@pytest.mark.slow
def test_leduc() -> None:
    pytest.importorskip("pyspiel")
    trace = mg.solve(mg.load("leduc_poker"), mg.AutoMPO(), 5000, at=[1000, 5000]).trace
    assert trace["gap"][0] / 2 <= 1e-3
    assert trace["gap"][-1] / 2 <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["liars_dice(dice_sides=5)", "goofspiel(num_cards=5,imp_info=True,points_order=descending)"],
)
def test_larger_trees(name: str) -> None:
    pytest.importorskip("pyspiel")
    trace = mg.solve(mg.load(name), mg.AutoMPO(), 5000, at=[2000, 5000]).trace
    assert trace["gap"][0] / 2 <= 1e-6
    assert trace["gap"][-1] / 2 <= 1e-10
