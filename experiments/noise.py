"""Under noise last iterates with fixed settings hover, lower with a magnet; averages keep falling.

COMAL's game, twenty runs of 2500 evaluations from (.2, .5, .3). Noisy: N(0, .1^2) is added to each
entry of the feedback. Sampled: each action is tried against eight sampled opponents. Bandit: an
evaluation is eight duels, won or lost, and each teaches only the value of the action that was
played (exploration .1). The line is the median of the runs, the band 10-90 %. Tuned by the rule of
`mpo_games.method`: twelve settings each, chosen on other random streams.
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
"""The seed of the reported runs; the settings are chosen on the next one."""

NAMES = ("MPO", "EMA magnet", "MMD", "Optimistic MD", "MD", "SPO/SPPO")


def contest(method: str, feedback: str, runs: int, budget: float) -> dict[str, Any]:
    """Tune and run one method under one kind of feedback."""
    game = arenas.FEEDBACKS[feedback](arenas.comal())
    # A batch of equal starts is as many independent runs.
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
            # The traces are three quantiles already: the band is all of them.
            draw.convergence(traces, ax=ax, band=(0.0, 1.0))
            ax.set_title(feedback)
            ax.label_outer()
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The last iterate under noise, beside the average and beside mirror descent's."""
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
