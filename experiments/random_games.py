"""Where the equilibrium lacks full support, no fixed setting solves every game; MPO comes near.

The final duality gap of every method's output on 100 random 10 x 10 preference games (EGPO's
family, seeds 0-99; payoffs scaled to max |A| = 1) after the same budget. Methods are sorted by the
median: the dot is the median, the bar reaches from the 10 % to the 90 % quantile, the tick is the
worst game. All are tuned by the same rule (`mpo_games.method`): twelve settings each, chosen on
twenty other games, one setting for all games.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import methods
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.baselines import METHODS

TITLE = "A hundred random preference games"
CORE = True
SEED = 0
"""The first seed of the reported games; those of the tuning games begin at 1000."""

FLOOR = 1e-16


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method's final gaps and tuned setting."""
    budget = 300.0 if quick else 10_000.0
    cells = [
        {"method": m.name, "arena": "random", "budget": budget, "quick": quick} for m in METHODS
    ]
    found = run(methods.contest, cells)
    # Without the curves, which this figure does not show.
    kept = [{key: r[key] for key in ("setting", "final")} for r in found]
    return {
        "budget": budget,
        "methods": dict(zip((m.name for m in METHODS), kept, strict=True)),
    }


def plot(results: dict[str, Any]) -> Any:
    """A sorted dot plot."""
    import matplotlib.pyplot as plt

    gaps = {n: np.maximum(r["final"], FLOOR) for n, r in results["methods"].items()}
    names = sorted(gaps, key=lambda name: float(np.median(gaps[name])), reverse=True)
    with draw.theme():
        figure, ax = plt.subplots(figsize=(7.2, 7.4))
        for y, name in enumerate(names):
            look = draw.style(name)
            color = look.color if look else draw.GREY
            low, middle, high = np.quantile(gaps[name], (0.1, 0.5, 0.9))
            ax.plot([low, high], [y, y], color=color, linewidth=5, alpha=0.3)
            ax.plot(middle, y, "o", color=color, markersize=10)
            ax.plot(gaps[name].max(), y, "|", color=color, markersize=12, markeredgewidth=2)
        ax.set_xscale("log")
        ax.set_yticks(range(len(names)), names)
        for tick, name in zip(ax.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if name == "MPO" else "normal")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"duality gap after {results['budget']} evaluations (median, 10-90 %, worst)")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    worst = float(np.max(results["methods"]["MPO"]["final"]))
    mpo = float(np.median(results["methods"]["MPO"]["final"]))
    mmd = float(np.median(results["methods"]["MMD"]["final"]))
    return [
        Claim(
            "limits of MPO",
            "MPO with a fixed period does not converge cleanly on 100 random games whose "
            "equilibria lack full support: the worst game's gap",
            "gap > 1e-3",
            worst,
            worst > 1e-3,
        ),
        Claim(
            "MPO",
            "MPO's median gap on 100 random games, as a share of tuned MMD's",
            "ratio < 1",
            mpo / mmd,
            mpo < mmd,
        ),
    ]
