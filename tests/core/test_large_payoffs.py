"""Payoffs so large that sums, or quotients by `alpha`, overflow: right or refused in a sentence."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from test_edge_games import NORMAL, RPS, SOLVERS, tree_of

import mpo_games as mg
from mpo_games import exact
from mpo_games.checks import LARGEST
from mpo_games.exact import tree_nash
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.protocol import Array

TOO_LARGE = "`payoff` must be at most 1e\\+306 in size where it is played, got"


@pytest.mark.parametrize("scale", [1.7e308, -9e307, 2e306])
def test_games_whose_sums_overflow_are_not_played(scale: float) -> None:
    payoff = scale / 3.0 * RPS
    game = mg.MatrixGame(payoff)
    start = mg.MatrixGame(RPS).initial_policy()
    for play in (game.feedback, game.value, game.duality_gap, game.best_response):
        with pytest.raises(ValueError, match=TOO_LARGE):
            play(start)
    with pytest.raises(ValueError, match=TOO_LARGE):
        mg.solve(game, mg.AutoMPO(), 10)
    for make in (tree_of, lambda a: tree_of(RPS).with_payoff(a.ravel())):
        with pytest.raises(ValueError, match=TOO_LARGE):
            make(payoff)
    # The oracle of tables needs no such sums, and answers.
    np.testing.assert_allclose(exact.nash(game).policy.probs, [[0.2, 0.6, 0.2]] * 2, atol=1e-9)


def test_a_difference_that_fits_is_no_excuse_for_its_parts() -> None:
    with pytest.raises(ValueError, match=TOO_LARGE):
        mg.solve(mg.MatrixGame(np.full((2, 2), 1.7e308)), mg.AutoMPO(), 10)
    batch = np.stack([RPS, RPS / 3.0 * 1.7e308])
    with pytest.raises(ValueError, match=TOO_LARGE):
        mg.MatrixGame(batch).feedback(mg.MatrixGame(batch[:1]).initial_policy())


@pytest.mark.parametrize("make", [mg.MatrixGame, tree_of])
@pytest.mark.parametrize(
    "name", ["MPO", "Adaptive", "smoothed", "DCFR", "HS-DCFR(30)", "PCFR+", "PDCFR+", "AutoMPO"]
)
def test_the_largest_payoffs_that_are_played_end_in_numbers(name: str, make: Any) -> None:
    solver = mg.AutoMPO() if name == "AutoMPO" else SOLVERS[name]
    for payoff in (RPS / 3.0, NORMAL / np.abs(NORMAL).max()):
        found = mg.solve(make(LARGEST * payoff), solver, 100)
        assert np.isfinite(found.trace["gap"]).all()
        assert np.isfinite(found.policy.probs).all()


# Quantal response equilibria


def residual(payoff: Array, log_p: list[Array], log_magnet: list[Array], alpha: float) -> float:
    """The largest error of a log-probability, as `exact.qre` counts it, in decimal arithmetic."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**15, -(10**15)

        def decimals(numbers: Array) -> list[Decimal]:
            return [Decimal(x) for x in numbers.tolist()]

        a = [decimals(row) for row in payoff]
        # Below e^-10000 nothing weighs beside payoffs of 1e300.
        p = [[x.exp() if x > -10_000 else Decimal(0) for x in decimals(row)] for row in log_p]
        x, y = ([w / sum(row) for w in row] for row in p)
        q = (
            [sum(u * w for u, w in zip(row, y, strict=True)) for row in a],
            [-sum(u * w for u, w in zip(row, x, strict=True)) for row in zip(*a, strict=True)],
        )
        worst = Decimal(0)
        for gains, magnet, found in zip(q, log_magnet, log_p, strict=True):
            pairs = zip(gains, decimals(magnet), strict=True)
            wanted = [rho + gain / Decimal(alpha) for gain, rho in pairs]
            top = max(wanted)
            total = top + sum((w - top).exp() for w in wanted if w - top > -10_000).ln()
            for w, theta in zip(wanted, decimals(found), strict=True):
                worst = max(worst, abs(w - total - theta) / max(1, abs(w - total)))
        return float(worst)


def parts(game: Any, policy: Any, shape: tuple[int, int]) -> list[Array]:
    """The log-probabilities of both players in a game of these numbers of actions."""
    n, m = shape
    if isinstance(game, mg.MatrixGame):
        return [policy.log_probs[0, :n], policy.log_probs[1, :m]]
    tree = game.treeplex(policy) if isinstance(game, BehaviouralGame) else policy
    return [tree.coordinates[2 : 2 + n], tree.coordinates[2 + n :]]


KINDS = {
    "table": mg.MatrixGame,
    "tree": tree_of,
    "view": lambda payoff: BehaviouralGame(tree_of(payoff)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("outlier", "alpha"),
    [(1.0, 1e-12), (1.0, 1e12), (1e9, 1.0), (-1e9, 1e12), (-1e15, 1.0), (-1e15, 1e12)],
)
def test_a_quantal_response_is_right_or_refused(kind: str, outlier: float, alpha: float) -> None:
    answers, seeds = 0, range(3 if kind == "table" else 1)
    for seed in seeds:
        payoff = np.random.default_rng(seed).normal(size=(2, 3))
        payoff[seed % 2, seed] = outlier
        game = KINDS[kind](payoff)
        try:
            found = exact.qre(game, alpha)
        except exact.CertificateError:
            continue
        answers += 1
        start = game.center() if kind == "tree" else game.initial_policy()
        log_p, log_magnet = (parts(game, p, payoff.shape) for p in (found.policy, start))
        assert residual(payoff, log_p, log_magnet, alpha) <= 2.0 * exact.RESIDUAL_LIMIT
        assert np.isfinite(found.gap)
    # Only an `alpha` far below the payoffs may be refused.
    assert answers == len(seeds) or np.abs(outlier) / alpha > 1e6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "alpha"), [(1e300, 1e-12), (1.0, 5e-324), (1e9, 1e-300)])
def test_payoffs_that_overflow_beside_alpha_are_refused(
    kind: str, scale: float, alpha: float
) -> None:
    with pytest.raises(exact.CertificateError, match="are no floats: `alpha` is too small"):
        exact.qre(KINDS[kind](RPS * scale), alpha)


def test_no_context_hides_the_residual_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = np.full((2, 2, 2), 0.5)
    answers = iter([(np.log([0.5, 0.5]), 0.0), (np.log([0.5, 0.5]), np.nan)])
    monkeypatch.setattr(exact.tables, "regularised_pair", lambda *_: next(answers))
    with pytest.raises(exact.CertificateError, match="nan nats"):
        exact.qre(mg.PreferenceGame(rates), 1.0)


# Trees that are too large for decimal arithmetic


def test_without_decimals_a_tree_is_right_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_nash, "SMALL", 0)
    rng, answers = np.random.default_rng(0), 0
    for outlier in (1e6, -1e9, 1e12, -1e15, 1e15, 1e100, -1e300):
        for _ in range(4):
            payoff = rng.normal(size=(3, 4))
            payoff[rng.integers(3, size=2), rng.integers(4, size=2)] = outlier
            wanted = exact.nash(mg.MatrixGame(payoff)).value
            try:
                found = exact.nash(tree_of(payoff))
            except exact.CertificateError:
                continue
            answers += 1
            assert found.value == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert answers >= 14
