"""The moving magnet walks on to the equilibrium of the original game; a fixed one stops short.

The last iterate's duality gap, of every method on four games of rock-paper-scissors kind (plain,
perturbed, biased, COMAL's) from the same start with the same budget. The line is the median of the
four games, the band reaches from the 10 % to the 90 % quantile; the thin line in every panel is
MPO's median. Every method is tuned by the same rule (`mpo_games.method`): twelve settings each,
chosen on twenty other random cycles, one setting for all games, payoffs scaled to max |A| = 1.
Where the average is a method's output, the average is shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import methods
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.baselines import METHODS

TITLE = "To the equilibrium of the original game"
CORE = True
SEED = 1000
"""The first of the twenty seeds of the games that are tuned on."""

FLOOR = 1e-16


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method's trace and tuned setting."""
    budget = 300.0 if quick else 10_000.0
    cells = [
        {"method": m.name, "arena": "named", "budget": budget, "quick": quick} for m in METHODS
    ]
    found = run(methods.contest, cells)
    return {
        "budget": budget,
        "methods": dict(zip((m.name for m in METHODS), found, strict=True)),
    }


def plot(results: dict[str, Any]) -> Any:
    """A panel for each family of methods, with MPO in all of them."""
    import matplotlib.pyplot as plt

    families = list(dict.fromkeys(m.family for m in METHODS))
    with draw.theme():
        figure, axes = plt.subplots(3, 2, figsize=(8.6, 9.2), sharex=True, sharey=True)
        for ax, family in zip(axes.flat, families, strict=True):
            members = [m.name for m in METHODS if m.family == family]
            traces = {name: methods.quantiles(results["methods"][name]) for name in members}
            if "MPO" not in members:
                mpo = methods.quantiles(results["methods"]["MPO"])
                middle = np.maximum(mpo["gap"][:, 1], FLOOR)
                ax.plot(mpo["evaluations"][1:], middle[1:], color=draw.VERMILLION, lw=1, alpha=0.6)
            ax.set_ylim(FLOOR / 3, 8.0)
            ax.set_xlim(1.0, results["budget"])
            # The traces are three quantiles already: the band is all of them.
            draw.convergence(traces, ax=ax, band=(0.0, 1.0), floor=FLOOR)
            ax.set_title(family)
            ax.label_outer()
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    last = {name: float(np.max(r["final"])) for name, r in results["methods"].items()}
    return [
        Claim(
            "MPO",
            "MPO's last iterate reaches the Nash equilibrium of the original game "
            "(worst of four games with full support, one setting)",
            "gap < 1e-9",
            last["MPO"],
            last["MPO"] < 1e-9,
        ),
        Claim(
            "MPO",
            "MMD with a fixed magnet stops at the regularised equilibrium, tuned as well",
            "gap > 1e-3",
            last["MMD"],
            last["MMD"] > 1e-3,
        ),
        Claim(
            "Mertikopoulos et al. 2018",
            "mirror descent's last iterate does not converge at its best step size either",
            "gap > 0.1",
            last["MD"],
            last["MD"] > 0.1,
        ),
    ]
