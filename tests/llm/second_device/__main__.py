"""All checks and measurements on the second device, in this process, a line of JSON for each.

Arguments are names of checks; without any, all are run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from second_device import own_checks, weights
from second_device.budgets import MEASURES
from second_device.features import FEATURES, require_same
from second_device.judging import JUDGES
from second_device.workflows import WORKFLOWS


def run(name: str, check: Callable[[], dict[str, float] | None]) -> None:
    """Print the error of a check, None if it passed, or the values of a measurement by name."""
    begun = time.process_time()
    error, values = None, None
    try:
        values = check()
    except Exception:
        error = traceback.format_exc()
    seconds = round(time.process_time() - begun, 2)
    outcome = {"error": error, "seconds": seconds}
    for title in values or [name]:
        value = values[title] if values else None
        print(json.dumps({"name": title, "value": value, **outcome}), flush=True)


def main(asked: list[str]) -> None:
    """Run the checks of these names."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checks: dict[str, Callable[[], dict[str, float] | None]] = dict(own_checks.CHECKS)
        for name, feature in (FEATURES | WORKFLOWS | JUDGES).items():
            checks[name] = partial(require_same, feature, Path(folder) / name)
        checks |= weights.CHECKS
        checks |= MEASURES
        for name, check in checks.items():
            if not asked or name in asked:
                run(name, check)


main(sys.argv[1:])
