"""Published and independently checked numbers."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.metrics import average_gap, iterate_gap

COMAL = mg.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
START = COMAL.policy([0.2, 0.5, 0.3])
BIASED = mg.MatrixGame([[0.0, -1.0, 3.0], [1.0, 0.0, -1.0], [-3.0, 1.0, 0.0]])
RAW = np.array([[0.0, -3.0, 3.0], [3.0, 0.0, -1.0], [-3.0, 1.0, 0.0]])


def comal(solver: Any, budget: float = 5000, **options: Any) -> mg.Solution[Any]:
    return mg.solve(COMAL, solver, budget, **{"policy": START, **options})


@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        (mg.MPO(eta=0.3, alpha=0.1, period=50), 1714),
        (mg.MPO(eta=1.25, alpha=0.2, period=10), 869),
        (mg.OptimisticMD(eta=2.0), 190),
    ],
    ids=["MPO", "MPO at large steps", "optimistic MWU"],
)
def test_steps_to_the_equilibrium_of_comals_cycle(solver: Any, steps: int) -> None:
    solution = comal(solver, tol=1e-11, at=range(2000))
    assert solution.converged
    assert solution.state.step == steps
    np.testing.assert_allclose(solution.policy.probs, [[4 / 11, 3 / 11, 4 / 11]], atol=1e-10)
    assert solution.gap <= 1e-11 < solution.trace["gap"][-2]


def test_multiplicative_weights_circle_on_comals_cycle() -> None:
    solution = comal(
        mg.Averaged(mg.MirrorDescent(0.3)),
        1000,
        metrics={"gap": iterate_gap, "average": average_gap},
    )
    assert solution.gap == pytest.approx(0.63126, abs=5e-6)
    assert solution.trace["average"][-1] == pytest.approx(0.014834, abs=5e-7)


@pytest.mark.parametrize(("magnet", "gap"), [(START, 0.0588277), (None, 0.0244898)])
def test_a_fixed_magnet_stops_short(magnet: Any, gap: float) -> None:
    magnet = COMAL.initial_policy() if magnet is None else magnet
    solution = comal(mg.MMD(0.3, 0.1), magnet=magnet)
    assert solution.gap == pytest.approx(gap, abs=5e-8)
    # It did converge, to the equilibrium of another game.
    assert COMAL.regularised_gap(solution.policy, magnet, 0.1) < 1e-14


@pytest.mark.parametrize(("period", "gap"), [(1, 0.7147), (5, 0.7893), (10, 0.3663)])
def test_magnets_that_move_too_soon_circle(period: int, gap: float) -> None:
    solution = comal(mg.MPO(0.3, 0.1, period), at=range(4900, 5001))
    assert solution.gap == pytest.approx(gap, abs=5e-4)
    assert solution.best_gap > 0.1


def test_biased_rps() -> None:
    """Uniform start and magnet, `eta = alpha = .1`, after 10 000 steps."""

    def gap(solver: Any) -> float:
        return mg.solve(BIASED, solver, 10**4, at=[]).gap

    assert gap(mg.MMD(0.1, 0.1)) == pytest.approx(0.08692, abs=5e-6)
    assert gap(mg.M2WU(0.1, 0.1)) == pytest.approx(0.08755, abs=5e-6)
    assert gap(mg.MPO(0.1, 0.1, 100)) < 1e-14
    assert gap(mg.OptimisticMD(0.1)) < 2e-13


def test_multiplicative_weights_circle_on_biased_rps() -> None:
    """In exact arithmetic both players play the same, and the gap at step 10 000 is 1.99992798...

    (60 digits by mpmath). The published 3.69 is another point of a chaotic orbit: without exact
    symmetry rounding parts the two players, and any value up to 6 comes out.
    """
    solution = mg.solve(BIASED, mg.MirrorDescent(0.1), 10**4, at=[1000, 2000, 5000, 9999])
    exact = [1.95098144774767922, 5.52485192194968338, 1.24734434049498127]
    exact += [1.99992040722648725, 1.99992798138641136]
    np.testing.assert_allclose(solution.trace["gap"], exact, rtol=1e-7)
    np.testing.assert_array_equal(solution.policy.probs[0], solution.policy.probs[1])


@pytest.mark.parametrize(
    ("tau", "probs"),
    [
        (0.5, (0.29813319, 0.41382045, 0.28804635)),
        (0.2, (0.22364492, 0.47798817, 0.29836691)),
        (0.1, (0.17347803, 0.48630324, 0.34021873)),
        (0.05, (0.1517447, 0.46794775, 0.38030755)),
    ],
)
def test_quantal_responses_of_perturbed_rps(tau: float, probs: tuple[float, ...]) -> None:
    """Published with MMD (Sokota et al. 2023); payoffs normalised to [0, 1], `eta = alpha`."""
    game = mg.MatrixGame((RAW - RAW.min()) / np.ptp(RAW))
    policy = mg.solve(game, mg.MMD(tau, tau), 20000, at=[]).policy
    np.testing.assert_allclose(policy.probs, [probs, probs], atol=6e-9)


@pytest.mark.parametrize(("alpha", "factor"), [(0.1, 0.9002), (0.2, 0.6792), (0.5, 0.2069)])
def test_linear_rates_below_the_bound(alpha: float, factor: float) -> None:
    """At `eta = alpha / L^2` the KL falls by the squared spectral radius of the step, per step.

    The theorem's bound, `1 / (1 + eta alpha)`, holds at every one.
    """
    eta = alpha / float(COMAL.bound) ** 2
    run = islice(mg.iterate(COMAL, mg.MMD(eta, alpha), policy=START), 2001)
    policies = [state.policy for state in run]
    distance = np.array([float(COMAL.divergence(policies[-1], p)) for p in policies])
    assert np.all(distance[1:] <= distance[:-1] / (1.0 + eta * alpha) + 1e-15)
    late = (distance > 1e-12) & (distance < 1e-3)
    slope = np.polyfit(np.flatnonzero(late), np.log(distance[late]), 1)[0]
    p = policies[-1].probs[0]
    hessian = np.diag(p) - np.outer(p, p)
    jacobian = (np.eye(3) + eta * COMAL.payoff[0] @ hessian) / (1.0 + eta * alpha)
    radius = np.abs(np.linalg.eigvals(jacobian)).max()
    assert np.exp(slope) == pytest.approx(radius**2, rel=2e-3)
    assert np.exp(slope) == pytest.approx(factor, abs=1e-3)
