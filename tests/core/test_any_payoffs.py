"""The oracle of tables on payoffs of any size, against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from exact_values import security, value_of
from hypothesis import given, settings
from hypothesis import strategies as st

import mpo_games as mg
from mpo_games import exact
from mpo_games.exact import any_payoffs, simplex_method
from mpo_games.protocol import Array


def require_right(payoff: Array, value: Fraction | None = None) -> None:
    """The oracle's policies guarantee the value, up to 1e-9 of the payoffs that are played."""
    found = exact.nash(mg.MatrixGame(payoff))
    n, m = payoff.shape
    x, y = found.policy.probs[0, :n], found.policy.probs[1, :m]
    low, high, spread = security(payoff, x, y)
    # What one rounding of a probability changes for the best responses cannot be avoided.
    limit = Fraction(1e-9) * spread + Fraction(1e-13) * met(payoff, x, y)
    assert high - low <= limit
    wanted = value_of(payoff) if value is None else value
    rounding = Fraction(float(np.spacing(np.abs(float(wanted)))))
    assert low <= wanted <= high
    assert abs(Fraction(found.value) - wanted) <= limit + rounding
    assert abs(Fraction(found.gap)) <= limit + rounding


def met(payoff: Array, x: Array, y: Array) -> Fraction:
    """The mean absolute payoffs that the best responses meet."""
    n, m = payoff.shape
    a = [[Fraction(u) for u in row] for row in payoff.tolist()]
    p, q = [Fraction(w) for w in x.tolist()], [Fraction(w) for w in y.tolist()]
    above = [sum(a[i][j] * q[j] for j in range(m)) for i in range(n)]
    below = [sum(a[i][j] * p[i] for i in range(n)) for j in range(m)]
    v = sum(p[i] * above[i] for i in range(n)) / sum(p)
    i, j = above.index(max(above)), below.index(min(below))
    row = sum(abs(a[i][k] - v) * q[k] for k in range(m))
    return max(row, sum(abs(a[k][j] - v) * p[k] for k in range(n)))


@pytest.mark.parametrize("outlier", [-1e9, 1e9, -1e15, 1e15, -1e300, 1e300, 1.7e308, -1.7e308])
@pytest.mark.parametrize("seed", range(3))
def test_a_payoff_that_nobody_plays_decides_and_costs_no_digit(outlier: float, seed: int) -> None:
    payoff = np.random.default_rng(seed).normal(size=(4, 4))
    payoff[seed % 4, (2 * seed + 1) % 4] = outlier
    require_right(payoff)


SCALES = (0.0, 1.0, 1.0, 1.0, -1.0, 1e-6, 1e9, -1e9, 1e15, -1e15, 1e100, -1e100)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_cells_of_any_scales(data: st.DataObject, seed: int) -> None:
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    scale = data.draw(st.lists(st.sampled_from(SCALES), min_size=n * m, max_size=n * m))
    payoff = np.random.default_rng(seed).uniform(0.5, 2.0, (n, m)) * np.reshape(scale, (n, m))
    right_or_refused(payoff)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_rows_and_columns_of_any_scales(data: st.DataObject, seed: int) -> None:
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    scales = st.sampled_from((1e-150, 1e-9, 1.0, 1.0, 1e6, 1e12, 1e150))
    rows, columns = (
        np.array(data.draw(st.lists(scales, min_size=size, max_size=size))) for size in (n, m)
    )
    kind = data.draw(st.sampled_from(["normal", "whole", "duplicate"]))
    rng = np.random.default_rng(seed)
    payoff = rng.normal(size=(n, m)) if kind == "normal" else rng.integers(-2, 3, (n, m)) * 1.0
    payoff = payoff * rows[:, None] * columns
    if kind == "duplicate":
        payoff = payoff[np.ix_(rng.integers(0, n, n), rng.integers(0, m, m))]
    right_or_refused(payoff)


def right_or_refused(payoff: Array) -> None:
    """Refused only if the equilibrium needs a probability below the smallest float."""
    try:
        require_right(payoff)
    except exact.CertificateError:
        sizes = np.abs(payoff[payoff != 0.0])
        assert sizes.max() / sizes.min() > 1e60


@pytest.mark.parametrize("scale", [1e-300, 5e-324, 1e-200, 1e200, 1e300])
def test_all_payoffs_tiny_or_huge(scale: float) -> None:
    for payoff in ([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], [[1, 2], [5, 1]], [[2, 2], [2, 2]]):
        game = mg.MatrixGame(np.array(payoff) * scale)
        found, plain = exact.nash(game), exact.nash(mg.MatrixGame(payoff))
        np.testing.assert_allclose(found.policy.probs, plain.policy.probs, rtol=1e-9, atol=1e-12)
        assert found.value == pytest.approx(plain.value * scale, rel=1e-9, abs=1e-15 * scale)


@pytest.mark.parametrize("offset", [1e9, -1e12, 1e15, 1e250])
def test_a_constant_in_all_payoffs(offset: float) -> None:
    rng = np.random.default_rng(4)
    for shape in ((2, 2), (4, 3), (1, 4)):
        payoff = np.round(rng.normal(size=shape) * 64) * max(np.spacing(offset), 1.0)
        require_right(payoff + offset)
        plain = exact.nash(mg.MatrixGame(payoff))
        found = exact.nash(mg.MatrixGame(payoff + offset))
        np.testing.assert_allclose(found.policy.probs, plain.policy.probs, atol=1e-9)


@pytest.mark.parametrize("n", [7, 30, 100])
@pytest.mark.parametrize("outlier", [-1e9, 1e15, -1e15, 1e300])
def test_large_games_with_outliers_are_certified(n: int, outlier: float) -> None:
    rng = np.random.default_rng(n)
    payoff = rng.normal(size=(n, n + 3))
    payoff[rng.integers(n), rng.integers(n)] = outlier
    found = exact.nash(mg.MatrixGame(payoff))
    _, support, value, gap, share = any_payoffs.certificate(payoff, found.policy.probs)
    assert share <= 1e-9
    assert gap < 1e-9  # the payoffs that are played are of size 1
    assert found.value == pytest.approx(value, abs=1e-9)
    np.testing.assert_array_equal(found.support, support)


def test_both_certificates_agree() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        payoff = rng.normal(size=rng.integers(1, 6, 2)) + 1e3
        n, m = payoff.shape
        pair = np.zeros((2, max(n, m)))
        pair[0, :n], pair[1, :m] = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
        one = simplex_method.certificate(payoff, pair)
        other = any_payoffs.certificate(payoff, pair)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_decimals_alone_solve_degenerate_games() -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        payoff = rng.integers(-2, 3, rng.integers(1, 5, 2)).astype(float)
        low, high = any_payoffs.security(payoff)
        if low == high:
            continue
        pair = any_payoffs.solved_in_many_digits(payoff, None)
        assert pair is not None
        assert any_payoffs.certificate(payoff, pair)[-1] < 1e-14
        value = any_payoffs.certificate(payoff, pair)[2]
        assert value == pytest.approx(float(value_of(payoff)), abs=1e-14)


def test_preferences_of_nearly_even_judges() -> None:
    """All preferences within 1e-9 of 1/2, but for one: what is played is still decided."""
    tilt = np.array([[0, -1, 3, 1], [1, 0, -1, 1], [-3, 1, 0, 1], [-1, -1, -1, 0]]) * 2.0**-34
    tilt[3, :3], tilt[:3, 3] = -0.5, 0.5
    found = exact.nash(mg.PreferenceGame(0.5 + tilt))
    np.testing.assert_allclose(found.policy.probs[0], [0.2, 0.6, 0.2, 0.0], atol=1e-9)
    assert found.gap < 1e-9 * 2.0**-34


def test_a_wrong_answer_has_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the oracle accepted when its certificate was relative to the largest payoff."""
    payoff = np.random.default_rng(0).normal(size=(4, 4))
    payoff[1, 2] = -1e9
    pair = exact.nash(mg.MatrixGame(payoff)).policy.probs
    pair[0, 1] += 1e-8
    answer = simplex_method.certificate(payoff, pair)
    assert 1.0 < answer[-2] < 1e-7 * 1e9
    assert answer[-1] > 0.1
    monkeypatch.setattr(exact.tables, "certified_pair", lambda payoff: answer)
    monkeypatch.setattr(any_payoffs, "optimal", lambda payoff, first, enough: first)
    with pytest.raises(exact.CertificateError, match="times the payoffs that are played"):
        exact.nash(mg.MatrixGame(payoff))
