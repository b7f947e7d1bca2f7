"""The compiled loops are their NumPy equations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from mpo_games.kernels.tables import (
    advantages,
    bilinear,
    entropy_step,
    log_coordinates,
    proportional,
    pure,
)


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    actions=st.integers(1, 40),
    eta=st.floats(1e-6, 1e6),
    alpha=st.floats(0.0, 1e6),
)
def test_entropy_step(seed: int, rows: int, actions: int, eta: float, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    log_p, log_m = (log_softmax(rng.normal(size=(rows, actions)) * 5, axis=-1) for _ in range(2))
    q = rng.normal(size=(rows, actions))
    expected = log_softmax((log_p + eta * (q + alpha * log_m)) / (1.0 + eta * alpha), axis=-1)
    found = entropy_step(log_p, q, log_m, eta, alpha)
    scale = 1e-13 * (1.0 + np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=scale)


def test_entropy_step_keeps_illegal_actions_and_only_these() -> None:
    log_p = np.array([[0.0, -np.inf, -800.0], [-np.inf, -np.inf, 0.0]])
    log_m = np.where(log_p > -np.inf, -1.0, -np.inf)
    new = entropy_step(log_p, np.full((2, 3), 1e9), log_m, 1.0, 1.0)
    np.testing.assert_array_equal(new == -np.inf, log_p == -np.inf)
    assert not np.isnan(new).any()
    assert new[1, 2] == 0.0


def test_entropy_step_writes_none_of_its_inputs() -> None:
    arrays = [np.zeros((2, 3)) for _ in range(3)]
    for array in arrays:
        array.setflags(write=False)
    entropy_step(*arrays, 1.0, 1.0)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), m=st.integers(1, 30))
def test_bilinear(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    payoff, x, y = rng.normal(size=(n, m)), rng.normal(size=n), rng.normal(size=m)
    found = bilinear(payoff, x, y)
    assert found.shape == (2, max(n, m))
    np.testing.assert_allclose(found[0, :n], payoff @ y, atol=1e-12)
    np.testing.assert_allclose(found[1, :m], -(x @ payoff), atol=1e-12)
    assert np.all(found[0, n:] == 0.0)
    assert np.all(found[1, m:] == 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernels_pass_nan_and_infinity_on(bad: float) -> None:
    payoff = np.array([[bad, 0.0], [0.0, 1.0]])
    assert not np.isfinite(bilinear(payoff, np.full(2, 0.5), np.full(2, 0.5))).all()
    zero = np.zeros((1, 2))
    assert np.isnan(entropy_step(zero, payoff[:1], zero, 1.0, 0.0)).any()


@given(seed=st.integers(0, 10**6), n_rows=st.integers(1, 4), actions=st.integers(1, 9))
def test_kernels_of_rows(seed: int, n_rows: int, actions: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-2, 3, (n_rows, actions)).astype(float)  # with ties
    legal = rng.random((n_rows, actions)) < 0.7
    legal[:, rng.integers(actions)] = True

    p = legal / legal.sum(axis=-1, keepdims=True)
    mean = np.sum(p * q, axis=-1, keepdims=True)
    np.testing.assert_allclose(advantages(p, q), q - mean, atol=1e-15)

    best = np.argmax(np.where(legal, q, -np.inf), axis=-1)
    np.testing.assert_array_equal(pure(q, legal), np.arange(actions) == best[:, None])

    positive = np.where(legal, np.maximum(q, 0.0), 0.0)
    total = positive.sum(axis=-1, keepdims=True)
    uniform = legal / legal.sum(axis=-1, keepdims=True)
    expected = np.where(total > 0.0, positive / np.where(total > 0.0, total, 1.0), uniform)
    np.testing.assert_allclose(proportional(q, legal), expected, rtol=1e-15)

    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(expected), -800.0)
    found = log_coordinates(expected, legal, -800.0)
    np.testing.assert_allclose(found, np.where(legal, logs, -np.inf), rtol=1e-15)


def test_nan_is_neither_0_nor_uniform_play() -> None:
    bad, legal = np.array([[np.nan, 0.5]]), np.ones((1, 2), dtype=bool)
    assert np.isnan(log_coordinates(bad, legal, -800.0)[0, 0])
    assert np.isnan(proportional(bad, legal)).any()
