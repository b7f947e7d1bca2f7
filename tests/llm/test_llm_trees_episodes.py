"""Sampled self-play on trees: what the episodes tell, in expectation and in the limit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Mixture
from mpo_llm.step.minimisers import Adam, constant
from mpo_llm.trees import (
    Fit,
    Log,
    Pooled,
    TextTreeGame,
    balanced,
    compact,
    counted_deals,
    own_ratios,
)
from mpo_llm.trees.episodes import estimated, rows_of
from spoken import game, network

QUICK = Fit(Adam(2, 3e-3, constant, keep_first=True))


def uneven(tree: SequenceFormGame, seed: int) -> TreeplexPolicy:
    """Some policy that gives up no action."""
    weights = np.random.default_rng(seed).uniform(0.2, 1.0, tree.tree.sequences)
    policy = tree.initial_policy().matching(weights)
    assert policy.probs[2:].min() > 0.05
    return policy


def moves(tree: SequenceFormGame, policy: TreeplexPolicy) -> Array:
    """The probability of both players' moves to each ending."""
    return policy.plan[rows_of(tree)] * policy.plan[tree.column]


def one(tree: SequenceFormGame, policy: TreeplexPolicy, end: int) -> Log:
    """The log of one episode."""
    m, there = moves(tree, policy), np.zeros(tree.payoff.size)
    there[end] = 1.0
    return Log(there, m, there / m)


def test_own_ratios_are_unbiased_whoever_played() -> None:
    tree = mg.load("kuhn_poker")
    policy = uneven(tree, 1)
    chances = tree.chance * moves(tree, policy)
    mean = sum(p * own_ratios(tree, one(tree, policy, e)) for e, p in enumerate(chances))
    np.testing.assert_allclose(mean, tree.chance, rtol=1e-12)
    # One over the probability of the moves may be large; the truth is met in the mean alone.
    assert max(own_ratios(tree, one(tree, policy, e)).max() for e in range(30)) > 2.0


def test_balanced_is_unbiased_for_policies_that_were_fixed_before() -> None:
    tree = mg.load("kuhn_poker")
    first, second = uneven(tree, 1), uneven(tree, 2)
    a, b = (tree.chance * moves(tree, policy) for policy in (first, second))
    mean, square, own = (np.zeros(tree.payoff.size) for _ in range(3))
    for i, j in product(range(30), repeat=2):
        log = one(tree, first, i).joined(one(tree, second, j))
        found = balanced(tree, log)
        mean += a[i] * b[j] * found
        square += a[i] * b[j] * found**2
        own += a[i] * b[j] * own_ratios(tree, log) ** 2
    np.testing.assert_allclose(mean, tree.chance, rtol=1e-12)
    # The balance heuristic never has more variance than each episode's own ratio.
    assert (square <= own + 1e-15).all()
    assert (square < 0.999 * own).any()


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker", "liars_dice(dice_sides=3)"])
@pytest.mark.parametrize("estimate", [own_ratios, balanced, counted_deals])
def test_in_the_limit_all_estimates_are_the_tree(name: str, estimate: Any) -> None:
    tree = mg.load(name)
    policy, many = uneven(tree, 3), 1e6
    m = moves(tree, policy)
    log = Log(many * tree.chance * m, many * m, many * tree.chance)
    np.testing.assert_allclose(estimate(tree, log), tree.chance, rtol=1e-9)
    other = uneven(tree, 4)
    np.testing.assert_allclose(
        estimated(tree, log, estimate).feedback(other), tree.feedback(other), atol=1e-9
    )


def test_deals_are_counted_over_all_plays() -> None:
    """What chance dealt is counted, and not how play went on."""
    tree = mg.load("kuhn_poker")
    log = Log.drawn(tree, uneven(tree, 1), 60, np.random.default_rng(0))
    found, seen = counted_deals(tree, log), log.seen > 0.0
    assert (found[~seen] == 0.0).all()
    # Endings of the same deal have the same estimate, a share of 60 episodes, whatever was bet.
    cards = [
        (tree.tree.labels[tree.tree.state_of[r]][0], tree.tree.labels[tree.tree.state_of[c]][0])
        for r, c in zip(rows_of(tree), tree.column, strict=True)
    ]
    for deal in set(cards):
        own = np.array([card == deal for card in cards])
        share = log.seen[own].sum() / 60.0
        np.testing.assert_allclose(found[own & seen], share, rtol=1e-12)


def test_chance_that_looks_at_the_moves_has_no_deals() -> None:
    tree = mg.load("kuhn_poker")
    # Bets make some cards likelier: still a tree, whose chance adds up for no policy in general.
    bent = replace(tree, chance=tree.chance * np.where(np.arange(30) % 5 == 0, 1.5, 0.875))
    bent = replace(bent, payoff=tree.payoff / tree.chance * bent.chance)
    with pytest.raises(ValueError, match="use `balanced`"):
        counted_deals(bent, Log.empty(bent))


def test_episodes_are_drawn_as_they_are_likely() -> None:
    tree = mg.load("leduc_poker")
    policy, many = uneven(tree, 5), 20_000
    log = Log.drawn(tree, policy, many, np.random.default_rng(0))
    p = tree.chance * moves(tree, policy)
    assert log.episodes == many
    np.testing.assert_allclose(log.expected * tree.chance, many * p, rtol=1e-12)
    apart = (log.seen - many * p) / np.sqrt(many * p * (1.0 - p) + 1e-300)
    assert np.mean(apart**2) == pytest.approx(1.0, abs=0.1)


def sampled(**options: Any) -> TextTreeGame:
    tree = mg.load("kuhn_poker")
    words = compact(tree)
    start = ml.TokenPolicy.of(network(words), words.decoding)
    return TextTreeGame(tree, start, words.describe, words.say, 32, fit=QUICK, **options)


def test_a_pool_of_episodes_is_kept_and_saved(tmp_path: Path) -> None:
    played = sampled(explore=0.3)
    whole = mg.solve(played, mg.AutoMPO(), 9)
    half = mg.solve(played, mg.AutoMPO(), 5)
    log = Log.remembered(half.state.memory)
    assert log is not None
    assert log.episodes == 32 * half.state.step
    half.save(tmp_path / "half")
    read = mg.Solution.load(tmp_path / "half", played)
    ended = mg.solve(played, mg.AutoMPO(), 9, resume=read)
    np.testing.assert_array_equal(ended.policy.probs, whole.policy.probs)


def test_feedback_of_a_step_alone_is_that_of_its_episodes() -> None:
    played = sampled(explore=0.3, estimate=own_ratios)
    policy = played.initial_policy()
    q = played.feedback(policy, rng=np.random.default_rng(1))
    log = played.play(policy, np.random.default_rng(1))
    np.testing.assert_array_equal(q, played.learned(log, policy))
    np.testing.assert_allclose(log.expected, 32 * moves(played.tree, policy.play.smooth(0.3)))
    # Linear in the opponent, as all feedback is.
    other = replace(policy, play=played.tree.initial_policy())
    both = played.learned(log, Mixture((policy, other), (2.0, -1.0)))
    apart = 2.0 * q - played.learned(log, other)
    np.testing.assert_allclose(both, apart, atol=1e-12)
    for solver in (mg.MMD(0.3, 0.1), mg.OptimisticMPO(0.3, 0.1, 3)):
        assert np.isfinite(mg.solve(played, solver, 3).best_gap)


def test_bad_input_of_sampled_play_is_a_sentence() -> None:
    exact = game()
    policy = exact.initial_policy()
    with pytest.raises(ValueError, match="with `episodes` only"):
        exact.play(policy, np.random.default_rng(0))
    with pytest.raises(ValueError, match="with `episodes` only"):
        mg.solve(exact, mg.MMD(0.3, 0.1, feedback=Pooled()), 2)
    with pytest.raises(ValueError, match="`Pooled` is for"):
        mg.solve(mg.load("rps"), mg.MMD(0.3, 0.1, feedback=Pooled()), 2)
    with pytest.raises(ValueError, match="`rng` is needed"):
        sampled().feedback(policy)
    with pytest.raises(ValueError, match="`explore`"):
        sampled(explore=1.5)
    with pytest.raises(ValueError, match="`estimate`"):
        sampled(estimate=3)
    words = compact(exact.tree)
    with pytest.raises(ValueError, match="`episodes`"):
        TextTreeGame(exact.tree, exact.start, words.describe, words.say, 0)
