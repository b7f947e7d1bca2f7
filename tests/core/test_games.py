"""MatrixGame and PreferenceGame: invariances, two views of one game, batches, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpo_games import MatrixGame, Mixture, PreferenceGame, TabularPolicy, exact
from mpo_games.games.families import planted_equilibrium, random_preferences
from mpo_games.policies.tabular import probabilities

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 7)
properties = settings(deadline=None, derandomize=True, max_examples=50)


def simplex(rng, *shape):
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def drawn(seed, n, m):
    """A game, a policy of it, and the two rows of that policy."""
    rng = np.random.default_rng(seed)
    x, y = simplex(rng, n), simplex(rng, m)
    game = MatrixGame(rng.normal(size=(n, m)))
    return game, game.policy(x, y), x, y


# --- matrix games


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_feedback_gap_and_value_by_definition(seed, n, m):
    game, policy, x, y = drawn(seed, n, m)
    a = game.payoff
    q = game.feedback(policy)
    np.testing.assert_allclose(q[0, :n], a @ y, atol=1e-14)
    np.testing.assert_allclose(q[1, :m], -a.T @ x, atol=1e-14)
    assert (q[~game.legal] == 0).all()
    gap = (a @ y).max() - (x @ a).min()
    assert game.duality_gap(policy) == pytest.approx(gap, abs=1e-14)
    assert game.duality_gap(policy) >= -1e-15
    assert game.value(policy) == pytest.approx(x @ a @ y, abs=1e-14)
    best = game.best_response(policy)
    gain = game.value(game.policy(best.probs[0, :n], y)) - game.value(
        game.policy(x, best.probs[1, :m])
    )
    assert gain == pytest.approx(gap, abs=1e-14)
    for player in (0, 1):
        one = game.feedback(policy, player=player)
        np.testing.assert_allclose(one[player], q[player], atol=1e-14)
        assert (one[1 - player] == 0).all()


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_gap_vanishes_at_equilibrium_and_only_there(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = simplex(rng, n), simplex(rng, m)
    game = planted_equilibrium(x, y, rng)
    equilibrium = game.policy(x, y)
    assert game.duality_gap(equilibrium) == pytest.approx(0.0, abs=1e-13)
    assert game.duality_gap(game.policy(simplex(rng, n), simplex(rng, m))) >= 0.0
    assert exact.nash(game).value == pytest.approx(0.0, abs=1e-12)


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_permutations_and_constants_change_nothing(seed, n, m):
    game, policy, x, y = drawn(seed, n, m)
    magnet = game.initial_policy()
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(n), rng.permutation(m)
    permuted = MatrixGame(game.payoff[np.ix_(rows, columns)])
    same = permuted.policy(x[rows], y[columns])
    shifted = MatrixGame(game.payoff + 3.25)
    for other, its in ((permuted, same), (shifted, policy)):
        assert other.duality_gap(its) == pytest.approx(game.duality_gap(policy), abs=1e-13)
        assert other.regularised_gap(its, magnet, 0.2) == pytest.approx(
            game.regularised_gap(policy, magnet, 0.2), abs=1e-12
        )
    assert shifted.value(policy) == pytest.approx(game.value(policy) + 3.25)


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_swapping_the_players_mirrors_the_game(seed, n, m):
    game, policy, x, y = drawn(seed, n, m)
    mirrored = MatrixGame(-game.payoff.T)
    swapped = mirrored.policy(y, x)
    np.testing.assert_allclose(mirrored.feedback(swapped)[::-1], game.feedback(policy), atol=1e-14)
    assert mirrored.duality_gap(swapped) == pytest.approx(game.duality_gap(policy), abs=1e-14)


@given(seed=seeds, n=sizes, m=sizes, scale=st.sampled_from([1e-12, 1.0, 1e12]))
@properties
def test_payoffs_of_any_scale(seed, n, m, scale):
    game, policy, _, _ = drawn(seed, n, m)
    scaled = MatrixGame(game.payoff * scale)
    magnet = game.initial_policy()
    assert scaled.duality_gap(policy) / scale == pytest.approx(game.duality_gap(policy), abs=1e-13)
    assert np.isfinite(scaled.regularised_gap(policy, magnet, 0.1))
    response = policy.mirror_step(scaled.feedback(policy), magnet, eta=1.0, alpha=0.1)
    assert np.isfinite(response.coordinates[game.legal]).all()
    np.testing.assert_allclose(response.probs.sum(-1), 1.0)


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_padding_is_never_played(seed, n, m):
    game, policy, _, _ = drawn(seed, n, m)
    width = max(n, m)
    assert game.legal.shape == (2, width)
    np.testing.assert_array_equal(game.legal.sum(axis=1), [n, m])
    for p in (policy, game.initial_policy(), game.best_response(policy)):
        assert (p.probs[~game.legal] == 0).all()
        np.testing.assert_allclose(p.probs.sum(axis=-1), 1.0)
    # Only what the padding hides is there: a game with the padding filled by bad actions agrees.
    filled = np.full((width, width), np.nan)
    filled[:n, :m] = game.payoff
    filled[n:, :], filled[:, m:] = -100.0, 100.0
    square = MatrixGame(filled)
    assert square.duality_gap(square.policy(*policy.probs)) == pytest.approx(
        game.duality_gap(policy), abs=1e-13
    )


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_feedback_is_linear_in_the_opponent(seed, n, m):
    game, p, _, _ = drawn(seed, n, m)
    rng = np.random.default_rng(seed + 1)
    o = game.policy(simplex(rng, n), simplex(rng, m))
    np.testing.assert_allclose(
        game.feedback(p, Mixture((p, o), (2.0, -1.0))),
        2 * game.feedback(p) - game.feedback(p, o),
        atol=1e-13,
    )
    average = game.average(Mixture((p, o), (0.25, 0.75)))
    np.testing.assert_allclose(average.probs, 0.25 * p.probs + 0.75 * o.probs, atol=1e-15)


@given(seed=seeds, n=sizes, m=sizes)
@properties
def test_regularised_gap_is_what_regularised_best_responses_gain(seed, n, m):
    game, policy, _, _ = drawn(seed, n, m)
    alpha = 0.3
    magnet = game.initial_policy()
    rng = np.random.default_rng(seed)
    q = game.feedback(policy)
    here = np.sum(policy.probs * q, axis=-1) - alpha * policy.kl(magnet)
    gap = game.regularised_gap(policy, magnet, alpha)
    best = magnet.mirror_step(q / alpha, None, eta=1.0, alpha=0.0)
    gained = np.sum(best.probs * q, axis=-1) - alpha * best.kl(magnet) - here
    assert gap == pytest.approx(gained.sum(), abs=1e-12)
    other = game.policy(simplex(rng, n), simplex(rng, m))
    less = np.sum(other.probs * q, axis=-1) - alpha * other.kl(magnet) - here
    assert less.sum() <= gap + 1e-12
    assert game.regularised_gap(policy, magnet, 0.0) == pytest.approx(
        game.duality_gap(policy), abs=1e-13
    )


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (1, 1)])
def test_batch_equals_loop_for_matrices(shape):
    rng = np.random.default_rng(0)
    n, m = shape
    payoffs, x, y = rng.normal(size=(6, n, m)), simplex(rng, 6, n), simplex(rng, 6, m)
    batch = MatrixGame(payoffs)
    policy, magnet = batch.policy(x, y), batch.initial_policy()
    games = [MatrixGame(a) for a in payoffs]
    single = [g.policy(*rows) for g, *rows in zip(games, x, y, strict=True)]
    pairs = list(zip(games, single, strict=True))

    def loop(f):
        return np.stack([f(g, p) for g, p in pairs])

    for name, f in {
        "feedback": lambda g, p: g.feedback(p),
        "one side": lambda g, p: g.feedback(p, player=1),
        "gap": lambda g, p: g.duality_gap(p),
        "regularised": lambda g, p: g.regularised_gap(p, g.initial_policy(), 0.2),
        "best": lambda g, p: g.best_response(p).probs,
        "value": lambda g, p: g.value(p),
        "divergence": lambda g, p: g.divergence(p, g.initial_policy()),
        "bound": lambda g, p: g.bound,
    }.items():
        np.testing.assert_allclose(f(batch, policy), loop(f), atol=1e-14, err_msg=name)
    assert magnet.probs.shape == (6, 2, max(n, m))


# --- preference games


@given(seed=seeds, n=sizes)
@properties
def test_symmetric_and_two_row_views_agree(seed, n):
    rng = np.random.default_rng(seed)
    game = random_preferences(n, rng)
    two = MatrixGame(game.preferences[0] - 0.5)
    p, magnet = simplex(rng, n), simplex(rng, n)
    one_row, rows = game.policy(p), two.policy(p, p)
    q = two.feedback(rows)
    np.testing.assert_allclose(game.feedback(one_row)[0], q[0], atol=1e-15)
    np.testing.assert_allclose(q[0], q[1], atol=1e-15)
    assert game.duality_gap(one_row) == pytest.approx(two.duality_gap(rows), abs=1e-14)
    assert game.regularised_gap(one_row, game.policy(magnet), 0.2) == pytest.approx(
        two.regularised_gap(rows, two.policy(magnet, magnet), 0.2), abs=1e-12
    )
    assert game.value(one_row) == pytest.approx(two.value(rows), abs=1e-15)
    assert 2 * game.divergence(one_row, game.policy(magnet)) == pytest.approx(
        two.divergence(rows, two.policy(magnet, magnet))
    )
    assert game.bound == pytest.approx(two.bound)


@given(seed=seeds, n=sizes)
@properties
def test_win_rates(seed, n):
    rng = np.random.default_rng(seed)
    game = random_preferences(n, rng)
    p, o = game.policy(simplex(rng, n)), game.policy(simplex(rng, n))
    assert game.win_rate(p, o) + game.win_rate(o, p) == pytest.approx(1.0)
    assert game.win_rate(p, p) == pytest.approx(0.5)
    best = game.best_response(p)
    assert 2 * (game.win_rate(best, p) - 0.5) == pytest.approx(game.duality_gap(p))
    nash = exact.nash(game).policy
    assert game.win_rate(nash, o) >= 0.5 - 1e-12
    assert game.duality_gap(p) >= -1e-15


@given(seed=seeds, n=sizes)
@properties
def test_renaming_responses_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    game = random_preferences(n, rng)
    p, order = simplex(rng, n), rng.permutation(n)
    renamed = PreferenceGame(game.preferences[0][np.ix_(order, order)])
    assert renamed.duality_gap(renamed.policy(p[order])) == pytest.approx(
        game.duality_gap(game.policy(p)), abs=1e-14
    )


def test_contexts_are_averaged_and_batches_are_not():
    rng = np.random.default_rng(1)
    tables = np.stack(
        [[random_preferences(4, rng).preferences[0] for _ in range(3)] for _ in range(5)]
    )
    probs = simplex(rng, 5, 3, 4)
    batch = PreferenceGame(tables)
    policy = batch.policy(probs)
    for f in (
        lambda g, p: g.duality_gap(p),
        lambda g, p: g.regularised_gap(p, g.initial_policy(), 0.2),
        lambda g, p: g.value(p),
        lambda g, p: g.win_rate(p, g.initial_policy()),
        lambda g, p: g.divergence(p, g.initial_policy()),
    ):
        by_context = [
            [f(PreferenceGame(t), PreferenceGame(t).policy(p)) for t, p in zip(ts, ps, strict=True)]
            for ts, ps in zip(tables, probs, strict=True)
        ]
        np.testing.assert_allclose(f(batch, policy), np.mean(by_context, axis=1), atol=1e-15)
    np.testing.assert_allclose(
        batch.feedback(policy), np.einsum("bxij,bxj->bxi", tables - 0.5, probs), atol=1e-15
    )
    np.testing.assert_allclose(batch.bound, np.abs(tables - 0.5).max(axis=(1, 2, 3)))
    assert batch.initial_policy().probs.shape == (5, 3, 4)


def test_one_policy_for_every_context():
    game = PreferenceGame(np.full((3, 2, 2), 0.5))
    # exp(log(p)) is p up to an ulp, which one depends on NumPy.
    np.testing.assert_allclose(game.policy([0.3, 0.7]).probs, [[0.3, 0.7]] * 3, rtol=4e-16)


def test_rounding_in_the_table_is_made_exact():
    table = np.array([[0.5, 0.3 + 1e-12], [0.7, 0.5]])
    game = PreferenceGame(table)
    np.testing.assert_array_equal(game.payoff, -np.swapaxes(game.payoff, -1, -2))
    assert game.value(game.policy([0.1, 0.9])) == pytest.approx(0.0, abs=1e-17)


# --- values


@pytest.mark.parametrize("game", [MatrixGame(np.eye(2)), PreferenceGame(np.full((2, 2), 0.5))])
def test_games_are_values(game):
    with pytest.raises(ValueError, match="read-only"):
        game.payoff[...] = 0.0
    with pytest.raises(AttributeError):
        game.payoff = None
    assert game.initial_policy().probs.sum() == game.players


def test_the_callers_array_stays_his_own():
    mine = np.eye(3)
    game = MatrixGame(mine)
    table = np.full((2, 2), 0.5)
    PreferenceGame(table)
    mine[0, 0] = 7.0
    table[0, 1] = 0.25
    assert game.payoff[0, 0] == 1.0


# --- bad input


@pytest.mark.parametrize(
    "payoff",
    [[], [[]], [1, 2], 3.0, [[np.nan, 1]], [[np.inf, 1]], np.zeros((2, 0)), np.zeros((0, 2, 2))],
)
def test_matrix_game_refuses(payoff):
    with pytest.raises(ValueError, match="`payoff`") as caught:
        MatrixGame(payoff)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("preferences", "says"),
    [
        ([[0.5, 0.5]], "square"),
        ([0.5], "square"),
        (0.5, "square"),
        (np.zeros((0, 0)), "square"),
        (np.zeros((0, 2, 2)), "square"),
        ([[0.5, np.nan], [0.5, 0.5]], "finite"),
        ([[0.5, np.inf], [0.5, 0.5]], "finite"),
        ([[0.5, 1.5], [-0.5, 0.5]], r"\[0, 1\]"),
        ([[0.5, 0.4], [0.7, 0.5]], r"P \+ P.T = 1"),
        ([[0.4, 0.4], [0.6, 0.6]], r"P \+ P.T = 1"),
    ],
)
def test_preference_game_refuses(preferences, says):
    with pytest.raises(ValueError, match=says) as caught:
        PreferenceGame(preferences)
    assert "`preferences`" in str(caught.value)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: MatrixGame(np.eye(3)).policy([0.5, 0.5], [1, 0, 0]), "`row`"),
        (lambda: MatrixGame(np.eye(3)).policy([1, 0, 0], 1.0), "`column`"),
        (lambda: MatrixGame(np.eye(2)).policy([0.5, 0.4], [1, 0]), "sum to 1"),
        (lambda: MatrixGame(np.eye(2)).policy([1.5, -0.5], [1, 0]), "non-negative"),
        (lambda: MatrixGame(np.eye(2)).policy([np.nan, 1], [1, 0]), "finite"),
        (lambda: PreferenceGame(np.full((2, 2), 0.5)).policy([1.0]), "`probs`"),
        (lambda: PreferenceGame(np.full((3, 2, 2), 0.5)).policy(np.eye(2)), "`probs`"),
        (lambda: Mixture((), ()), "weight"),
        (lambda: Mixture((1,), (1.0, 2.0)), "weight"),
    ],
)
def test_policies_of_the_wrong_shape_are_refused(build, says):
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize("alpha", [-0.1, float("nan")])
def test_regularised_gap_refuses(alpha):
    for game in (MatrixGame(np.eye(2)), PreferenceGame(np.full((2, 2), 0.5))):
        p = game.initial_policy()
        with pytest.raises(ValueError, match="`alpha`"):
            game.regularised_gap(p, p, alpha)


def test_signed_weights_of_a_mixture():
    p = TabularPolicy.from_probs([[1.0, 0.0]])
    q = TabularPolicy.from_probs([[0.5, 0.5]])
    np.testing.assert_allclose(probabilities(Mixture((p, q), (2.0, -1.0))), [[1.5, -0.5]])


@pytest.mark.parametrize("numbers", ["abc", [[1.0, 2.0], [3.0]], np.eye(2) * 1j, None])
def test_what_is_no_table_of_real_numbers_is_refused_by_name(numbers):
    with pytest.raises(ValueError, match="`payoff` must be"):
        MatrixGame(numbers)
    with pytest.raises(ValueError, match="`preferences` must be"):
        PreferenceGame(numbers)
