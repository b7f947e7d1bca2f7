"""The door of the command `mpo-llm`, which says what to install if the adapter lacks a library.

The adapter cannot say it itself: its package imports torch, and the core alone may be installed.
"""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> int:
    """Run the adapter's command line; returns its exit code, or 2 if it cannot be imported."""
    try:
        adapter = import_module("mpo_llm.cli")
    except ImportError as error:
        print(f"mpo-llm: {error}", file=sys.stderr)
        return 2
    code: int = adapter.main()
    return code
