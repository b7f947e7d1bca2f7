"""What each ingredient of the recipe does: the gap of the last weights when one thing is changed.

The setting of `transformer_gap`, its five games, 200 steps of 256 samples. The number is a
transformer's exact gap: median and worst over the last 50 steps of all games. Among the changes are
the paper's key ablation, the period of the magnet, and two that leave nothing to choose: a magnet
weight that anneals (`Anchored`), and a magnet that moves when the gap has halved (`WhenGapFell`,
which looks at the exact gap every 10 steps; with an estimate of the gap it could do no better).
With a period of 200 the magnet does not move within the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import enumerable_languages as languages
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "The recipe, taken apart"
CORE = False
SEED = 0
"""The first seed of the games."""

GAMES, STEPS = range(5), 200


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every variant on every game."""
    games, steps = (GAMES[:1], 1) if quick else (GAMES, STEPS)
    cells = [
        {"variant": variant, "steps": steps, "seed": seed}
        for variant in languages.ABLATIONS
        for seed in games
    ]
    found = iter(run(languages.ablation, cells))
    # The last quarter: 50 of 200 steps.
    late = np.array(languages.marks(steps)) > 0.75 * steps
    return {
        variant: np.array([np.asarray(next(found))[late] for _ in games])
        for variant in languages.ABLATIONS
    }


def plot(results: dict[str, Any]) -> Any:
    """A bar from median to worst for each variant."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, ax = plt.subplots(figsize=(7.6, 6.2))
        names = list(results)[::-1]
        for row, name in enumerate(names):
            gaps = np.asarray(results[name])
            color = draw.WINE if name == languages.ABLATIONS[0] else draw.BLUE
            middle, worst = float(np.median(gaps)), float(gaps.max())
            ax.plot([middle, worst], [row, row], color=color, alpha=0.35, linewidth=6)
            ax.plot(middle, row, "o", color=color, markersize=9)
            ax.annotate(
                f"{middle:.3f}",
                (worst, row),
                (8, 0),
                textcoords="offset points",
                va="center",
                color=color,
            )
        whole = float(np.median(np.asarray(results[languages.ABLATIONS[0]])))
        ax.axvline(whole, color=draw.WINE, linewidth=1.0, linestyle=draw.DASHED, zorder=0)
        ax.set_yticks(range(len(names)), names)
        ax.set(
            xscale="log",
            xlim=(3e-3, 6.0),
            xlabel="duality gap, last 50 steps of five games: median to worst",
        )
        ax.tick_params(axis="y", length=0)
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The ingredients without which the gap is far larger."""
    whole = float(np.median(np.asarray(results["the recipe"])))
    table = []
    for name in ("no pool", "no optimism"):
        ratio = float(np.median(np.asarray(results[name]))) / whole
        table.append(
            Claim(
                "ours",
                f"{name}: the median gap over the whole recipe's",
                "ratio > 2",
                ratio,
                ratio > 2.0,
            )
        )
    few = float(np.asarray(results["64 samples a step"]).max())
    table.append(
        Claim("ours", "64 samples a step: the worst late gap", "no collapse: < .3", few, few < 0.3)
    )
    return table
