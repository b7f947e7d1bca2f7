"""Tables: construction, mixing, penalties, one side at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo_games import Entropy, Euclidean, Mixture, TabularPolicy
from mpo_games.policies.mirror_maps import Geometry
from mpo_games.policies.tabular import probabilities

in_both = pytest.mark.parametrize("geometry", [Entropy(), Euclidean()], ids=["kl", "l2"])
LEGAL = np.array([[True, True, True, False], [True, True, True, True]])


def table(seed: int, geometry: Geometry = Entropy(), batch: tuple[int, ...] = ()) -> TabularPolicy:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), (*batch, 2)) * LEGAL
    p /= p.sum(-1, keepdims=True)
    return TabularPolicy.from_probs(p, np.broadcast_to(LEGAL, p.shape), geometry)


@in_both
def test_probabilities_come_back(geometry: Geometry) -> None:
    p = table(0, geometry).probs
    again = TabularPolicy.from_probs(p, LEGAL, geometry)
    np.testing.assert_allclose(again.probs, p, rtol=1e-14)
    np.testing.assert_array_equal(again.legal, LEGAL)
    np.testing.assert_allclose(np.exp(again.log_probs), p, rtol=1e-14)
    uniform = TabularPolicy.uniform(LEGAL, geometry)
    np.testing.assert_allclose(uniform.probs, LEGAL / LEGAL.sum(-1, keepdims=True), rtol=1e-15)


def test_integers_and_lists_are_probabilities() -> None:
    policy = TabularPolicy.from_probs([[1, 0], [0, 1]])
    assert policy.coordinates.dtype == np.float64
    np.testing.assert_allclose(policy.probs, np.eye(2), atol=1e-300)
    assert np.isfinite(policy.log_probs).all()


@pytest.mark.parametrize(
    ("probs", "legal"),
    [
        ([0.5, 0.5], None),
        ([[0.5, 0.4]], None),
        ([[1.5, -0.5]], None),
        ([[np.nan, 1.0]], None),
        ([[np.inf, 1.0]], None),
        ([[0.5, 0.5]], [[True, False]]),
    ],
)
def test_what_is_not_a_distribution_is_refused(probs: list, legal: list | None) -> None:
    with pytest.raises(ValueError, match="`probs`"):
        TabularPolicy.from_probs(probs, legal)


@pytest.mark.parametrize("legal", [[True], [[False, False]]])
def test_every_row_needs_a_legal_action(legal: list) -> None:
    with pytest.raises(ValueError, match="`legal`"):
        TabularPolicy.uniform(legal)


@in_both
def test_one_side_alone(geometry: Geometry) -> None:
    policy, magnet = table(0, geometry), table(1, geometry)
    q = np.random.default_rng(2).normal(size=(2, 4))
    both = policy.mirror_step(q, magnet, eta=0.5, alpha=0.2)
    for player in (0, 1):
        one = policy.mirror_step(q, magnet, eta=0.5, alpha=0.2, player=player)
        np.testing.assert_array_equal(one.coordinates[player], both.coordinates[player])
        other = 1 - player
        np.testing.assert_array_equal(one.coordinates[other], policy.coordinates[other])


@in_both
@pytest.mark.parametrize("alpha", [0.1, 1, np.nan, np.array([[0.0], [0.1]])])
def test_a_pull_needs_a_magnet(geometry: Geometry, alpha: float) -> None:
    with pytest.raises(ValueError, match="`alpha` must be 0 without a magnet"):
        table(0, geometry).mirror_step(np.zeros((2, 4)), None, eta=0.5, alpha=alpha)


@in_both
@pytest.mark.parametrize("alpha", [0.0, 0, np.zeros((2, 1))])
def test_no_magnet_is_no_pull(geometry: Geometry, alpha: float) -> None:
    policy, q = table(0, geometry), np.random.default_rng(2).normal(size=(2, 4))
    pulled = policy.mirror_step(q, table(1, geometry), eta=0.5, alpha=0.0)
    free = policy.mirror_step(q, None, eta=0.5, alpha=alpha)
    np.testing.assert_allclose(free.coordinates, pulled.coordinates, rtol=1e-14)


@in_both
def test_many_settings_in_one_batch(geometry: Geometry) -> None:
    policy, magnet = table(0, geometry), table(1, geometry)
    q = np.random.default_rng(2).normal(size=(2, 4))
    etas, alphas = np.geomspace(1e-2, 10, 7), np.geomspace(10, 1e-2, 7)
    many = policy.mirror_step(q, magnet, eta=etas[:, None, None], alpha=alphas[:, None, None])
    for i, (eta, alpha) in enumerate(zip(etas, alphas, strict=True)):
        one = policy.mirror_step(q, magnet, eta=float(eta), alpha=float(alpha))
        np.testing.assert_allclose(many.probs[i], one.probs, rtol=1e-12, atol=1e-15)


@given(seed=st.integers(0, 10**6), weight=st.floats(0, 1))
def test_mix_is_the_geometric_mean(seed: int, weight: float) -> None:
    a, b = table(seed), table(seed + 1)
    mean = a.probs ** (1.0 - weight) * b.probs**weight * LEGAL
    mean /= mean.sum(-1, keepdims=True)
    np.testing.assert_allclose(a.mix(b, weight).probs, mean, rtol=1e-11)


def test_mix_in_the_euclidean_geometry_is_the_mean() -> None:
    a, b = table(0, Euclidean()), table(1, Euclidean())
    np.testing.assert_allclose(a.mix(b, 0.3).probs, 0.7 * a.probs + 0.3 * b.probs, rtol=1e-13)


@in_both
def test_mix_ends(geometry: Geometry) -> None:
    a, b = table(0, geometry), table(1, geometry)
    np.testing.assert_allclose(a.mix(b, 0.0).probs, a.probs, rtol=1e-13)
    np.testing.assert_allclose(a.mix(b, 1.0).probs, b.probs, rtol=1e-13)
    batch = a.mix(table(1, geometry, (3,)), 0.5)
    assert batch.probs.shape == (3, 2, 4)


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_mix_refuses_other_weights(weight: float) -> None:
    with pytest.raises(ValueError, match="`weight`"):
        table(0).mix(table(1), weight)


@in_both
def test_penalise_is_the_gradient_of_the_divergence(geometry: Geometry) -> None:
    policy, magnet = table(0, geometry), table(1, geometry)
    q = np.random.default_rng(2).normal(size=(2, 4)) * LEGAL
    penalised = policy.penalise(q, magnet, alpha=0.3)
    assert np.isfinite(penalised).all()
    rng, h = np.random.default_rng(3), 1e-6
    direction = rng.normal(size=(2, 4)) * LEGAL
    direction -= LEGAL * direction.sum(-1, keepdims=True) / LEGAL.sum(-1, keepdims=True)

    def objective(p: np.ndarray) -> np.ndarray:
        near = geometry.divergence(geometry.coordinates(p, LEGAL), magnet.coordinates)
        return (p * q).sum(-1) - 0.3 * near

    slope = (objective(policy.probs + h * direction) - objective(policy.probs - h * direction)) / (
        2 * h
    )
    np.testing.assert_allclose((penalised * direction).sum(-1), slope, atol=1e-8)


def test_kl_is_kl_in_every_geometry() -> None:
    a, b = table(0, Euclidean()), table(1, Euclidean())
    ratio = np.log(np.where(LEGAL, a.probs, 1.0) / np.where(LEGAL, b.probs, 1.0))
    np.testing.assert_allclose(a.kl(b), (a.probs * ratio).sum(-1), rtol=1e-12)


@in_both
def test_smooth_mixes_uniform_play_in(geometry: Geometry) -> None:
    policy = table(0, geometry)
    uniform = TabularPolicy.uniform(LEGAL).probs
    smooth = policy.smooth(0.1)
    np.testing.assert_allclose(smooth.probs, 0.9 * policy.probs + 0.1 * uniform, rtol=1e-13)
    np.testing.assert_array_equal(smooth.legal, LEGAL)


def test_mixtures_are_signed_sums() -> None:
    a, b = table(0), table(1)
    mixture = Mixture((a, b), (2.0, -1.0))
    np.testing.assert_allclose(probabilities(mixture), 2 * a.probs - b.probs, rtol=1e-14)
    assert probabilities(a).shape == (2, 4)
    for policies, weights in (((), ()), ((a,), (1.0, 2.0))):
        with pytest.raises(ValueError, match="one weight per policy"):
            Mixture(policies, weights)


def test_snapshots_cannot_change() -> None:
    policy = table(0)
    before = policy.coordinates.copy()
    kept = policy.snapshot()
    policy.mirror_step(np.ones((2, 4)), table(1), eta=1.0, alpha=1.0, player=0)
    policy.penalise(np.ones((2, 4)), table(1), alpha=1.0)
    policy.mix(table(1), 0.5)
    np.testing.assert_array_equal(kept.coordinates, before)
