"""An average must be stored; a last iterate is at hand.

COMAL's game from (.2, .5, .3). Left: the gap of the last iterate (solid) and of the uniform average
(dotted) of mirror descent, RM+ and MPO. Right: the gap against the number of policies that must be
kept to play the answer. To play an average of networks, every one of them must be kept, or a new
one distilled from them. MPO keeps two, the policy and its magnet, and needs one in the end. In
tables a running average is one more table, so storage matters for language models only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run, columns, trace
from mpo_games import plot as draw

TITLE = "Last iterate, average iterate, and what they store"
CORE = True
SEED = 0
"""Nothing here is random."""

SOLVERS: Mapping[str, mg.Solver] = {
    "MD": mg.MirrorDescent(0.3),
    "RM+": mg.RegretMatching(plus=True),
    "Optimistic MD": mg.OptimisticMD(0.3),
    "MPO": mg.MPO(0.3, 0.1, 50),
}
KEPT = {"MD": 1, "RM+": 1, "Optimistic MD": 2, "MPO": 2}
"""Policies in memory that the last iterate needs: itself, and the previous one or the magnet."""


def both(method: str, budget: float) -> dict[str, Any]:
    """The gaps of a method's last iterate and of its average along one run."""
    game = arenas.comal()
    metrics = {"gap": mg.metrics.iterate_gap, "average_gap": mg.metrics.average_gap}
    solver = mg.Averaged(SOLVERS[method])
    return columns(
        mg.solve(game, solver, budget, policy=game.policy(arenas.START), metrics=metrics)
    )


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The traces of each method."""
    cells = [{"method": name, "budget": 200.0 if quick else 10_000.0} for name in SOLVERS]
    return dict(zip(SOLVERS, run(both, cells), strict=True))


def plot(results: dict[str, Any]) -> Any:
    """Time on the left, storage on the right."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2), sharey=True)
        ends: dict[str, list[Any]] = {"left": [], "right": []}
        for name, stored in results.items():
            run, look = trace(stored), draw.STYLES[name]
            t = run["evaluations"]
            last, mean = (np.maximum(run[m], 1e-17) for m in ("gap", "average_gap"))
            if name != "Optimistic MD":
                left.loglog(t[1:], last[1:], color=look.color)
                left.loglog(t[1:], mean[1:], color=look.color, linestyle=draw.DOTTED)
            right.loglog(np.full(len(t), KEPT[name]), last, color=look.color, alpha=0.35)
            right.plot(KEPT[name], last[-1], "o", color=look.color, markersize=9)
            # The last iterates of these two do not converge, so their answer is the average of `t`
            # policies.
            if name in ("MD", "RM+"):
                right.loglog(t[1:], mean[1:], color=look.color, linestyle=draw.DOTTED)
                right.plot(t[-1], mean[-1], "o", color=look.color, markersize=9)
                ends["right"].append((f"{name}, average", float(mean[-1]), look.color))
            if name != "Optimistic MD":
                ends["left"].append((f"{name}, last", float(last[-1]), look.color))
                ends["left"].append((f"{name}, average", float(mean[-1]), look.color))
        left.set(xlabel="evaluations", ylabel="duality gap", title="last (solid), average (dotted)")
        left.set_ylim(1e-17, 5)
        right.set(xlabel="policies stored", title="what the answer stores")
        for name, dx in (("MPO", 1.35), ("Optimistic MD", 1.35)):
            y = max(results[name]["gap"][-1], 1e-17)
            right.text(
                KEPT[name] * dx, y, f"{name}, last", color=draw.STYLES[name].color, va="center"
            )
        draw.label_ends(left, ends["left"])
        draw.label_ends(right, ends["right"])
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The average of mirror descent converges, its last iterate does not."""
    md = results["MD"]
    return [
        Claim(
            "SPO, SPPO",
            "mirror descent's average converges like 1/T: its gap after 10 000 steps",
            "gap < 0.01",
            md["average_gap"][-1],
            md["average_gap"][-1] < 0.01,
        ),
        Claim(
            "MPO",
            "... but its last iterate, the one that is deployed, does not",
            "gap > 0.1",
            md["gap"][-1],
            md["gap"][-1] > 0.1,
        ),
    ]
