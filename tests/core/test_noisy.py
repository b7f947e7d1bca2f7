"""Sampled feedback is unbiased, reproducible, and leaves everything exact to the inner game."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mpo_games import (
    MPO,
    MatrixGame,
    Mixture,
    PreferenceGame,
    Solution,
    TabularPolicy,
    alternating,
    solve,
)
from mpo_games.games import families
from mpo_games.games.catalogue import load
from mpo_games.games.noisy import BanditGame, NoisyGame, SampledGame
from mpo_games.policies.tabular import probabilities

REPEATS, COPIES = 2500, 50
"""Draws of feedback, and how many of them a batch of equal games gives at once."""


def matrix() -> MatrixGame:
    return families.random_zero_sum(3, 4, np.random.default_rng(1))


def contexts() -> PreferenceGame:
    rng = np.random.default_rng(2)
    games = [families.random_preferences(4, rng).preferences for _ in range(3)]
    return PreferenceGame(np.concatenate(games))


def batch() -> MatrixGame:
    return MatrixGame(np.random.default_rng(3).normal(size=(5, 4, 3)))


def batch_of_contexts() -> PreferenceGame:
    return PreferenceGame(np.stack([contexts().preferences, 1 - contexts().preferences]))


GAMES = [matrix, contexts, batch, batch_of_contexts]

WRAPPERS = [
    lambda game: NoisyGame(game, sigma=0.5),
    lambda game: SampledGame(game, samples=2),
    lambda game: BanditGame(game, samples=1),
    lambda game: BanditGame(game, samples=3, exploration=0.3),
]
NAMES = ["noisy", "sampled", "bandit", "exploring"]


def copies(game):
    """A batch of equal games, each of which draws for itself."""
    if isinstance(game, PreferenceGame):
        return PreferenceGame(np.stack([game.preferences] * COPIES))
    return MatrixGame(np.stack([game.payoff] * COPIES))


def copied(policy, legal):
    """The policy in each of them."""
    if policy is None:
        return None
    if isinstance(policy, Mixture):
        return replace(policy, policies=tuple(copied(p, legal) for p in policy.policies))
    return TabularPolicy.from_probs(np.stack([policy.probs] * COPIES), legal)


def draw_in_copies(wrap, game, policy, opponent=None) -> np.ndarray:
    """As many draws as `draw` gives, in fewer calls."""
    many = copies(game)
    one, other = copied(policy, many.legal), copied(opponent, many.legal)
    found = draw(wrap(many), one, other, repeats=REPEATS // COPIES)
    assert found.shape == (REPEATS // COPIES, COPIES, *game.legal.shape)
    return found.reshape(REPEATS, *game.legal.shape)


def random_policy(game, seed: int) -> TabularPolicy:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.2, 1.0, size=game.legal.shape) * game.legal
    return TabularPolicy.from_probs(weights / weights.sum(-1, keepdims=True), game.legal)


def opponents(game):
    p, q = random_policy(game, 11), random_policy(game, 12)
    return [None, q, Mixture((p, q), (2.0, -1.0)), Mixture((p, q, p), (0.5, 0.2, 0.3))]


def assert_unbiased(estimates: np.ndarray, truth: np.ndarray) -> None:
    """The mean lies within 5 standard errors of the truth, in every coordinate."""
    error = np.abs(estimates.mean(axis=0) - truth)
    standard_error = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (error <= 5 * standard_error + 1e-12).all()


def draw(noisy, policy, opponent=None, player=None, repeats=REPEATS, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack(
        [noisy.feedback(policy, opponent, player=player, rng=rng) for _ in range(repeats)]
    )


@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
@pytest.mark.parametrize("which", range(4), ids=["self", "other", "optimistic", "pool"])
def test_unbiased(wrap, which):
    for make in (matrix, contexts):
        game = make()
        policy, opponent = random_policy(game, 10), opponents(game)[which]
        truth = game.feedback(policy, opponent)
        assert_unbiased(draw_in_copies(wrap, game, policy, opponent), truth)
        assert_unbiased(draw(wrap(game), policy, opponent, repeats=250), truth)


@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
def test_unbiased_in_a_batch(wrap):
    for make in (batch, batch_of_contexts):
        game = make()
        policy, opponent = random_policy(game, 10), opponents(game)[2]
        estimates = draw(wrap(game), policy, opponent, repeats=1000)
        assert_unbiased(estimates, game.feedback(policy, opponent))


@pytest.mark.parametrize("opponent", range(4))
def test_duels_are_unbiased_and_of_two_outcomes(opponent):
    game = contexts()
    policy = random_policy(game, 10)

    def wrap(found):
        return BanditGame(found, samples=1, duels=True)

    estimates = draw_in_copies(wrap, game, policy, opponents(game)[opponent])
    assert_unbiased(estimates, game.feedback(policy, opponents(game)[opponent]))
    once = draw(wrap(game), policy, repeats=50)
    outcome = (once * policy.probs)[once != 0]
    np.testing.assert_allclose(np.abs(outcome), 0.5)


def test_bandit_sees_one_action_per_row():
    game = matrix()
    estimates = draw(BanditGame(game, samples=1), random_policy(game, 1), repeats=200)
    assert ((estimates != 0).sum(axis=-1) == 1).all()


def test_noise_has_the_stated_spread():
    game = matrix()
    policy = game.initial_policy()
    noise = draw(NoisyGame(game, sigma=0.3), policy) - game.feedback(policy)
    spread = noise.std(axis=0)[game.legal]
    np.testing.assert_allclose(spread, 0.3, rtol=5 / np.sqrt(2 * REPEATS))
    np.testing.assert_array_equal(
        draw(NoisyGame(game, 0.0), policy, repeats=1)[0], noise[0] * 0 + game.feedback(policy)
    )


@pytest.mark.parametrize("make", GAMES)
@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
def test_one_side_and_illegal_actions(make, wrap):
    game = make()
    policy = random_policy(game, 10)
    for player in (0, 1) if game.players == 2 else (0,):
        q = wrap(game).feedback(policy, player=player, rng=np.random.default_rng(0))
        assert q.shape == game.feedback(policy).shape
        assert (q[~game.legal] == 0).all()
        if game.players == 2:
            assert (q[..., 1 - player, :] == 0).all()
    if game.players == 2:
        both = draw(wrap(game), policy, player=0, repeats=800)
        assert_unbiased(both, game.feedback(policy, player=0))


@pytest.mark.parametrize("make", GAMES)
@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
def test_same_seed_same_result(make, wrap):
    game = make()
    policy, opponent = random_policy(game, 10), opponents(game)[2]
    first, again, other = (draw(wrap(game), policy, opponent, repeats=3, seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_spread_falls_with_samples():
    game = contexts()
    policy = random_policy(game, 10)
    for wrapper in (SampledGame, BanditGame):
        one, many = (
            draw_in_copies(partial(wrapper, samples=samples), game, policy).var(axis=0).sum()
            for samples in (1, 16)
        )
        assert many == pytest.approx(one / 16, rel=0.15)


def test_common_random_numbers_tame_optimism():
    """Against `2 p - p'` with `p'` near `p` the variance is that against `p`, not five times it."""
    game = contexts()
    p = random_policy(game, 10)
    near = p.mix(game.initial_policy(), 1e-3)
    plain, optimistic = (
        draw_in_copies(partial(SampledGame, samples=4), game, p, opponent).var(axis=0).mean()
        for opponent in (p, Mixture((p, near), (2.0, -1.0)))
    )
    assert optimistic < 1.2 * plain


def test_exploration_bounds_the_variance():
    game = load("rps")
    policy = game.policy([0.998, 0.001, 0.001], [0.998, 0.001, 0.001])
    explored = draw(BanditGame(game, samples=1, exploration=0.3), policy)
    assert np.abs(explored).max() <= 1 / (0.3 / 3)
    assert_unbiased(explored, game.feedback(policy))


def test_actions_of_probability_zero_are_never_drawn():
    game = matrix()
    pure = game.policy([1, 0, 0], [0, 0, 1, 0])
    for wrapper in (SampledGame(game, samples=3), BanditGame(game, samples=3)):
        estimates = draw(wrapper, pure, repeats=50)
        assert np.isfinite(estimates).all()
    np.testing.assert_allclose(draw(SampledGame(game, 3), pure, repeats=1)[0], game.feedback(pure))


@pytest.mark.parametrize("make", GAMES)
@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
def test_the_rest_is_exact(make, wrap):
    game = make()
    noisy = wrap(game)
    p, q = random_policy(game, 1), random_policy(game, 2)
    assert noisy.players == game.players
    same = np.testing.assert_array_equal
    same(noisy.legal, game.legal)
    same(noisy.bound, game.bound)
    same(noisy.initial_policy().probs, game.initial_policy().probs)
    same(noisy.duality_gap(p), game.duality_gap(p))
    same(noisy.regularised_gap(p, q, 0.3), game.regularised_gap(p, q, 0.3))
    same(noisy.best_response(p).probs, game.best_response(p).probs)
    same(noisy.value(p), game.value(p))
    same(noisy.divergence(p, q), game.divergence(p, q))
    half = Mixture((p, q), (0.5, 0.5))
    same(noisy.average(half).probs, game.average(half).probs)
    same(probabilities(half), 0.5 * p.probs + 0.5 * q.probs)


def test_solve_runs_on_them_and_can_be_saved(tmp_path):
    game = NoisyGame(load("biased_rps"), sigma=0.1)
    start = game.initial_policy()
    solver = MPO(eta=0.05, alpha=0.1, period=100)
    run = solve(game, solver, budget=3000, seed=1)
    assert run.gap < 0.5 * game.duality_gap(start)
    np.testing.assert_array_equal(run.policy.probs, solve(game, solver, 3000, seed=1).policy.probs)
    back = Solution.load(run.save(tmp_path / "run"), game)
    np.testing.assert_array_equal(back.policy.coordinates, run.policy.coordinates)
    one_sided = replace(solver, feedback=alternating)
    assert np.isfinite(solve(BanditGame(game.game, 4), one_sided, budget=50).gap)


@pytest.mark.parametrize("wrap", WRAPPERS, ids=NAMES)
def test_a_generator_is_required(wrap):
    game = matrix()
    with pytest.raises(ValueError, match="`rng` is needed"):
        wrap(game).feedback(game.initial_policy())


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: NoisyGame(matrix(), sigma=-0.1), "sigma"),
        (lambda: NoisyGame(matrix(), sigma=float("nan")), "sigma"),
        (lambda: NoisyGame(matrix(), sigma=float("inf")), "sigma"),
        (lambda: SampledGame(matrix(), samples=0), "samples"),
        (lambda: BanditGame(matrix(), samples=0), "samples"),
        (lambda: BanditGame(matrix(), samples=1, exploration=1.1), "exploration"),
        (lambda: BanditGame(matrix(), samples=1, exploration=float("nan")), "exploration"),
        (lambda: BanditGame(matrix(), samples=1, duels=True), "duels"),
    ],
)
def test_bad_settings_are_refused(build, name):
    with pytest.raises(ValueError, match=name):
        build()
