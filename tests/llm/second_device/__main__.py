"""All checks on the second device, in this process: a line of JSON for each, its name and error.

Arguments are names of checks; without any all are run.
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

from second_device import own_checks
from second_device.backend import NAME
from second_device.features import FEATURES, require_same
from second_device.workflows import WORKFLOWS


def run(name: str, check: Callable[[], None]) -> None:
    """Print the name of a check and the error that it raised, None if it passed."""
    begun = time.process_time()
    try:
        check()
        error = None
    except Exception:
        error = traceback.format_exc()
    seconds = round(time.process_time() - begun, 2)
    print(json.dumps({"name": name, "error": error, "seconds": seconds}), flush=True)


def main(asked: list[str]) -> None:
    """Run the checks of these names."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checks: dict[str, Callable[[], None]] = dict(own_checks.CHECKS)
        for name, feature in (FEATURES | WORKFLOWS).items():
            checks[name] = partial(require_same, feature, torch.device(NAME), Path(folder) / name)
        for name, check in checks.items():
            if not asked or name in asked:
                run(name, check)


main(sys.argv[1:])
