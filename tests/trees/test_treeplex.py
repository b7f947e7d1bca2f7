"""Policies on trees: tables, batches, mixtures, vanishing reach, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dilated import SEEDS, WEIGHINGS, close
from hypothesis import given
from hypothesis import strategies as st
from reference import kuhn, matrix_tree, random_policy, random_tree, trees

import mpo_games as mg
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies import dilation
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy

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


def test_best_responses_keep_the_other_actions_in_reach() -> None:
    game, rng = kuhn(), np.random.default_rng(0)
    policy = random_policy(game, rng)
    response = game.best_response(policy)
    assert np.isfinite(response.coordinates).all()
    assert np.isin(response.probs, [0.0, 1.0]).all()
    assert close(np.add.reduceat(response.probs, game.tree.offset[:-1]), 1.0)
    q = game.feedback(policy)
    assert close(q @ (response.plan - policy.plan), game.duality_gap(policy))


def test_zeros_can_come_back() -> None:
    game: SequenceFormGame = kuhn()
    tree: Tree = game.tree
    probs = np.ones(tree.sequences)
    probs[2::2], probs[3::2] = 0.0, 1.0
    policy = TreeplexPolicy.from_probs(tree, game.geometry, probs)
    assert np.array_equal(policy.probs, probs)
    run = mg.solve(game, mg.MMD(0.5, 0.1), 2000, policy=policy, magnet=game.center())
    assert game.regularised_gap(run.policy, game.center(), 0.1) < 1e-12


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


def test_a_policy_lacking_an_array_is_not_restored() -> None:
    """The game's own array in its place would be another policy."""
    policy = mg.load("kuhn_poker").initial_policy()
    for name in ("plan", "coordinates", "weights"):
        arrays = {key: array for key, array in policy.arrays().items() if key != name}
        with pytest.raises(ValueError, match=name):
            policy.restored(arrays)
