"""The adapter's features on a device: is each the same as on the CPU?

`python llm/demo/device_checks.py DEVICE [NAME...]` runs the features of
`tests/llm/second_device/features.py`, all but those that are named, and prints a line of JSON for
each: its name, the error that it raised (None if it passed), and its seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

TESTS = Path(__file__).parents[2] / "tests" / "llm"


def main(device: str, done: list[str]) -> None:
    """Check the features that are not among `done`."""
    sys.path.append(str(TESTS))
    # The tests belong to a checkout and are no package, so they are found by the path.
    from second_device.features import (  # type: ignore[import-not-found, unused-ignore]
        FEATURES,
        require_same,
    )

    torch.set_num_threads(1)
    for name, feature in FEATURES.items():
        if name in done:
            continue
        begun = time.perf_counter()
        error = None
        try:
            with tempfile.TemporaryDirectory() as folder:
                require_same(feature, torch.device(device), Path(folder))
        except Exception:
            error = traceback.format_exc()
        seconds = round(time.perf_counter() - begun, 2)
        print(json.dumps({"name": name, "error": error, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
