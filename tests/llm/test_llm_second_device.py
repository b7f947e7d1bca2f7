"""The adapter on a second device: a process of its own runs all checks, each is a test here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def errors() -> dict[str, str | None]:
    """The error of each check by name, None where it passed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "second_device"],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["name"]: row["error"] for row in rows}


@pytest.mark.parametrize(
    "name",
    [
        "refuses_mixed_devices",
        "takes_numbers_of_the_cpu",
        "counts_waits_and_copies",
        "counts_bytes",
        "autograd_is_torchs",
    ],
)
def test_the_device(name: str, errors: dict[str, str | None]) -> None:
    assert errors[name] is None, errors[name]
