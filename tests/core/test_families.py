"""Families of games: what is planted in them is there."""

from __future__ import annotations

import numpy as np
import pytest

import mpo_games as mg
from mpo_games import exact
from mpo_games.games import families
from mpo_games.games.tree_builder import Decision, Payoff, build_tree


@pytest.mark.parametrize(("n", "k"), [(3, 2), (5, 1), (4, 6)])
def test_a_continuum_of_equilibria(n, k):
    for seed in range(5):
        game = families.many_equilibria(n, k, np.random.default_rng(seed))
        x, y = np.random.default_rng(seed).dirichlet(np.ones(n), size=2)
        rng = np.random.default_rng(100 + seed)
        row, penalty = np.append(x, np.zeros(k)), game.payoff[n:, n:]
        for share in (0.0, 0.3, 1.0):
            z = np.ones(k) / k + 0.02 / k * rng.uniform(-1, 1, size=k)
            z /= z.sum()
            assert (penalty @ z <= 0).all()
            column = np.append((1 - share) * y, share * z)
            assert float(game.duality_gap(game.policy(row, column))) < 1e-13
        assert exact.nash(game).value == pytest.approx(0.0, abs=1e-12)


def test_mne_is_of_the_kind():
    """The published game has the blocks of the family: RPS, nothing, By* = 0, and a penalty."""
    a = mg.load("mne").payoff
    assert not a[:3, 3:].any()
    assert not (a[3:, :3] @ np.ones(3)).any()
    assert (np.diag(a[3:, 3:]) == -2).all()


def test_many_equilibria_refuses():
    for n, k in ((0, 2), (3, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            families.many_equilibria(n, k, np.random.default_rng(0))


def test_a_perturbed_tree_is_the_same_tree():
    second = [
        Decision(1, "hidden", {"heads": Payoff(1.0 - 2 * i), "tails": Payoff(2.0 * i - 1)})
        for i in range(2)
    ]
    tree = build_tree(Decision(0, "first", {"heads": second[0], "tails": second[1]}))
    same = families.perturbed(tree, np.random.default_rng(0), 0.0)
    assert np.array_equal(same.payoff, tree.payoff)
    moved = families.perturbed(tree, np.random.default_rng(0))
    expected = 1.0 + 0.3 * np.random.default_rng(0).normal(size=4)
    np.testing.assert_array_equal(moved.payoff, tree.payoff * expected)
    assert moved.tree is tree.tree
    a, b, c, d = moved.payoff
    assert exact.nash(moved).value == pytest.approx((a * d - b * c) / (a + d - b - c))
