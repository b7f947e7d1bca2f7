"""All checks on the second device, in this process: a line of JSON for each, its name and error."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

from second_device import own_checks


def run(name: str, check: Callable[[], None]) -> None:
    """Print the name of a check and the error that it raised, None if it passed."""
    try:
        check()
        error = None
    except Exception:
        error = traceback.format_exc()
    print(json.dumps({"name": name, "error": error}), flush=True)


for name, check in own_checks.CHECKS.items():
    run(name, check)
