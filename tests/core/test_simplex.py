"""The compiled simplex method: against HiGHS, and by complementary slackness, on any game."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from mpo_games import exact
from mpo_games.exact.simplex_method import optimal_pair
from mpo_games.protocol import Array

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))

TIED = SIZES.flatmap(lambda size: arrays(np.float64, size, elements=st.integers(-2, 2).map(float)))
"""Small whole numbers: ties, zeros, equal rows and dominated ones."""

ANY = SIZES.flatmap(lambda size: arrays(np.float64, size, elements=st.floats(-1e6, 1e6)))
"""Payoffs as Hypothesis likes them: of very different sizes, some equal."""


def gap(payoff: Array, pair: Array) -> float:
    n, m = payoff.shape
    return float((payoff @ pair[1, :m]).max() - (pair[0, :n] @ payoff).min())


def is_a_pair_of_policies(payoff: Array, pair: Array) -> bool:
    n, m = payoff.shape
    return (
        pair.shape == (2, max(n, m))
        and bool((pair >= 0.0).all())
        and not pair[0, n:].any()
        and not pair[1, m:].any()
        and pair.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-14)
    )


def by_highs(payoff: Array) -> Array:
    """An optimal pair by HiGHS, `(2, max(n, m))`."""
    n, m = payoff.shape
    # Range 1: HiGHS has absolute tolerances. From 0: `bounds` allow no negative value.
    unit = (payoff - payoff.min()) / np.ptp(payoff)
    answer = linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.hstack([-unit.T, np.ones((m, 1))]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=(0.0, None),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    pair = np.zeros((2, max(n, m)))
    # In a minimisation the multipliers of upper bounds are at most 0.
    for side, p in enumerate((answer.x[:n], -answer.ineqlin.marginals)):
        pair[side, : len(p)] = np.maximum(p, 0.0) / np.maximum(p, 0.0).sum()
    return pair


@given(payoff=TIED)
def test_degenerate_games_are_solved_to_the_last_digits(payoff: Array) -> None:
    pair = optimal_pair(payoff)
    assert is_a_pair_of_policies(payoff, pair)
    assert abs(gap(payoff, pair)) <= 2e-15 * np.abs(payoff).max()


@settings(deadline=None)
@given(payoff=st.one_of(TIED, ANY))
def test_the_value_is_that_of_highs(payoff: Array) -> None:
    n, m = payoff.shape
    bound = np.abs(payoff).max()
    if np.ptp(payoff) <= 1e-12 * bound:
        return  # HiGHS solves it scaled to range 1: its payoffs would be rounding
    other = by_highs(payoff)
    value = exact.tables._optimal(payoff)[2]
    theirs = other[0, :n] @ payoff @ other[1, :m]
    assert value == pytest.approx(theirs, abs=gap(payoff, other) + 1e-14 * bound)


@given(payoff=ANY)
def test_the_oracle_certifies_any_game(payoff: Array) -> None:
    log_p, support, value, found, share = exact.tables._optimal(payoff)
    bound = np.abs(payoff).max()
    assert share <= exact.GAP_LIMIT
    assert found == pytest.approx(gap(payoff, np.exp(log_p)), abs=1e-14 * bound)
    n, m = payoff.shape
    guaranteed = (np.exp(log_p[0, :n]) @ payoff).min(), (payoff @ np.exp(log_p[1, :m])).max()
    assert guaranteed[0] - 1e-14 * bound <= value <= guaranteed[1] + 1e-14 * bound
    np.testing.assert_array_equal(support, np.exp(log_p) > exact.SUPPORT)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (4, 9), (9, 4), (40, 25), (60, 60)])
def test_complementary_slackness(shape: tuple[int, int]) -> None:
    n, m = shape
    for seed in range(5):
        payoff = np.random.default_rng(seed).standard_normal(shape)
        pair = optimal_pair(payoff)
        x, y = pair[0, :n], pair[1, :m]
        assert is_a_pair_of_policies(payoff, pair)
        # A generic game has one equilibrium, with as many rows as columns in play.
        assert (x > 0.0).sum() == (y > 0.0).sum()
        np.testing.assert_allclose((payoff @ y)[x > 0.0], x @ payoff @ y, atol=2e-15)
        np.testing.assert_allclose((x @ payoff)[y > 0.0], x @ payoff @ y, atol=2e-15)
        assert gap(payoff, pair) <= 2e-15 * np.abs(payoff).max()


@pytest.mark.parametrize("family", ["signs", "sparse", "rank two", "rows of any scale"])
def test_large_and_hard_games(family: str) -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((80, 50))
    payoff = {
        "signs": np.sign(normal[:, :, None] - normal[:, None]).sum(axis=0),
        "sparse": np.where(np.abs(normal) > 1.5, normal, 0.0),
        "rank two": normal[:, :2] @ normal[:2],
        "rows of any scale": normal * 10.0 ** rng.integers(-6, 7, (80, 1)),
    }[family]
    assert gap(payoff, optimal_pair(payoff)) <= 1e-14 * np.abs(payoff).max()


def test_copies_of_rows_and_columns_change_nothing_that_counts() -> None:
    payoff = np.random.default_rng(1).standard_normal((5, 6))
    rows, columns = [0, 0, 1, 2, 3, 4, 4, 4], [5, 0, 1, 2, 2, 3, 4]
    copied = payoff[np.ix_(rows, columns)]
    plain, pair = optimal_pair(payoff), optimal_pair(copied)
    for side, copies, size in ((0, rows, 5), (1, columns, 6)):
        merged = np.bincount(copies, pair[side, : len(copies)], size)
        np.testing.assert_allclose(merged, plain[side, :size], atol=1e-14)


def test_permutation_and_transposition() -> None:
    rng = np.random.default_rng(2)
    payoff = rng.standard_normal((6, 8))
    plain = optimal_pair(payoff)
    rows, columns = rng.permutation(6), rng.permutation(8)
    permuted = optimal_pair(payoff[np.ix_(rows, columns)])
    np.testing.assert_allclose(permuted[0, :6], plain[0, rows], atol=1e-14)
    np.testing.assert_allclose(permuted[1, :8], plain[1, columns], atol=1e-14)
    np.testing.assert_allclose(optimal_pair(-payoff.T), plain[::-1], atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_comes_from_nonsense(bad: float) -> None:
    payoff = np.array([[1.0, bad], [0.0, 2.0]])
    assert np.isnan(optimal_pair(payoff)).any()


def test_the_payoffs_are_only_read() -> None:
    payoff = np.eye(3)
    payoff.setflags(write=False)
    np.testing.assert_allclose(optimal_pair(payoff), np.full((2, 3), 1 / 3), atol=1e-15)
