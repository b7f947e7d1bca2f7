"""The adapter's features on a device: is each the same as on the CPU?

`python llm/demo/device_checks.py DEVICE [NAME...]` runs the features that `tests/llm/second_device`
compares between the CPU and a device in its memory, all but those that are named. It prints a line
of JSON for each: its name, the error that it raised (None if it passed), and its seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).parents[2] / "tests" / "llm"
GROUPS = {"features": "FEATURES", "workflows": "WORKFLOWS", "judging": "JUDGES"}
"""Modules of the tests, in their order, and the name of the features that they hold."""


def main(device: str, done: Collection[str] = ()) -> None:
    """Check what is not among `done`."""
    # The tests belong to a checkout and are no package, so they are found by the path.
    sys.path.append(str(TESTS))
    torch.set_num_threads(1)
    for module, group in GROUPS.items():
        try:
            held = getattr(import_module(f"second_device.{module}"), group)
        except ImportError:
            # Some need packages that others do not.
            said(module, traceback.format_exc(), 0.0)
            continue
        for name, feature in held.items():
            if name not in done:
                check(name, feature, torch.device(device))


def check(name: str, feature: Any, device: torch.device) -> None:
    """Compare the numbers of a feature with the CPU's; `feature.apart` is how far they may be."""
    begun = time.perf_counter()
    error = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            here = feature.run(torch.device("cpu"), Path(folder) / "here")
            there = feature.run(device, Path(folder) / "there")
        assert here.keys() == there.keys()
        for key, numbers in there.items():
            one, two = (np.asarray(x, dtype=np.float64) for x in (numbers, here[key]))
            np.testing.assert_allclose(one, two, rtol=0.0, atol=feature.apart, err_msg=key)
    except Exception:
        error = traceback.format_exc()
    said(name, error, time.perf_counter() - begun)


def said(name: str, error: str | None, seconds: float) -> None:
    """Print a line."""
    line = {"name": name, "error": error, "seconds": round(seconds, 2)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
