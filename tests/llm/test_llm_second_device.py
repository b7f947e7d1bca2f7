"""The adapter on a second device: one process runs all checks, and each is a test here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared import made_once

HERE = Path(__file__).parent

DEVICE = (
    "refuses_mixed_devices",
    "takes_numbers_of_the_cpu",
    "counts_waits_and_copies",
    "ends_copies_at_a_wait",
    "counts_bytes",
    "autograd_is_torchs",
)
"""What the second device promises, by the names in `second_device/own_checks.py`."""

FEATURES = (
    "draw",
    "score",
    "objectives",
    "Adam",
    "L-BFGS",
    "models",
    "mixture",
    "average",
    "offload",
    "bfloat16",
    "gradient checkpointing",
    "restored",
    "solve",
    "training",
    "results",
    "reward model",
    "score of a reward model",
    "language model as judge",
    "relevance",
    "causal encoder",
    "preference model",
    "loaded preference model",
    "fit-preferences",
)
"""What must be as on the CPU: `features.py`, `workflows.py` and `judging.py`."""

WEIGHTS = (
    "offload_outlives_a_file",
    "what_is_shared_is_saved_once",
    "all_is_freed",
    "the_plan_is_what_a_step_takes",
)
"""Where policies keep their weights: `second_device/weights.py`."""

BUDGETS = {
    "full bfloat16: bytes a parameter at the peak": 11.0,
    "full bfloat16: bytes a parameter at rest": 2.5,
    "LoRA: bytes a trained number at the peak, beside the base": 20.0,
    "LoRA: bytes a trained number at rest, beside the base": 2.5,
    "waits a drawn token": 1.5,
    "waits a part forward and backward": 4.0,
    "double numbers a logit drawn from": 0.1,
    "copies of an offloaded magnet in a reading": 1.0,
    "copies of a policy that the module has": 0.0,
    "copies of the two policies of a mixture that draws": 2.0,
    "copies of policies in a step: the magnet, and the old one again": 2.0,
}
"""The most that each measurement of `second_device/budgets.py` may be."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The outcome of each check, and the value of each measurement, by name."""

    def make(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "second_device"],
            capture_output=True,
            text=True,
            cwd=HERE,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (folder / "said").write_text(done.stdout, encoding="utf-8")

    text = (made_once(tmp_path_factory, "second-device", make) / "said").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {row["name"]: row for row in rows}


def test_every_check_is_a_test(found: dict[str, dict[str, Any]]) -> None:
    assert list(found) == [*DEVICE, *FEATURES, *WEIGHTS, *BUDGETS]


@pytest.mark.parametrize("name", DEVICE)
def test_the_device(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_where_they_belong(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_as_on_the_cpu(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]


@pytest.mark.parametrize("name", BUDGETS)
def test_a_step_costs_no_more(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]
    assert found[name]["value"] <= BUDGETS[name]
