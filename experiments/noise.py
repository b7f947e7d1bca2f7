"""Under noise a last iterate with fixed settings hovers, lower with a magnet; the average goes on.

COMAL's game, twenty runs of 2500 evaluations from (.2, .5, .3). Noisy: each feedback entry with
N(0, .1^2) on it. Sampled: each action is tried against eight sampled opponents. Bandit: eight
duels an evaluation, won or lost, and only the action played learns from one (exploration .1).
Median of the runs and 10-90 % band; tuned by the rule of `methods.py`: twelve settings each,
chosen on other random streams.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas, methods
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "Noisy, sampled and bandit feedback"
CORE = True
SEED = 0
"""Of the reported runs; the settings are chosen on seed 1."""

NAMES = ("MPO", "EMA magnet", "MMD", "Optimistic MD", "MD", "SPO/SPPO")


def contest(method: str, feedback: str, runs: int, budget: float) -> dict[str, Any]:
    """Tune and run one method under one kind of feedback."""
    game = arenas.FEEDBACKS[feedback](arenas.comal())
    start = mg.TabularPolicy.from_probs(np.tile(arenas.START, (runs, 1, 1)))
    return methods.tuned(method, budget, (game, start, SEED + 1), (game, start, SEED))


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method under every kind of feedback."""
    size = {"runs": 4 if quick else 20, "budget": 100.0 if quick else 2500.0}
    cells = [{"method": m, "feedback": f, **size} for f in arenas.FEEDBACKS for m in NAMES]
    found = iter(run(contest, cells))
    return {feedback: {name: next(found) for name in NAMES} for feedback in arenas.FEEDBACKS}


def plot(results: dict[str, Any]) -> Any:
    """A panel per kind of feedback."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplots(3, 1, figsize=(6.8, 9.4), sharex=True, sharey=True)
        for ax, (feedback, found) in zip(axes, results.items(), strict=True):
            ax.set_ylim(2e-3, 1.2)
            traces = {name: methods.quantiles(stored) for name, stored in found.items()}
            draw.convergence(traces, ax=ax, band=(0.0, 1.0))
            ax.set_title(feedback)
            ax.label_outer()
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """Where noise leaves the last iterate."""
    table = []
    for feedback, found in results.items():
        ours, plain = (float(np.median(found[name]["final"])) for name in ("MPO", "MD"))
        average = float(np.median(found["SPO/SPPO"]["final"]))
        table.append(
            Claim(
                "SPO, SPPO",
                f"under {feedback} feedback mirror descent's average beats MPO's last iterate "
                "(ratio of the median gaps, both tuned)",
                "ratio < 1",
                average / ours,
                average < ours,
            )
        )
        table.append(
            Claim(
                "MPO",
                f"under {feedback} feedback MPO's last iterate is nearer than mirror descent's "
                "(ratio of the median gaps, both tuned)",
                "ratio < 1",
                ours / plain,
                ours < plain,
            )
        )
    return table
