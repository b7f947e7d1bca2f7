"""The dilated step against its definition, its optimality conditions and its theorem; weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import reference
from dilated import SEEDS, WEIGHINGS, WEIGHTS, close, push
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import kuhn, own_actions, random_policy, random_tree, trees
from scipy.optimize import minimize

import mpo_games as mg
from mpo_games import exact
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies import dilation

# Definitions


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
