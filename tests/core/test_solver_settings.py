"""The settings of solvers: batches of them, number types, and the values that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_game import states

import mpo_games as mg


def test_many_settings_in_one_run() -> None:
    """Settings may be functions: one that returns an array runs a batch."""
    etas = np.array([0.1, 0.3, 1.0])
    many = states(mg.MMD(lambda _: etas[:, None, None], 0.2), 20)[-1].policy
    for i, eta in enumerate(etas):
        one = states(mg.MMD(float(eta), 0.2), 20)[-1].policy
        np.testing.assert_allclose(many.probs[i], one.probs, atol=1e-13)


@pytest.mark.parametrize("kind", [int, np.int64, np.float32, np.float64])
def test_step_sizes_of_any_number_type(kind: type) -> None:
    one = states(mg.MPO(kind(1), kind(2), kind(3)), 9)[-1].policy
    two = states(mg.MPO(1.0, 2.0, 3), 9)[-1].policy
    np.testing.assert_array_equal(one.coordinates, two.coordinates)


BAD = [np.nan, np.inf, -1.0]


@pytest.mark.parametrize("bad", [*BAD, 0.0])
@pytest.mark.parametrize(
    "build",
    [
        lambda eta: mg.MMD(eta, 0.1),
        lambda eta: mg.MPO(eta, 0.1, 5),
        lambda eta: mg.AnnealedMMD(eta, 0.1),
        lambda eta: mg.NashMD(eta, 0.1),
        lambda eta: mg.EGPO(eta, 0.1),
        lambda eta: mg.GradientAscent(eta),
        lambda eta: mg.Measured(eta),
        lambda eta: mg.Measured(0.5, eta),
    ],
)
def test_eta_is_checked(build: Any, bad: float) -> None:
    with pytest.raises(ValueError, match=r"eta|ratio|growth"):
        build(bad)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "build",
    [
        lambda alpha: mg.MMD(0.1, alpha),
        lambda alpha: mg.MPO_RT(0.1, alpha, 5),
        lambda alpha: mg.AnnealedMMD(0.1, alpha),
        lambda alpha: mg.NashMD(0.1, alpha),
        lambda alpha: mg.EGPO(0.1, alpha),
    ],
)
def test_alpha_is_checked(build: Any, bad: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        build(bad)


def test_other_settings_are_checked() -> None:
    for build in (lambda: mg.EGPO(1.0, 1.0), lambda: mg.NashMD(1.0, 1.0)):
        with pytest.raises(ValueError, match="`eta \\* alpha`"):
            build()
    with pytest.raises(ValueError, match="`weight` must lie in"):
        mg.AgainstMixture(1.5)
    with pytest.raises(ValueError, match="`degree`"):
        mg.Averaged(mg.MirrorDescent(1.0), degree=-1)
    with pytest.raises(ValueError, match="`power`"):
        mg.Decaying(1.0, 0.0)
    with pytest.raises(ValueError, match="`start`"):
        mg.Decaying(-1.0, 0.5)


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_functions_of_the_state_give_valid_settings_too(number: float) -> None:
    game = mg.MatrixGame(np.eye(3))
    for name, solver in {
        "eta": mg.MMD(lambda _: number, 0.1),
        "alpha": mg.MMD(0.1, lambda _: number),
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must give"):
            mg.solve(game, solver, 3)
