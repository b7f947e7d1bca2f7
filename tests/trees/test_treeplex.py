"""Kernels against plain NumPy; the dilated step against its definition, its theorem and tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import kuhn, matrix_tree, own_actions, random_policy, random_tree, trees
from scipy.optimize import minimize

import mpo_games as mg
from mpo_games import exact
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.kernels import trees as kernels
from mpo_games.policies import dilation
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy

SEEDS = st.integers(0, 2**32 - 1)
WEIGHTS = (dilation.unit, dilation.kroer, dilation.farina, dilation.payoff_scaled)
WEIGHINGS = st.sampled_from(WEIGHTS)


def close(a: Any, b: Any, tol: float = 1e-12) -> bool:
    return np.allclose(a, b, rtol=tol, atol=tol)


def push(game: SequenceFormGame, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.normal(size=game.tree.sequences))


# The kernels and the definitions


@given(trees(), SEEDS)
def test_plans_feedback_and_responses(game: SequenceFormGame, seed: int) -> None:
    rng, tree = np.random.default_rng(seed), game.tree
    policy = random_policy(game, rng)
    assert close(policy.plan, reference.plan(tree, policy.probs))
    q = game.feedback(policy)
    assert close(q, reference.feedback(game, policy.plan))
    assert close(
        kernels.action_values(tree.parent, tree.offset, policy.probs, q),
        reference.mean_values(tree, policy.probs, q),
    )
    best = reference.best_values(tree, q)
    assert close(kernels.best_response(tree.parent, tree.offset, q)[0], best)
    assert close(game.duality_gap(policy), best[0] + best[1])
    assert close(game.value(policy), policy.plan @ reference.dense(game) @ policy.plan)
    everything = replace(game, payoff=game.chance)
    assert close(everything.value(policy), 1.0)


@given(trees())
def test_blocks(game: SequenceFormGame) -> None:
    """Blocks cut the states into runs of one size without parents in their own run."""
    tree, size = game.tree, np.diff(game.tree.offset)
    assert tree.block[-1] == tree.states
    assert (np.diff(tree.block) > 0).all()
    for low, high in pairwise(tree.block):
        assert np.ptp(size[low:high]) == 0
        assert (tree.parent[low:high] < tree.offset[low]).all()


@given(trees(), SEEDS, st.sampled_from([None, 0, 1]))
def test_regrets_and_matching(game: SequenceFormGame, seed: int, player: int | None) -> None:
    rng, tree = np.random.default_rng(seed), game.tree
    policy, q = random_policy(game, rng), push(game, rng)
    mine = np.ones(tree.sequences) if player is None else policy.owned(player)
    values = reference.mean_values(tree, policy.probs, q)
    centred = reference.centred(tree, policy.probs, values)
    assert close(policy.centred(values), centred)
    assert close(policy.regrets(q, player), mine * centred)
    weights = push(game, rng) - 0.5
    matched = policy.matching(weights, player)
    probs = np.where(mine, reference.proportional(tree, weights), policy.probs)
    assert close(matched.probs, probs)
    assert close(matched.plan, reference.plan(tree, probs))


@given(trees(), SEEDS)
def test_a_plan_and_back(game: SequenceFormGame, seed: int) -> None:
    """Where it never comes, the plan's policy plays like the other one."""
    rng = np.random.default_rng(seed)
    policy, spare = random_policy(game, rng), random_policy(game, rng)
    assert close(spare.at(policy.plan).probs, policy.probs, 1e-10)
    pure = game.best_response(policy)
    back = spare.at(pure.plan)
    state, reached = game.tree.state_of[2:], pure.plan[game.tree.parent] > 0
    assert close(back.probs[2:], np.where(reached[state], pure.probs[2:], spare.probs[2:]))
    assert close(back.plan, pure.plan)


def test_nan_is_seen() -> None:
    game = kuhn()
    policy = game.initial_policy()
    broken = np.full(game.tree.sequences, np.nan)
    assert np.isnan(policy.mirror_step(broken, None, eta=1.0, alpha=0.0).coordinates[2:]).all()
    assert np.isnan(policy.matching(broken).coordinates[2:]).all()
    assert np.isnan(policy.at(broken).coordinates[2:]).all()
    assert np.isnan(policy.regrets(broken)[2:]).all()


@given(trees(), WEIGHINGS, SEEDS, st.floats(0.01, 10), st.floats(0, 10))
def test_the_step(
    game: SequenceFormGame, weighing: Any, seed: int, eta: float, alpha: float
) -> None:
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    start, magnet, q = random_policy(game, rng), random_policy(game, rng), push(game, rng)
    q *= game.weights.max(initial=1.0)
    step = start.mirror_step(q, magnet, eta=eta, alpha=alpha)
    probs = reference.mirror_step(game.tree, game.weights, start.plan, q, magnet.plan, eta, alpha)
    assert close(step.probs, probs, 1e-10)
    assert close(step.plan, reference.plan(game.tree, probs), 1e-10)
    assert close(step.replace(step.coordinates).plan, step.plan)


@given(trees(), WEIGHINGS, SEEDS)
def test_divergence_and_centre(game: SequenceFormGame, weighing: Any, seed: int) -> None:
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    tree, w = game.tree, game.weights
    one, other = random_policy(game, rng), random_policy(game, rng)
    assert close(
        one.divergence(other).sum(), reference.bregman(tree, w, one.plan, other.plan), 1e-10
    )
    assert close(game.divergence(one, other), one.divergence(other).sum())
    assert close(one.divergence(one), 0.0)
    centre = game.center()
    assert close(centre.probs, reference.maximiser(tree, w, np.zeros(tree.sequences))[0])
    least = reference.dilated_entropy(tree, w, centre.plan)
    above = reference.dilated_entropy(tree, w, one.plan) - least
    assert close(game.divergence(one, centre), above, 1e-10)


@given(trees(), WEIGHINGS, SEEDS, st.floats(0.05, 10))
def test_the_regularised_gap_is_what_regularised_responses_gain(
    game: SequenceFormGame, weighing: Any, seed: int, alpha: float
) -> None:
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    tree, w = game.tree, game.weights
    policy, magnet = random_policy(game, rng), random_policy(game, rng)
    q = game.feedback(policy)
    pull = reference.dilated_gradient(tree, w, magnet.plan)
    probs, _ = reference.maximiser(tree, w, q / alpha + pull)
    response = reference.plan(tree, probs)

    def worth(z: np.ndarray) -> float:
        return float(q @ z - alpha * reference.bregman(tree, w, z, magnet.plan))

    gain = worth(response) - worth(policy.plan)
    assert close(game.regularised_gap(policy, magnet, alpha), gain, 1e-9 * (1 + alpha * w.sum()))


# First-order optimality


@given(trees(), WEIGHINGS, SEEDS, st.floats(0.05, 5), st.floats(0, 5))
def test_no_feasible_direction_improves_a_step(
    game: SequenceFormGame, weighing: Any, seed: int, eta: float, alpha: float
) -> None:
    """The objective is concave, so this is optimality: its gradient is a sum of constraints'."""
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    tree, w = game.tree, game.weights
    start, magnet, q = random_policy(game, rng), random_policy(game, rng), push(game, rng)
    z = start.mirror_step(q, magnet, eta=eta, alpha=alpha)
    at = [reference.dilated_gradient(tree, w, p.plan) for p in (z, start, magnet)]
    gradient = eta * q - eta * alpha * (at[0] - at[2]) - (at[0] - at[1])
    flow = np.zeros((tree.states + 2, tree.sequences))
    flow[-2, 0] = flow[-1, 1] = 1.0
    for j in range(tree.states):
        flow[j, own_actions(tree, j)] = 1.0
        flow[j, tree.parent[j]] -= 1.0
    multipliers = np.linalg.lstsq(flow.T, gradient, rcond=None)[0]
    assert np.abs(flow.T @ multipliers - gradient).max() < 1e-9 * np.abs(gradient).max(initial=1.0)


@pytest.mark.parametrize("weighing", WEIGHTS)
def test_a_minimiser_that_knows_nothing_of_trees_finds_the_step(weighing: Any) -> None:
    game, rng = random_tree(2, 4).with_dilation(weighing), np.random.default_rng(0)
    tree, w, eta, alpha = game.tree, game.weights, 0.7, 0.4
    assert tree.states == 8
    start, magnet, q = random_policy(game, rng), random_policy(game, rng), push(game, rng)

    def behaviour(logits: np.ndarray) -> np.ndarray:
        probs = np.ones(tree.sequences)
        for j in range(tree.states):
            e = np.exp(logits[own_actions(tree, j)] - logits[own_actions(tree, j)].max())
            probs[own_actions(tree, j)] = e / e.sum()
        return probs

    def cost(logits: np.ndarray) -> float:
        z = reference.plan(tree, behaviour(logits))
        far = reference.bregman(tree, w, z, start.plan)
        pulled = reference.bregman(tree, w, z, magnet.plan)
        return float(-eta * q @ z + eta * alpha * pulled + far)

    step = start.mirror_step(q, magnet, eta=eta, alpha=alpha)
    found = minimize(cost, np.zeros(tree.sequences), options={"gtol": 1e-9})
    assert cost(step.coordinates) <= found.fun + 1e-12
    assert close(reference.plan(tree, behaviour(found.x)), step.plan, 1e-5)


# The theorem


def shrinkage(game: SequenceFormGame, eta: float, alpha: float, steps: int) -> list[float]:
    """Ratios of successive divergences from the regularised equilibrium."""
    centre = game.center()
    end = exact.qre(game, alpha, centre).policy
    states = mg.iterate(game, mg.MMD(eta, alpha), magnet=centre)
    far = [float(game.divergence(end, next(states).policy)) for _ in range(steps)]
    return [b / a for a, b in pairwise(far) if a > 1e-12]


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_every_step_on_kuhn_shrinks_the_divergence_as_the_theorem_says(alpha: float) -> None:
    game = kuhn()
    eta = alpha / float(game.bound) ** 2
    ratios = shrinkage(game, eta, alpha, 200)
    assert max(ratios) <= (1 + 1e-9) / (1 + eta * alpha)


@given(trees(), st.sampled_from([dilation.unit, dilation.kroer]), st.floats(0.05, 2))
@settings(max_examples=40)
def test_every_step_shrinks_the_divergence_as_the_theorem_says(
    game: SequenceFormGame, weighing: Any, alpha: float
) -> None:
    """With Kroer's weights the entropy is 1-strongly convex: the bound needs the spectral norm."""
    assume(game.tree.states)
    game = game.with_dilation(weighing)
    size = game.bound if weighing is dilation.unit else np.linalg.norm(reference.dense(game), 2)
    eta = alpha / max(float(size) ** 2, 1e-6)
    ratios = shrinkage(game, eta, alpha, 60)
    assert max(ratios, default=0.0) <= (1 + 1e-7) / (1 + eta * alpha)


# Tables, loops and other ways to say the same


@given(st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_one_state_a_player_is_a_matrix_game(n: int, m: int, seed: int) -> None:
    payoff = np.random.default_rng(seed).normal(size=(n, m))
    flat, tree = mg.MatrixGame(payoff), matrix_tree(payoff)
    for solver in (
        mg.MMD(0.3, 0.2),
        mg.OptimisticMPO(0.5, 0.1, 7),
        mg.MPO_RT(0.3, 0.1, 5),
        mg.Extragradient(0.4),
        mg.MMD(0.3, 0.1, mg.Ema(0.1), feedback=mg.popov),
        mg.MMD(0.3, 0.1, mg.Every(5, floor=0.01), feedback=mg.alternating),
        mg.NashMD(0.3, 0.2),
        mg.EGPO(0.3, 0.2),
    ):
        a, b = (mg.solve(game, solver, 30, at=[30]) for game in (flat, tree))
        wanted = np.concatenate([a.policy.probs[0, :n], a.policy.probs[1, :m]])
        assert close(b.policy.probs[2:], wanted, 1e-11)
        assert close(a.gap, b.gap, 1e-11)
        pair = a.state.magnet, b.state.magnet
        assert close(flat.divergence(a.policy, pair[0]), tree.divergence(b.policy, pair[1]), 1e-11)


@given(trees(), WEIGHINGS, SEEDS)
def test_a_batch_is_a_loop(game: SequenceFormGame, weighing: Any, seed: int) -> None:
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    shape = (2, 3)
    many = [[random_policy(game, rng) for _ in range(3)] for _ in range(2)]
    batch = many[0][0].replace(np.array([[p.coordinates for p in row] for row in many]))
    magnet, q = random_policy(game, rng), game.feedback(batch)
    etas, alphas = rng.uniform(0.1, 1, size=shape), rng.uniform(0, 1, size=shape)
    step = batch.mirror_step(q, magnet, eta=etas, alpha=alphas)
    one_sided = batch.mirror_step(q, magnet, eta=etas, alpha=0.5, player=1)
    penalised = batch.penalise(q, magnet, alpha=alphas)
    mixture = mg.Mixture((batch, step), (0.25, 0.75))
    for i in np.ndindex(shape):
        p, eta, alpha = many[i[0]][i[1]], etas[i], alphas[i]
        single = game.feedback(p)
        assert np.array_equal(q[i], single)
        alone = p.mirror_step(single, magnet, eta=eta, alpha=alpha)
        assert np.array_equal(step.coordinates[i], alone.coordinates)
        assert np.array_equal(step.plan[i], alone.plan)
        sided = p.mirror_step(single, magnet, eta=eta, alpha=0.5, player=1)
        assert np.array_equal(one_sided.coordinates[i], sided.coordinates)
        assert np.array_equal(one_sided.plan[i], sided.plan)
        assert np.array_equal(penalised[i], p.penalise(single, magnet, alpha=alpha))
        assert game.duality_gap(batch)[i] == game.duality_gap(p)
        assert close(game.value(batch)[i], game.value(p))
        assert close(
            game.regularised_gap(batch, magnet, 0.3)[i], game.regularised_gap(p, magnet, 0.3)
        )
        assert np.array_equal(batch.divergence(magnet)[i], p.divergence(magnet))
        assert np.array_equal(batch.smooth(0.1).coordinates[i], p.smooth(0.1).coordinates)
        assert np.array_equal(batch.mix(magnet, 0.3).plan[i], p.mix(magnet, 0.3).plan)
        response = game.best_response(batch).coordinates[i]
        assert np.array_equal(response, game.best_response(p).coordinates)
        pair = mg.Mixture((p, alone), mixture.weights)
        assert np.array_equal(game.average(mixture).plan[i], game.average(pair).plan)
        assert np.array_equal(batch.regrets(q)[i], p.regrets(single))
        assert np.array_equal(batch.centred(q)[i], p.centred(single))
        assert np.array_equal(batch.matching(q, 1).plan[i], p.matching(single, 1).plan)


@given(trees(), WEIGHINGS, SEEDS, st.floats(0.05, 0.9), st.floats(0.05, 1))
def test_the_penalty_in_the_feedback_is_the_pull_at_a_longer_step(
    game: SequenceFormGame, weighing: Any, seed: int, eta: float, alpha: float
) -> None:
    game, rng = game.with_dilation(weighing), np.random.default_rng(seed)
    policy, magnet = random_policy(game, rng), random_policy(game, rng)
    q = game.feedback(policy)
    penalised = policy.penalise(q, magnet, alpha=alpha)
    there = policy.mirror_step(penalised, None, eta=eta, alpha=0.0)
    here = policy.mirror_step(q, magnet, eta=eta / (1 - eta * alpha), alpha=alpha)
    assert close(there.probs, here.probs, 1e-11)


@given(trees(), SEEDS, st.floats(0, 1))
def test_a_mixture_lies_between(game: SequenceFormGame, seed: int, weight: float) -> None:
    """`mix` is the step without feedback: pulled by `other` at `eta alpha = w / (1 - w)`."""
    rng = np.random.default_rng(seed)
    one, other = random_policy(game, rng), random_policy(game, rng)
    mixed = one.mix(other, weight)
    assert close(one.mix(other, 0.0).probs, one.probs)
    assert close(one.mix(other, 1.0).probs, other.probs)
    if weight < 0.99:
        zero = np.zeros(game.tree.sequences)
        pulled = one.mirror_step(zero, other, eta=1.0, alpha=weight / (1 - weight))
        assert close(mixed.probs, pulled.probs, 1e-10)


@given(trees(), SEEDS, st.floats(0.05, 0.95))
def test_an_average_plays_like_its_mixture(game: SequenceFormGame, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    one, other, third = (random_policy(game, rng) for _ in range(3))
    mixture = mg.Mixture((one, other), (1 - share, share))
    average = game.average(mixture)
    assert close(average.plan, (1 - share) * one.plan + share * other.plan)
    assert close(game.feedback(third, mixture), game.feedback(third, average))
    signed = mg.Mixture((one, other), (2.0, -1.0))
    parts = 2 * game.feedback(one) - game.feedback(other)
    assert close(game.feedback(third, signed), parts)


@given(trees(), SEEDS, st.sampled_from([0, 1]))
def test_one_player_alone(game: SequenceFormGame, seed: int, player: int) -> None:
    rng = np.random.default_rng(seed)
    policy, mine = random_policy(game, rng), game.tree.owner == player
    q, alone = game.feedback(policy), game.feedback(policy, player=player)
    assert np.array_equal(alone, np.where(mine, q, 0.0))
    both = policy.mirror_step(q, None, eta=0.5, alpha=0.0)
    one = policy.mirror_step(alone, None, eta=0.5, alpha=0.0, player=player)
    assert np.array_equal(one.plan, np.where(mine, both.plan, policy.plan))
    assert np.array_equal(one.coordinates, np.where(mine, both.coordinates, policy.coordinates))


# Extremes


def test_vanishing_reach() -> None:
    """A policy that a step cannot undo in floats comes back all the same, exactly."""
    game = kuhn()
    away = game.initial_policy().coordinates.copy()
    away[2::2] = -1e6
    away[3::2] = 0.0
    policy = game.initial_policy().replace(away)
    assert (policy.plan >= 0).all()
    step = policy.mirror_step(game.feedback(policy), None, eta=1.0, alpha=0.0)
    assert np.isfinite(step.coordinates).all()
    assert step.coordinates[2::2].max() < -9e5
    back = policy.mirror_step(np.zeros(game.tree.sequences), game.center(), eta=1.0, alpha=1e9)
    assert close(back.probs, game.center().probs, 1e-2)
    for number in (
        game.duality_gap(policy),
        game.regularised_gap(policy, game.center(), 0.1),
        game.divergence(policy, game.center()),
        game.divergence(game.center(), policy),
    ):
        assert np.isfinite(number)
        assert number >= 0
    assert game.divergence(policy, policy) == 0.0
    average = game.average(mg.Mixture((policy, policy), (0.5, 0.5)))
    assert close(average.plan, policy.plan)
    # Feedback that lifts the one action of each state by as much leaves the centre.
    q = np.zeros(game.tree.sequences)
    q[2::2] = 1e6
    assert close(
        policy.mirror_step(q, None, eta=1.0, alpha=0.0).coordinates, game.center().coordinates, 1e-9
    )


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


def test_best_responses_keep_the_other_actions_in_reach() -> None:
    game, rng = kuhn(), np.random.default_rng(0)
    policy = random_policy(game, rng)
    response = game.best_response(policy)
    assert np.isfinite(response.coordinates).all()
    assert np.isin(response.probs, [0.0, 1.0]).all()
    assert close(np.add.reduceat(response.probs, game.tree.offset[:-1]), 1.0)
    q = game.feedback(policy)
    assert close(q @ (response.plan - policy.plan), game.duality_gap(policy))


# Weights


@given(trees())
def test_weights_are_as_documented(game: SequenceFormGame) -> None:
    tree = game.tree

    def recurrence(base: float) -> np.ndarray:
        weights = np.zeros(tree.states)
        for j in reversed(range(tree.states)):
            actions = range(tree.offset[j], tree.offset[j + 1])
            sums = [sum(weights[i] for i in reference.below(tree, a)) for a in actions]
            weights[j] = base + base * max(sums)
        return weights

    assert np.array_equal(dilation.unit(game), np.ones(tree.states))
    assert close(dilation.kroer(game), recurrence(2.0))
    assert close(dilation.farina(game), recurrence(1.0))
    for weighing in WEIGHTS:
        assert (game.with_dilation(weighing).weights > 0).all()


@given(trees(), SEEDS)
def test_payoff_scaled_weights_are_as_documented(game: SequenceFormGame, seed: int) -> None:
    tree, policy = game.tree, random_policy(game, np.random.default_rng(seed))
    uniform = game.uniform().probs
    for probs, given_policy in ((uniform, None), (0.8 * policy.probs + 0.2 * uniform, policy)):
        z = reference.plan(tree, probs)
        matrix = np.abs(reference.dense(game))
        stakes = reference.best_values(tree, matrix @ z + matrix.T @ z)
        wanted = [stakes[own_actions(tree, j)].max() for j in range(tree.states)]
        weights = dilation.payoff_scaled(game, given_policy)
        assert close(weights, np.maximum(wanted, 1e-6 * stakes[:2].mean()))


# The solvers, unchanged


KUHN_RUNS = {
    "MPO": mg.MPO(1.0, 0.05, 100),
    "MPO_RT": mg.MPO_RT(1.0 / 1.05, 0.05, 100),
    "OptimisticMPO": mg.OptimisticMPO(1.0, 0.05, 100),
    "extragradient": mg.MMD(1.0, 0.05, mg.Every(50), feedback=mg.half_step),
    "popov": mg.MMD(1.0, 0.05, mg.Every(100), feedback=mg.popov),
    "alternating": mg.MMD(1.0, 0.05, mg.Every(100), feedback=mg.alternating),
    "settled": mg.MMD(1.0, 0.05, mg.WhenInnerSolved(0.1)),
    "Ema": mg.MMD(1.0, 0.1, mg.Ema(0.05)),
    "OMWU": mg.OptimisticMD(1.0),
    "Extragradient": mg.Extragradient(2.0),
}
"""Every one of them is at a Nash equilibrium in its last iterate, at the floor of floats."""


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
    assert game.duality_gap(run.policy) > 20 * game.duality_gap(average)
    plain = mg.solve(game, mg.MirrorDescent(0.2), 8192)
    assert np.array_equal(plain.policy.coordinates, run.policy.coordinates)


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
        assert np.array_equal(state.policy.coordinates, whole.policy.coordinates)
        assert np.array_equal(state.policy.plan, whole.policy.plan)
        assert np.array_equal(state.magnet.coordinates, whole.state.magnet.coordinates)
        assert (state.step, state.evaluations) == (whole.state.step, whole.state.evaluations)
        assert np.array_equal(state.policy.geometry.weights, whole.policy.geometry.weights)
    with pytest.raises(ValueError, match="not a saved solution of this game"):
        mg.Solution.load(tmp_path / "half.npz", random_tree(0))


def test_what_is_stored_comes_back() -> None:
    game, rng = kuhn().with_dilation(dilation.kroer), np.random.default_rng(0)
    plain = random_policy(game, rng)
    batch = plain.replace(np.stack([plain.coordinates, game.center().coordinates]))
    for policy, kind in (
        (plain, "TreeplexPolicy()"),
        (batch, "TreeplexPolicy()"),
        (game.smoothed(plain)[0], "TreeplexPolicy(gamma=0.1)"),
    ):
        assert policy.kind == kind
        start = game.initial_policy().within(policy.geometry)
        back = start.restored(policy.arrays())
        assert back.kind == kind
        assert all(np.array_equal(back.arrays()[n], a) for n, a in policy.arrays().items())
    with pytest.raises(ValueError, match=r"`weights` has shape \(.*, the game's \(12,\)"):
        plain.restored(random_tree(0).initial_policy().arrays())


# Refusals


@pytest.mark.parametrize(
    ("probs", "word"),
    [
        ([1.0, 1.0, 0.5], "`probs` must be"),
        (np.full(26, np.nan), "finite"),
        (np.full(26, -0.5), "non-negative"),
        (np.full(26, 0.6), "sum to 1"),
    ],
)
def test_what_is_no_policy_is_refused(probs: Any, word: str) -> None:
    game = kuhn()
    with pytest.raises(ValueError, match=word):
        TreeplexPolicy.from_probs(game.tree, game.geometry, probs)


def test_wrong_settings_are_refused() -> None:
    game = kuhn()
    policy = game.initial_policy()
    with pytest.raises(ValueError, match="`weight`"):
        policy.mix(policy, 1.5)
    with pytest.raises(ValueError, match="`magnet`"):
        policy.mirror_step(game.feedback(policy), None, eta=1.0, alpha=0.5)
    with pytest.raises(ValueError, match="`alpha`"):
        game.regularised_gap(policy, policy, -1.0)
    with pytest.raises(ValueError, match="`alpha`"):
        game.regularised_gap(policy, policy, float("nan"))


def test_zeros_can_come_back() -> None:
    game: SequenceFormGame = kuhn()
    tree: Tree = game.tree
    probs = np.ones(tree.sequences)
    probs[2::2], probs[3::2] = 0.0, 1.0
    policy = TreeplexPolicy.from_probs(tree, game.geometry, probs)
    assert np.array_equal(policy.probs, probs)
    run = mg.solve(game, mg.MMD(0.5, 0.1), 2000, policy=policy, magnet=game.center())
    assert game.regularised_gap(run.policy, game.center(), 0.1) < 1e-12
