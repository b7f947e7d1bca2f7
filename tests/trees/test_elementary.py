"""The exponential and the logarithm of the tree kernels against NumPy's."""

from __future__ import annotations

import numpy as np
from numba import njit

from mpo_games.kernels import elementary


@njit
def each_exp(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = elementary.exp(x[i])
    return y


@njit
def each_log(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = elementary.log(x[i])
    return y


def test_exp_is_exact_to_two_ulps() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([-rng.exponential(size=10**5) * s for s in (1e-12, 1.0, 30.0, 100.0)])
    x = np.concatenate([x[x > -707], rng.uniform(-1, 700, 10**5), [0.0, -707.9]])
    expected = np.exp(x)
    assert (np.abs(each_exp(x) - expected) <= 2 * np.spacing(expected)).all()


def test_log_is_exact_to_two_ulps() -> None:
    rng = np.random.default_rng(0)
    powers = 10 ** rng.uniform(-307, 307, 10**5)
    x = np.concatenate([rng.uniform(0.5, 20, 10**5), 1 + rng.normal(size=10**5) * 1e-9, powers])
    expected = np.log(x)
    assert (np.abs(each_log(x) - expected) <= 2 * np.spacing(np.abs(expected))).all()


def test_corners() -> None:
    """What underflows is 0, NaN is seen, and certainty is exact."""
    x = np.array([0.0, -708.5, -800.0, -1e300, -np.inf, np.nan])
    np.testing.assert_array_equal(each_exp(x), [1.0, 0.0, 0.0, 0.0, 0.0, np.nan])
    np.testing.assert_array_equal(each_log(np.array([1.0, np.nan])), [0.0, np.nan])
