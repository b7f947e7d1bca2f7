"""Every closed-form step solves its optimisation problem, in both geometries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from mpo_games import Entropy, Euclidean
from mpo_games.kernels.tables import LOG_ZERO
from mpo_games.policies.mirror_maps import Geometry

GEOMETRIES = [Entropy(), Euclidean()]
in_both = pytest.mark.parametrize("geometry", GEOMETRIES, ids=["entropy", "euclidean"])


def simplex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def problem(seed: int, geometry: Geometry, rows: int = 3, actions: int = 5):
    """A random step: coordinates (with an illegal action), feedback, magnet, eta and alpha."""
    rng = np.random.default_rng(seed)
    legal = np.ones((rows, actions), dtype=bool)
    legal[0, -1] = False
    p, m = (simplex(rng, rows, actions) * legal for _ in range(2))
    p, m = (x / x.sum(-1, keepdims=True) for x in (p, m))
    q = rng.normal(size=(rows, actions)) * 10.0 ** rng.uniform(-2, 1)
    eta, alpha = 10.0 ** rng.uniform(-2, 1, 2)
    theta, magnet = (geometry.coordinates(x, legal) for x in (p, m))
    return theta, q, magnet, float(eta), float(alpha), legal


def gradient(geometry: Geometry, new, theta, q, magnet, eta, alpha):
    """Of `eta <q, p> - eta alpha D(p || magnet) - D(p || theta)`, up to a constant per row."""
    return eta * q - eta * alpha * (new - magnet) - (new - theta)


@in_both
@given(seed=st.integers(0, 10**6))
def test_first_order_optimality(geometry: Geometry, seed: int) -> None:
    theta, q, magnet, eta, alpha, legal = problem(seed, geometry)
    new = geometry.step(theta, q, magnet, eta, alpha)
    p = geometry.probs(new)
    assert np.all(p[~legal] == 0.0)
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-12)
    for r in range(len(p)):
        on = legal[r]
        slope = gradient(geometry, *(x[r][on] for x in (new, theta, q, magnet)), eta, alpha)
        support = p[r][on] > 0.0
        scale = 1e-11 * (1.0 + np.abs(slope).max() + eta * np.abs(q[r]).max())
        level = slope[support].max()
        assert np.ptp(slope[support]) < scale
        assert np.all(slope <= level + scale)


# scipy 1.11 says so when SLSQP tries a point a rounding error outside its box.
@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")
@in_both
@pytest.mark.parametrize("seed", range(3))
def test_a_numerical_maximiser_finds_the_same_point(geometry: Geometry, seed: int) -> None:
    theta, q, magnet, _, _, legal = problem(seed, geometry, rows=1, actions=4)
    eta, alpha, on = 0.7, 0.4, legal[0]

    def loss(p: np.ndarray) -> float:
        full = np.zeros((1, 4))
        full[0, on] = np.maximum(p, 1e-300)
        new = geometry.coordinates(full, legal)
        near, far = geometry.divergence(new, theta)[0], geometry.divergence(new, magnet)[0]
        return float(near + eta * alpha * far - eta * full[0] @ q[0])

    count = int(on.sum())
    found = minimize(
        loss,
        np.full(count, 1.0 / count),
        bounds=[(1e-9, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1.0},
        options={"ftol": 1e-15, "maxiter": 500},
        method="SLSQP",
    )
    ours = geometry.probs(geometry.step(theta, q, magnet, eta, alpha))[0, on]
    assert loss(ours) <= found.fun + 1e-12
    np.testing.assert_allclose(ours, found.x, atol=3e-6)


@given(seed=st.integers(0, 10**6))
def test_implicit_and_explicit_forms_are_one_map(seed: int) -> None:
    theta, q, magnet, eta, alpha, legal = problem(seed, Entropy())
    step = eta / (1.0 + eta * alpha)
    pull = np.where(legal, magnet, 0.0)
    explicit = log_softmax((1.0 - step * alpha) * theta + step * alpha * pull + step * q, axis=-1)
    new = Entropy().step(theta, q, magnet, eta, alpha)
    np.testing.assert_allclose(new, explicit, rtol=1e-12, atol=1e-12)


@in_both
@given(seed=st.integers(0, 10**6), shift=st.floats(-1e3, 1e3))
def test_permutations_commute_and_constants_do_not_matter(
    geometry: Geometry, seed: int, shift: float
) -> None:
    theta, q, magnet, eta, alpha, _ = problem(seed, geometry)
    new = geometry.probs(geometry.step(theta, q, magnet, eta, alpha))
    order = np.random.default_rng(seed).permutation(theta.shape[-1])
    shuffled = geometry.step(theta[:, order], q[:, order], magnet[:, order], eta, alpha)
    np.testing.assert_allclose(geometry.probs(shuffled), new[:, order], atol=1e-12)
    shifted = geometry.probs(geometry.step(theta, q + shift, magnet, eta, alpha))
    np.testing.assert_allclose(shifted, new, atol=1e-14 * (1 + eta * abs(shift)) * 10)


@in_both
def test_a_batch_is_its_members(geometry: Geometry) -> None:
    members = [problem(seed, geometry) for seed in range(6)]
    theta, q, magnet = (np.stack([m[i] for m in members]) for i in range(3))
    etas, alphas = (np.array([m[i] for m in members])[:, None, None] for i in (3, 4))
    loop = [geometry.step(*m[:3], m[3], m[4]) for m in members]
    np.testing.assert_allclose(
        geometry.probs(geometry.step(theta, q, magnet, etas, alphas)),
        geometry.probs(np.stack(loop)),
        rtol=1e-11,
        atol=1e-14,
    )
    same = np.stack([geometry.step(*m[:3], 0.3, 0.1) for m in members])
    np.testing.assert_array_equal(geometry.step(theta, q, magnet, 0.3, 0.1), same)
    one = members[0][0]
    spread = geometry.step(one, q, magnet, 0.3, 0.1)  # one policy against a batch of feedback
    for i in range(6):
        np.testing.assert_array_equal(spread[i], geometry.step(one, q[i], magnet[i], 0.3, 0.1))


@in_both
@pytest.mark.parametrize("number", [int, np.float32, np.float64, np.int64, np.array])
def test_any_kind_of_number_is_a_step_size(geometry: Geometry, number: type) -> None:
    theta, q, magnet, _, _, _ = problem(0, geometry)
    new = geometry.step(theta, q, magnet, number(2), number(1))
    np.testing.assert_allclose(new, geometry.step(theta, q, magnet, 2.0, 1.0), rtol=1e-14)


@in_both
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_any_kind_of_feedback_gives_float64(geometry: Geometry, dtype: type) -> None:
    theta, _, magnet, _, _, _ = problem(0, geometry)
    q = np.arange(15).reshape(3, 5).astype(dtype)
    new = geometry.step(theta, q, magnet, 0.5, 0.5)
    assert new.dtype == np.float64
    expected = geometry.step(theta, q.astype(float), magnet, 0.5, 0.5)
    np.testing.assert_allclose(new, expected, rtol=1e-14)


@in_both
@pytest.mark.parametrize("scale", [1e12, 1e-12, 0.0])
def test_finite_at_any_payoff(geometry: Geometry, scale: float) -> None:
    theta, q, magnet, _, _, legal = problem(1, geometry)
    for eta in (1.0, np.ones((3, 1))):
        for _ in range(200):
            theta = geometry.step(theta, scale * q, magnet, eta, 1.0)
            assert np.isfinite(theta[legal]).all()
            assert np.all(theta[~legal] == -np.inf)
            np.testing.assert_allclose(geometry.probs(theta).sum(-1), 1.0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, np.full((1, 1), 0.5)], ids=["kernel", "numpy"])
def test_finite_at_log_probabilities_of_a_million(eta: float) -> None:
    theta = np.array([[-1e6, 0.0, -np.inf]])
    magnet = np.array([[0.0, -1e6, -np.inf]])
    q = np.array([[1.0, -1.0, 0.0]])
    new = Entropy().step(theta, q, magnet, eta, 0.5)
    z = (theta[0, :2] + 0.5 * (q[0, :2] + 0.5 * magnet[0, :2])) / 1.25
    np.testing.assert_allclose(new[0, :2], log_softmax(z), rtol=1e-14)
    assert new[0, 2] == -np.inf
    assert np.isfinite(Entropy().divergence(theta, magnet)).all()
    assert Entropy().divergence(theta, magnet)[0] == pytest.approx(1e6)


@in_both
def test_a_legal_action_of_probability_zero_comes_back(geometry: Geometry) -> None:
    legal = np.array([[True, True, False]])
    theta = geometry.coordinates(np.array([[0.0, 1.0, 0.0]]), legal)
    assert np.isfinite(theta[0, 0])
    for _ in range(2000):
        theta = geometry.step(theta, np.array([[1.0, 0.0, 5.0]]), None, 1.0, 0.0)
    np.testing.assert_allclose(geometry.probs(theta), [[1.0, 0.0, 0.0]], atol=1e-12)


@in_both
def test_nan_is_never_hidden(geometry: Geometry) -> None:
    theta, q, magnet, _, _, legal = problem(1, geometry)
    q[0, 0] = np.nan
    for eta in (0.1, np.full((1, 1), 0.1)):
        assert np.isnan(geometry.step(theta, q, magnet, eta, 0.1)[0, :4]).any()
    assert np.isnan(geometry.coordinates(np.full((3, 5), np.nan), legal)[legal]).all()


@in_both
@given(seed=st.integers(0, 10**6))
def test_divergences(geometry: Geometry, seed: int) -> None:
    theta, _, other, _, _, legal = problem(seed, geometry)
    p, r = geometry.probs(theta), geometry.probs(other)
    if isinstance(geometry, Entropy):
        logs = np.log(np.where(legal, p, 1.0)) - np.log(np.where(legal, r, 1.0))
        expected = np.sum(p * logs, axis=-1)
    else:
        expected = 0.5 * np.sum((p - r) ** 2, axis=-1)
    found = geometry.divergence(theta, other)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.all(found >= -1e-15)
    np.testing.assert_array_equal(geometry.divergence(theta, theta), 0.0)


@in_both
def test_three_points_of_bregman(geometry: Geometry) -> None:
    """`D(a||c) = D(a||b) + D(b||c) + <a - b, grad h(b) - grad h(c)>`: mirror maps."""
    rng = np.random.default_rng(0)
    legal = np.ones((4, 6), dtype=bool)
    pa, pb, pc = (simplex(rng, 4, 6) for _ in range(3))
    a, b, c = (geometry.coordinates(p, legal) for p in (pa, pb, pc))
    right = geometry.divergence(a, b) + geometry.divergence(b, c) + ((pa - pb) * (b - c)).sum(-1)
    np.testing.assert_allclose(geometry.divergence(a, c), right, atol=1e-12)


def test_projection_is_nearest() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        z = rng.normal(size=(1, 6)) * 3
        zero = np.zeros((1, 6))
        p = Euclidean().step(zero, z, None, 1.0, 0.0)[0]
        others = simplex(rng, 200, 6)
        # Variational inequality of a projection: <z - p, y - p> <= 0 for all y.
        assert np.all((others - p) @ (z[0] - p) <= 1e-12)


def test_a_legal_zero_is_finite_in_coordinates_and_exactly_0_in_play() -> None:
    assert np.isfinite(LOG_ZERO)
    assert np.exp(LOG_ZERO) == 0.0
