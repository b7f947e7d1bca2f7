"""The adapter on a second device: one process runs all checks, and each is a test here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

DEVICE = (
    "refuses_mixed_devices",
    "takes_numbers_of_the_cpu",
    "counts_waits_and_copies",
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

BUDGETS = {
    "full bfloat16: bytes a parameter at the peak": 36.2,
    "full bfloat16: bytes a parameter at rest": 20.01,
    "LoRA: bytes a trained number at the peak, beside the base": 37.4,
    "LoRA: bytes a trained number at rest, beside the base": 20.01,
    "waits a drawn token": 8.5,
    "waits a part forward and backward": 24.2,
    "double numbers a logit drawn from": 3.19,
    "copies of an offloaded magnet in a reading": 6.93,
}
"""The most that each measurement of `second_device/budgets.py` may be."""
# As measured so far. Aims: 11 and 2.5 bytes a parameter, 20 bytes a trained number, 1.5 waits a
# drawn token, 4 a part, no double numbers, and 1 copy.


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """The outcome of each check, and the value of each measurement, by name."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "second_device"],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["name"]: row for row in rows}


def test_every_check_is_a_test(found: dict[str, dict[str, Any]]) -> None:
    assert list(found) == [*DEVICE, *FEATURES, *BUDGETS]


@pytest.mark.parametrize("name", DEVICE)
def test_the_device(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_as_on_the_cpu(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]


@pytest.mark.parametrize("name", BUDGETS)
def test_a_step_costs_no_more(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["error"] is None, found[name]["error"]
    assert found[name]["value"] <= BUDGETS[name]
