"""Benchmarks are scripts, not part of the installed package: they find each other by the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
