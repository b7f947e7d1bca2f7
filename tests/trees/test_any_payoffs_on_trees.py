"""The oracles of trees on payoffs of any size, against those of tables and Kuhn's known value."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import compiled

import mpo_games as mg
from mpo_games import exact
from mpo_games.exact import tree_nash
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Decision, Payoff, build_tree


def tree_of(payoff: np.ndarray) -> SequenceFormGame:
    n, m = payoff.shape
    rows = {
        str(i): Decision(1, "column", {str(j): Payoff(float(payoff[i, j])) for j in range(m)})
        for i in range(n)
    }
    return build_tree(Decision(0, "row", rows))


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e12, 1e15])
def test_a_constant_in_all_payoffs(offset: float) -> None:
    payoff = np.array([[0.0, 0.0], [-2.0, 3.0]])
    for game in (tree_of(payoff + offset), BehaviouralGame(tree_of(payoff + offset))):
        found = exact.nash(game)
        assert found.value == offset
        assert found.gap == 0.0
    plain = exact.qre(mg.MatrixGame(payoff), 0.3).policy.probs
    for one in (mg.MatrixGame(payoff + offset), BehaviouralGame(tree_of(payoff + offset))):
        answer = exact.qre(one, 0.3)
        np.testing.assert_allclose(np.squeeze(answer.policy.probs), plain, atol=1e-9)
        assert abs(answer.gap) < 1e-12
    tree = exact.qre(tree_of(payoff + offset), 0.3)
    np.testing.assert_allclose(tree.policy.probs[2:].reshape(2, 2), plain, atol=1e-9)
    assert abs(tree.gap) < 1e-12


@pytest.mark.parametrize("outlier", [-1e9, 1e9, -1e15, 1e15, -1e100, 1e300])
@pytest.mark.parametrize("seed", range(2))
def test_a_payoff_that_nobody_plays_costs_no_digit(outlier: float, seed: int) -> None:
    payoff = np.random.default_rng(seed).normal(size=(4, 3))
    payoff[seed, 1] = outlier
    wanted, found = exact.nash(mg.MatrixGame(payoff)), exact.nash(tree_of(payoff))
    assert found.value == pytest.approx(wanted.value, abs=1e-9)
    # The policies too: what they guarantee in the table.
    n = len(payoff)
    x, y = found.policy.probs[2 : 2 + n], found.policy.probs[2 + n :]
    low, high = (x @ payoff).min(), (payoff @ y).max()
    assert low == pytest.approx(wanted.value, abs=1e-9)
    assert high == pytest.approx(wanted.value, abs=1e-9)


@pytest.mark.parametrize("outlier", [-1e6, -1e12, 1e12])
def test_kuhn_with_one_payoff_of_another_size(outlier: float) -> None:
    """Decimal arithmetic and HiGHS agree on Kuhn, and with an outlier there is a certificate."""
    game = compiled("kuhn_poker")
    policy = next(tree_nash._in_many_digits(game))
    assert float(game.duality_gap(policy)) < 1e-15
    assert float(game.value(policy)) == pytest.approx(-1 / 18, abs=1e-15)
    payoff = game.payoff.copy()
    payoff[3] = outlier * game.chance[3]
    other = game.with_payoff(payoff)
    found = exact.nash(other)
    exactly = next(tree_nash._in_many_digits(other))
    assert found.value == pytest.approx(float(other.value(exactly)), abs=1e-9)
    assert found.gap < 1e-9


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_all_payoffs_tiny_or_huge(scale: float) -> None:
    game = compiled("kuhn_poker")
    found = exact.nash(game.with_payoff(scale * game.payoff))
    assert found.value == pytest.approx(-scale / 18, rel=1e-9)


def test_a_tree_that_is_too_large_for_decimals_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_nash, "SMALL", 0)
    payoff = np.random.default_rng(0).normal(size=(4, 4))
    payoff[1, 2] = -1e300
    monkeypatch.setattr(tree_nash, "_by_highs", lambda *_: iter(()))
    with pytest.raises(exact.CertificateError, match="payoffs that are played"):
        exact.nash(tree_of(payoff))
