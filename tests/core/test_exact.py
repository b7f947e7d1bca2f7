"""The oracles: published equilibria, certificates, and agreement with an independent route."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

import mpo_games as mg
from mpo_games import exact, theory
from mpo_games.exact import any_payoffs, simplex_method
from mpo_games.protocol import Array

RAW_RPS = np.array([[0.0, -3.0, 3.0], [3.0, 0.0, -1.0], [-3.0, 1.0, 0.0]])
BIASED_RPS = [[0, -1, 3], [1, 0, -1], [-3, 1, 0]]
COMAL = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
PUBLISHED_QRE = {
    0.5: (0.29813319, 0.41382045, 0.28804635),
    0.2: (0.22364492, 0.47798817, 0.29836691),
    0.1: (0.17347803, 0.48630324, 0.34021873),
    0.05: (0.1517447, 0.46794775, 0.38030755),
}


def perturbed_rps() -> mg.MatrixGame:
    """As published: min-max normalised to [0, 1]."""
    return mg.MatrixGame((RAW_RPS - RAW_RPS.min()) / np.ptp(RAW_RPS))


def preferences(rng: np.random.Generator, contexts: int, n: int) -> mg.PreferenceGame:
    upper = np.triu(rng.random((contexts, n, n)), 1)
    return mg.PreferenceGame(upper + np.tril(1.0 - np.swapaxes(upper, 1, 2), -1) + 0.5 * np.eye(n))


def payoff_family(kind: str, rng: np.random.Generator) -> Array:
    n, m = rng.integers(1, 13, 2)
    normal = rng.standard_normal((n, m))
    match kind:
        case "ties":
            return rng.integers(-2, 3, (n, m)).astype(float)
        case "rank one":
            return np.outer(normal[:, 0], normal[0])
        case "duplicates":
            return normal[np.ix_(rng.integers(0, n, n + 2), rng.integers(0, m, m + 2))]
        case "dominated":
            return np.vstack([normal, normal[0] - 1.0])
        case "huge":
            return 1e12 * normal
        case "tiny":
            return 1e-12 * normal
        case "constant":
            return np.full((n, m), normal[0, 0])
        case "zero":
            return np.zeros((n, m))
        case "offset":
            return 1e6 + normal
    return normal


FAMILIES = (
    "normal",
    "ties",
    "rank one",
    "duplicates",
    "dominated",
    "huge",
    "tiny",
    "constant",
    "zero",
    "offset",
)


@pytest.mark.parametrize("tau", PUBLISHED_QRE)
def test_the_published_qres_by_newton_and_as_fixed_points_of_a_step(tau: float) -> None:
    game = perturbed_rps()
    answer = exact.qre(game, tau)
    assert answer.policy.probs == pytest.approx(np.array([PUBLISHED_QRE[tau]] * 2), abs=1e-8)
    assert answer.residual < 1e-13
    assert abs(answer.gap) < 1e-15

    published = game.policy(*[np.array(PUBLISHED_QRE[tau]) / sum(PUBLISHED_QRE[tau])] * 2)
    for policy, error in ((published, 1e-6), (answer.policy, 1e-14)):
        start = mg.State(policy, game.initial_policy())
        after = mg.MMD(eta=tau, alpha=tau).step(game, start).policy
        assert after.probs == pytest.approx(policy.probs, abs=error)


def test_the_normalisation_is_what_reproduces_the_published_qres() -> None:
    raw = exact.qre(mg.MatrixGame(RAW_RPS), 0.1).policy.probs[0]
    assert np.abs(raw - PUBLISHED_QRE[0.1]).max() > 0.01
    scaled = exact.qre(mg.MatrixGame(RAW_RPS), 0.1 * np.ptp(RAW_RPS)).policy.probs[0]
    assert scaled == pytest.approx(np.array(PUBLISHED_QRE[0.1]), abs=1e-8)


@pytest.mark.parametrize(
    ("game", "known"),
    [
        (mg.MatrixGame(RAW_RPS), (1 / 7, 3 / 7, 3 / 7)),
        (mg.MatrixGame(BIASED_RPS), (0.2, 0.6, 0.2)),
        (mg.PreferenceGame(COMAL), (4 / 11, 3 / 11, 4 / 11)),
    ],
)
def test_known_equilibria(game: mg.MatrixGame | mg.PreferenceGame, known: Array) -> None:
    answer = exact.nash(game)
    for row in answer.policy.probs:
        assert row == pytest.approx(np.array(known), abs=1e-14)
    assert answer.support.all()
    assert answer.value == pytest.approx(0.0, abs=1e-15)
    assert abs(answer.gap) < 1e-14


@pytest.mark.parametrize("kind", FAMILIES)
def test_nash_of_random_and_degenerate_games_is_certified(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        game = mg.MatrixGame(payoff_family(kind, rng))
        answer = exact.nash(game)
        scale = float(game.bound)
        # The compiled certificate is the game's own, which is another route to the same number.
        rounding = 1e-15 * scale
        assert answer.gap == pytest.approx(float(game.duality_gap(answer.policy)), abs=rounding)
        assert abs(answer.gap) <= 2.0 * rounding
        assert answer.value == pytest.approx(float(game.value(answer.policy)), abs=rounding)
        assert (answer.support == (answer.policy.probs > exact.SUPPORT)).all()
        # Complementarity: whatever is played is a best response.
        q = game.feedback(answer.policy)
        best = np.where(game.legal, q, -np.inf).max(axis=-1, keepdims=True)
        assert (np.where(answer.support, best - q, 0.0) <= 1e-13 * scale).all()


def test_nash_of_random_preferences_is_certified_in_every_context() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 10, 17):
        game = preferences(rng, 4, n)
        answer = exact.nash(game)
        assert abs(answer.gap) < 1e-14
        for context, row in zip(game.preferences, answer.policy.probs, strict=True):
            alone = exact.nash(mg.PreferenceGame(context))
            assert alone.policy.probs[0] == pytest.approx(row, abs=1e-12)
            assert alone.support.sum() % 2 == 1  # generic: an odd support (Laffond et al. 1993)


def test_nash_of_preferences_with_ties() -> None:
    """Where all the responses that are played tie, a probability of 3e-17 is no reason to refuse.

    The two tables made `nash` refuse its answer; 1 % of such tables did.
    """
    refused = [
        [[1, 1, 0, 0, 2], [1, 1, 2, 0, 0], [2, 0, 1, 1, 1], [2, 2, 1, 1, 0], [0, 2, 1, 2, 1]],
        [
            [1, 1, 0, 1, 2, 2, 1, 1],
            [1, 1, 2, 2, 1, 2, 1, 0],
            [2, 0, 1, 1, 1, 1, 0, 0],
            [1, 0, 1, 1, 1, 1, 1, 0],
            [0, 1, 1, 1, 1, 1, 1, 2],
            [0, 0, 1, 1, 1, 1, 2, 1],
            [1, 1, 2, 1, 1, 0, 1, 1],
            [1, 2, 2, 2, 0, 1, 1, 1],
        ],
    ]
    rng = np.random.default_rng(0)
    for _ in range(2000):
        n = int(rng.integers(3, 17))
        upper = np.triu(rng.integers(0, 3, (n, n)), 1)
        refused.append((upper + np.tril(2 - upper.T, -1) + np.eye(n)).tolist())
    for table in refused:
        found = exact.nash(mg.PreferenceGame(np.array(table) / 2))
        assert found.gap <= 1e-15


def test_nash_scales_and_shifts_with_the_payoffs() -> None:
    payoff = np.random.default_rng(2).standard_normal((6, 9))
    plain = exact.nash(mg.MatrixGame(payoff))
    for scale, shift in ((1e12, 0.0), (1e-12, 0.0), (1.0, 5.0)):
        other = exact.nash(mg.MatrixGame(scale * payoff + shift))
        assert other.policy.probs == pytest.approx(plain.policy.probs, abs=1e-12)
        assert other.value == pytest.approx(scale * plain.value + shift, rel=1e-12)


def test_nash_keeps_probabilities_that_are_small_but_real() -> None:
    # Both mix: one player puts 1e-6 / (1 + 1e-6) on an action.
    answer = exact.nash(mg.MatrixGame([[1e6, 0.0], [0.0, 1.0]]))
    assert answer.support.all()
    assert answer.policy.probs[:, 0] == pytest.approx(1e-6 / (1 + 1e-6), rel=1e-9)
    assert answer.value == pytest.approx(1e6 / (1e6 + 1), rel=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.1, 1e-2, 1e-3, 1e-4])
def test_qre_solves_its_equation_for_random_games_and_skewed_magnets(alpha: float) -> None:
    rng = np.random.default_rng(3)
    for trial in range(12):
        n, m = rng.integers(1, 13, 2)
        game: mg.MatrixGame | mg.PreferenceGame
        if trial % 3 == 2:
            game = preferences(rng, 3, int(n))
            skewed = game.policy(rng.dirichlet(np.full(n, 0.1), 3))
        else:
            game = mg.MatrixGame(rng.uniform(-0.5, 0.5, (n, m)))
            skewed = game.policy(rng.dirichlet(np.full(n, 0.1)), rng.dirichlet(np.full(m, 0.1)))
        magnet = skewed if trial % 2 else game.initial_policy()
        answer = exact.qre(game, alpha, magnet)
        assert answer.alpha == alpha
        assert answer.residual < 1e-15 / alpha + 1e-12
        assert abs(answer.gap) < 1e-14
        # The equation, by the closed form of an infinitely long step towards the magnet.
        response = magnet.mirror_step(
            game.feedback(answer.policy) / alpha, None, eta=1.0, alpha=0.0
        )
        error = np.where(game.legal, response.log_probs, 0.0) - np.where(
            game.legal, answer.policy.log_probs, 0.0
        )
        assert np.abs(error).max() < 1e-14 / alpha + 1e-12


def test_qre_underflows_in_probability_and_not_in_its_logarithm() -> None:
    game = mg.MatrixGame([[1.0, 1.0], [0.0, 0.5]])
    log_p = exact.qre(game, 1e-3).policy.log_probs
    # The column player is indifferent against row 0: the loss of row 1 is 3/4.
    assert log_p[0] == pytest.approx([0.0, -750.0], abs=1e-9)
    assert log_p[1] == pytest.approx([-np.log(2.0)] * 2, abs=1e-9)


@pytest.mark.parametrize("scale", [1e12, 1e-12])
def test_qre_scales_with_payoffs_and_alpha_together(scale: float) -> None:
    payoff = np.random.default_rng(4).standard_normal((4, 7))
    plain = exact.qre(mg.MatrixGame(payoff), 0.05).policy.probs
    scaled = exact.qre(mg.MatrixGame(scale * payoff), 0.05 * scale)
    assert scaled.policy.probs == pytest.approx(plain, abs=1e-13)
    assert abs(scaled.gap) < 1e-14 * scale


def test_qre_has_its_limits() -> None:
    game, magnet = mg.MatrixGame(RAW_RPS), mg.MatrixGame(RAW_RPS).policy([0.7, 0.2, 0.1], [1, 0, 0])
    assert exact.qre(game, 1e9, magnet).policy.probs == pytest.approx(magnet.probs, abs=1e-8)
    limit = exact.qre(game, 1e-5).policy.probs
    assert limit == pytest.approx(exact.nash(game).policy.probs, abs=1e-4)
    still = exact.qre(mg.MatrixGame(np.zeros((3, 3))), 0.1, magnet)
    assert still.policy.probs == pytest.approx(magnet.probs, abs=1e-15)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_qre_agrees_with_a_long_run_of_mmd(alpha: float) -> None:
    rng = np.random.default_rng(5)
    for game in (mg.MatrixGame(rng.uniform(-1, 1, (3, 5))), preferences(rng, 2, 6)):
        magnet = exact.qre(game, 1.0).policy
        eta = theory.largest_step(game, alpha)
        run = mg.iterate(game, mg.MMD(eta, alpha), magnet=magnet)
        state = next(islice(run, 6000, None))
        answer = exact.qre(game, alpha, magnet)
        assert state.policy.probs == pytest.approx(answer.policy.probs, abs=1e-10)


def test_rejections() -> None:
    game = perturbed_rps()
    for alpha in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"`alpha` must be finite and above 0.*`nash`"):
            exact.qre(game, alpha)
    with pytest.raises(ValueError, match="`magnet` must be a policy of the game"):
        exact.qre(game, 0.1, mg.MatrixGame(np.eye(4)).initial_policy())
    for batch in (
        mg.MatrixGame(np.zeros((2, 3, 3))),
        mg.PreferenceGame(np.full((2, 1, 3, 3), 0.5)),
    ):
        with pytest.raises(ValueError, match="batch of games"):
            exact.nash(batch)
        with pytest.raises(ValueError, match="batch of games"):
            exact.qre(batch, 0.1)
    with pytest.raises(TypeError, match="no `nash` oracle for a str"):
        exact.nash("rock")
    with pytest.raises(TypeError, match="no `qre` oracle for a str"):
        exact.qre("rock", 0.1)


def test_no_answer_without_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    game = perturbed_rps()
    with pytest.raises(exact.CertificateError, match="`alpha` is too small beside the payoffs"):
        exact.qre(game, 1e-14)
    wrong = simplex_method.certificate(game.payoff, np.array([[0.5, 0.3, 0.2]] * 2))
    monkeypatch.setattr(exact.tables, "certified_pair", lambda payoff: wrong)
    assert exact.nash(game).gap < 1e-15  # the second method's
    monkeypatch.setattr(any_payoffs, "guesses", lambda payoff: [])
    assert exact.nash(game).gap < 1e-15  # the third method's
    monkeypatch.setattr(any_payoffs, "solved_in_many_digits", lambda payoff, guess: None)
    with pytest.raises(exact.CertificateError, match="has a duality gap of"):
        exact.nash(game)
