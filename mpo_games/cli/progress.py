"""What a long run says while it goes on, where no progress bar can be drawn."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

import mpo_games as mg

FIRST = 10.0
"""Seconds until the first line."""

LATER = 60.0
"""Seconds between two lines: a log of a night has some hundred."""


class Lines:
    """A callback of `solve` that now and then prints a line to standard error."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.began = self.due = 0.0

    def __call__(self, solution: mg.Solution[Any]) -> None:
        """Print how far the run is, if it is time."""
        if not self.due:
            # The first record: what was loaded and compiled before it is not the run.
            self.began = monotonic()
            self.due = self.began + FIRST
        if monotonic() < self.due:
            return
        self.due = monotonic() + LATER
        print(
            f"{solution.state.evaluations:,.10g} of {self.budget:,.10g} evaluations, "
            f"gap {solution.gap:.3g}, {monotonic() - self.began:.0f} s",
            file=sys.stderr,
            flush=True,
        )
