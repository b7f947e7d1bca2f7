"""The compiled kernels of trees against plain NumPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import reference
from dilated import SEEDS, close, push
from hypothesis import given
from hypothesis import strategies as st
from reference import kuhn, random_policy, trees

from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.kernels import trees as kernels


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
