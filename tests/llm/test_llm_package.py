"""The package: what importing it loads, its earlier names, and its types."""

from __future__ import annotations


def test_importing_the_core_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import mpo_games, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
