"""The solver that a run's settings stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mpo_games as mg
import mpo_llm as ml
import tiny
from mpo_llm.config import Config
from mpo_llm.feedback import against_start
from mpo_llm.training import assemble, config_file
from mpo_llm.training.train import train


def solver(**settings: Any) -> mg.MMD:
    """The solver of these settings, as they are in YAML."""
    return assemble.solver(config_file.parse(Config, {"solver": settings}).solver)


@pytest.mark.parametrize(
    ("said", "schedule"),
    [
        ("fixed", mg.Fixed()),
        ({"every": 50}, mg.Every(50)),
        ({"weight_ema": 0.01}, ml.WeightEma(0.01)),
        ({"when_gap_fell": 0.5}, mg.WhenSolved(0.5)),
    ],
)
def test_every_magnet(said: Any, schedule: object) -> None:
    assert solver(magnet=said, eta=1.0) == mg.MMD(1.0, 0.01, schedule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "feedback"),
    [
        ("current", mg.current),
        ("optimistic", mg.optimistic),
        ("half_step", mg.half_step),
        ("against_start", against_start),
    ],
)
def test_every_feedback(said: str, feedback: object) -> None:
    assert solver(feedback=said, eta=1.0).feedback is feedback
    assert solver(feedback=said, pool=3).feedback == ml.Replayed(feedback, 3)  # type: ignore[arg-type]


def test_nash_md_is_a_feedback() -> None:
    """With its own step size, and a mixture of another weight where one is given."""
    exact = solver(feedback="against_mixture", eta=1.5, alpha=0.1)
    assert exact == mg.NashMD(1.5, 0.1)
    assert solver(feedback={"against_mixture": 1.5 * 0.1}, eta=1.5, alpha=0.1) == exact
    other = solver(feedback={"against_mixture": 0.5}, eta=1.5, alpha=0.1)
    assert (other.eta, other.feedback) == (exact.eta, mg.Mixed(0.5))
    moving = solver(feedback="against_mixture", magnet={"every": 3}, pool=2)
    assert moving.magnet == mg.Every(3)
    assert isinstance(moving.feedback, ml.Replayed)


def test_nash_md_is_one_method_by_either_pull() -> None:
    """In tables the KL in the reward and the KL in the step are the same map."""
    one, two = (
        mg.solve(
            mg.load("comal"),
            solver(feedback="against_mixture", eta=1.5, alpha=0.1, pull=pull),
            budget=20,
        )
        for pull in ("proximal", "in_reward")
    )
    assert one.policy.probs == pytest.approx(two.policy.probs, abs=1e-12)


def test_a_magnet_that_needs_the_exact_gap_is_refused(tmp_path: Path) -> None:
    """Before anything is drawn, where responses are sampled."""
    with pytest.raises(ValueError, match=r"when_gap_fell: 0\.5}` needs the exact duality gap"):
        train(tiny.config(tmp_path, solver={"magnet": {"when_gap_fell": 0.5}}))
    assert not (tmp_path / "run").exists()
