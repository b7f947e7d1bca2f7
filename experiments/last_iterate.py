"""Untuned, AutoMPO and its Euclidean twin are first, or level with the first, in every family.

The output of every method over eleven families of games. AutoMPO and its twin are level
everywhere, also at 30 to 100 actions: a `gamma` near 1 makes the smoothed entropy as good as the
Euclidean geometry, and it still suits policies that can only be sampled. Both are slow on Condorcet
cycles of 21 and 51 actions, and one badly scaled game is still at 1.3e-6 after 5 000 evaluations;
after 20 000 all games of at most 20 actions are solved.

Left: the median gap against feedback evaluations, the median over families. Right: the share of
games solved to 1e-8, the mean over families. Grey curves are the methods without a name. Below: how
far from equilibrium the worst tenth of each family is, as log10 of the 90 % quantile of the gap
after 5 000 evaluations. A method with knobs chooses among twelve settings for each family anew: on
twenty other games, by the mean log10 of their median, 90 % quantile and worst gap over evaluations
50 to 5 000. A method without knobs runs as it is. The average counts where it is the method's
output, and the better of average and last iterate for methods that restart from that. The
hyperparameter schedules (HS) are made for 5 000 evaluations, and constant from there. Of the
methods with a fixed regulariser only MMD is shown: they end at another point
(`original_equilibrium`). Starts are uniform; in the cycles and where there are many equilibria they
are random, and in the last family 99 % lies on a random action.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import arenas, methods, tuning
from experiments.lab.harness import Claim, Run
from experiments.lab.tuning import CHECKPOINTS
from mpo_games import plot as draw
from mpo_games.baselines import OUTSIDERS
from mpo_games.method import REPORTED, race

TITLE = "The last iterate over many families"
CORE = False
SEED = 0
"""The first seed of the reported games; those of the tuning games begin at 1000."""

NAMES = (
    "MPO",
    "Optimistic MPO",
    "EMA magnet",
    "MMD",
    "Annealed MMD",
    "Optimistic MD",
    "Extragradient",
    "APMD",
    "SPO/SPPO",
    "RM+, average",
    "PRM+",
    "PRM+, average",
    *(method.name for method in OUTSIDERS),
)
NAMED = (*methods.HIGHLIGHTED, "PCFR+ restarted", "HS-PCFR+(30)", "PDCFR+")
"""The methods whose curves have a name; the others are grey."""

SOLVED = 1e-8
FLOOR = 1e-16
ROUNDING = 1e-13
"""Gaps below this count as level."""


def contest(method: str, family: str, setting: dict[str, float], quick: bool) -> dict[str, Any]:
    """A method on the family's reported games."""
    marks, (_, batches) = tuning.marks(quick), arenas.FAMILIES[family].arena(quick)
    gaps = race(methods.BY_NAME[method], setting, batches, marks)
    at = [i for i, mark in enumerate(marks) if mark in CHECKPOINTS]
    return {
        "setting": setting,
        "games": gaps.shape[1],
        "quantiles": np.quantile(gaps[at], REPORTED, axis=1).T,
        "median": np.median(gaps, axis=1),
        "solved": np.mean(gaps <= SOLVED, axis=1),
    }


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method on every family."""
    families = list(arenas.FAMILIES)[:: 8 if quick else 1]
    cells = [{"method": m, "family": f, "quick": quick} for f in families for m in NAMES]
    settings = run(tuning.on_family, cells)
    found = run(contest, [c | {"setting": s} for c, s in zip(cells, settings, strict=True)])
    each = iter(found)
    return {
        "marks": tuning.marks(quick),
        "families": {f: {m: next(each) for m in NAMES} for f in families},
    }


def plot(results: dict[str, Any]) -> Any:
    """Two profiles, and a table of the worst tenth."""
    import matplotlib.pyplot as plt

    families, marks = results["families"], results["marks"]
    names = list(next(iter(families.values())))
    with draw.theme():
        figure = plt.figure(figsize=(12.4, 13.0))
        grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.5))
        left, right = (figure.add_subplot(grid[0, i]) for i in (0, 1))
        ends: tuple[list[Any], list[Any]] = ([], [])
        # The named curves last, above the grey ones.
        for name in sorted(names, key=lambda n: n in NAMED):
            look, named = draw.style(name) or draw.Style(draw.GREY), name in NAMED
            gap = np.median([f[name]["median"] for f in families.values()], axis=0)
            share = np.mean([f[name]["solved"] for f in families.values()], axis=0)
            for ax, curve, end in zip(
                (left, right), (np.maximum(gap, FLOOR), share), ends, strict=True
            ):
                color = look.color if named else "#DDDDDD"
                width = 3.4 if name == "AutoMPO" else 2.0 if named else 1.2
                ax.plot(marks, curve, color=color, linestyle=look.dash, linewidth=width)
                if named:
                    end.append((name, float(curve[-1]), color))
        left.set(xscale="log", yscale="log", xlim=(marks[0], marks[-1]), ylim=(FLOOR / 3, 1))
        left.set(xlabel="evaluations", ylabel="duality gap", title="median gap")
        right.set(xscale="log", xlim=(marks[0], marks[-1]), ylim=(-0.02, 1.02))
        right.set(xlabel="evaluations", ylabel="share", title="games solved to 1e-8")
        draw.label_ends(left, ends[0])
        draw.label_ends(right, ends[1])
        at, table = _late(results), figure.add_subplot(grid[1, :])
        worst = np.array([[f[n]["quantiles"][at][1] for f in families.values()] for n in names])
        power = np.log10(np.maximum(worst, FLOOR))
        order = np.argsort(power.mean(axis=1), kind="stable")
        draw.heatmap(table, power[order], [names[i] for i in order], list(families))
        table.set_title(f"log10 of the 90 % quantile of the gap at {CHECKPOINTS[at]} evaluations")
    return figure


def _late(results: dict[str, Any]) -> int:
    """The checkpoint that the table shows: 5 000 evaluations, or the last one of a quick run."""
    return min(CHECKPOINTS.index(5_000), sum(m in CHECKPOINTS for m in results["marks"]) - 1)


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    families, at = results["families"], _late(results)
    tenth = {
        name: np.array([f[name]["quantiles"][at][1] for f in families.values()], dtype=float)
        for name in next(iter(families.values()))
    }
    ours, others = tenth.pop("AutoMPO"), np.array(list(tenth.values()))
    # Within a factor of three of the best of the other methods, which are tuned for the family.
    ahead = int((ours <= np.maximum(3.0 * others.min(axis=0), ROUNDING)).sum())
    worst = max(float(f["AutoMPO"]["quantiles"][at][2]) for f in _small(families))
    end = sum(m in CHECKPOINTS for m in results["marks"]) - 1
    last = max(float(f["AutoMPO"]["quantiles"][end][2]) for f in _small(families))
    after = f"after {CHECKPOINTS[at]} evaluations"
    return [
        Claim(
            "ours",
            f"AutoMPO, untuned, solves every game of the families of at most 20 actions {after}: "
            "its worst gap",
            "gap < 1e-6",
            worst,
            worst < 1e-6,
        ),
        Claim(
            "ours",
            f"the same after {CHECKPOINTS[end]} evaluations",
            "gap < 1e-13",
            last,
            last < 1e-13,
        ),
        Claim(
            "ours",
            f"families in which no method tuned for them leaves a 90 % quantile below a third of "
            f"AutoMPO's {after} (of {len(families)}; below 1e-13 all are level)",
            "at least half",
            ahead,
            2 * ahead >= len(families),
        ),
        Claim(
            "limits of MPO",
            f"a fixed period fails on some family even where it is tuned for each: the worst 90 % "
            f"quantile of MPO's gap {after}",
            "gap > 1e-3",
            float(tenth["MPO"].max()),
            float(tenth["MPO"].max()) > 1e-3,
        ),
    ]


def _small(families: dict[str, Any]) -> list[Any]:
    """The results of the families whose games have at most 20 actions.

    `Condorcet cycles` go up to 51.
    """
    large = ("n = 30", "n = 100", "50 x 50", "Condorcet")
    return [found for name, found in families.items() if not any(x in name for x in large)]
