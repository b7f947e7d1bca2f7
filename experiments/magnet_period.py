"""A magnet that moves every step is mirror descent and circles; one that moves late is slow.

COMAL's game from (.2, .5, .3). Above: the last iterate at eta = .3, alpha = .1 for periods K = 1 to
1000. The maps: the worst duality gap in the last tenth of the budget over K and alpha (at eta =
.3), and over K and eta (at alpha = .1). Dashed: the one published rule for a period, GABP's K >= 6
ln(3 (T + 1)) / ln(1 + eta alpha) (ICLR 2025, for the L2 geometry). It is safe, and far too long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run, columns, trace
from mpo_games import plot as draw

TITLE = "When the magnet should move"
CORE = True
SEED = 0
"""Nothing here is random."""

ETA, ALPHA = 0.3, 0.1
PERIODS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
CURVES = (1, 5, 10, 20, 50, 200, 1000)
ETAS = tuple(float(x) for x in np.geomspace(0.03, 10.0, 16))
ALPHAS = tuple(float(x) for x in np.geomspace(0.01, 1.0, 16))


def curve(period: int, budget: float) -> dict[str, Any]:
    """The trace of one run at `ETA`, `ALPHA`."""
    game = arenas.comal()
    return columns(
        mg.solve(game, mg.MPO(ETA, ALPHA, period), budget, policy=game.policy(arenas.START))
    )


def row(period: int, budget: float, knob: str) -> list[float]:
    """The worst gap in the last tenth of the budget, for every value of `ALPHAS` or `ETAS`."""
    values = ALPHAS if knob == "alpha" else ETAS
    # All values in one batch of games: a step size may be an array if a function gives it.
    along = np.reshape(values, (-1, 1, 1))
    game = arenas.comal()
    start = mg.TabularPolicy.from_probs(np.tile(arenas.START, (len(values), 1, 1)))
    solver = mg.MPO(
        (lambda _: along) if knob == "eta" else ETA,
        (lambda _: along) if knob == "alpha" else ALPHA,
        period,
    )
    # Where play circles, the gap at a single step says little.
    late = np.linspace(0.9 * budget, budget, 41)
    found = mg.solve(game, solver, budget, policy=start, at=list(late))
    return [float(gap) for gap in found.trace["gap"].max(axis=0)]


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """A curve for each of some periods, and the two maps."""
    budget = 200.0 if quick else 5000.0
    periods = PERIODS[::6] if quick else PERIODS
    curves = run(curve, [{"period": k, "budget": budget} for k in CURVES])
    maps = {
        knob: run(row, [{"period": k, "budget": budget, "knob": knob} for k in periods])
        for knob in ("alpha", "eta")
    }
    return {
        "budget": budget,
        "periods": periods,
        "alpha": maps["alpha"],
        "eta": maps["eta"],
        "curves": dict(zip(CURVES, curves, strict=True)),
    }


def plot(results: dict[str, Any]) -> Any:
    """Curves above, maps below."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplot_mosaic([["curves", "curves"], ["alpha", "eta"]], figsize=(8, 8))
        ax = axes["curves"]
        shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.88, len(results["curves"])))
        ends = []
        for (period, stored), color in zip(results["curves"].items(), shades, strict=True):
            run = trace(stored)
            gap = np.maximum(run["gap"], 1e-17)
            ax.loglog(run["evaluations"][1:], gap[1:], color=color)
            ends.append((f"K = {period}", float(gap[-1]), color))
        ax.set(xlabel="evaluations", ylabel="duality gap", title="eta = 0.3, alpha = 0.1")
        ax.set_ylim(1e-17, 5.0)
        draw.label_ends(ax, ends)
        periods = np.asarray(results["periods"], dtype=float)
        for knob, values in (("alpha", ALPHAS), ("eta", ETAS)):
            ax = axes[knob]
            gaps = np.log10(np.maximum(np.array(results[knob]), 1e-15))
            image = ax.pcolormesh(
                values, periods, gaps, cmap="viridis", vmin=-15, vmax=0, rasterized=True
            )
            inner = np.log1p((ETA if knob == "alpha" else ALPHA) * np.asarray(values))
            ax.plot(
                values,
                6 * np.log(3 * (results["budget"] + 1)) / inner,
                color="white",
                linestyle=draw.DASHED,
            )
            ax.set(xscale="log", yscale="log", xlabel=knob)
            ax.annotate(
                "GABP's rule",
                (values[-1], 6 * np.log(3 * (results["budget"] + 1)) / inner[-1]),
                (-4, -16),
                textcoords="offset points",
                ha="right",
                color="black",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
            )
            ax.set_ylim(periods[0], periods[-1])
            ax.grid(visible=False)
            ax.set_title("at eta = 0.3" if knob == "alpha" else "at alpha = 0.1")
        axes["alpha"].set_ylabel("period K")
        bar = figure.colorbar(image, ax=[axes["alpha"], axes["eta"]], shrink=0.9)
        bar.set_label("duality gap at the end")
        bar.set_ticks([-15, -10, -5, 0], labels=["$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "1"])
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The two ends of the period."""
    # The keys of a stored mapping are text.
    first, good = (results["curves"][k]["gap"][-1] for k in ("1", "50"))
    return [
        Claim(
            "MPO",
            "a magnet that moves every step (K = 1) is mirror descent and circles",
            "gap > 0.1",
            first,
            first > 0.1,
        ),
        Claim(
            "COMAL",
            "COMAL's game by MPO at eta = .3, alpha = .1, K = 50",
            "gap < 1e-11",
            good,
            good < 1e-11,
        ),
    ]
