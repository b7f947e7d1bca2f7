"""Leduc poker: how far a method's output is from equilibrium, by evaluations and by seconds.

Exploitability against feedback evaluations (one evaluation is the feedback of both players) and
against CPU seconds on one thread. The output is the average for some methods, and the last iterate
for the others. Triangles mark where a magnet moved. The settings are those that `trees` chose on
other games. The seconds are those of this library's code without recording. The dashed line is the
sequence-form linear programme, solved by HiGHS.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas, methods, tuning
from experiments.lab.harness import Claim, Run
from mpo_games import exact
from mpo_games import plot as draw
from mpo_games.capabilities import answer_of
from mpo_games.method import run

TITLE = "Leduc poker, by evaluations and by seconds"
CORE = False
SEED = 0
"""Nothing here is random."""

NAMES = (
    "AutoMPO",
    "MPO",
    "Optimistic MPO",
    "MPO-RT (R-NaD)",
    "EG restarted",
    "CFR+, average",
    "PCFR+, average",
    "PCFR+, last",
)
MOVES = ("AutoMPO", "MPO")
"""The methods whose magnet's moves are marked."""
FLOOR = 1e-16


def trajectory(method: str, setting: dict[str, float], budget: float) -> dict[str, Any]:
    """Exploitability, CPU seconds and moves of the magnet along a run."""
    contestant, game = methods.TREES_BY_NAME[method], arenas.tree("Leduc")
    seen = game if contestant.view is None else contestant.view(game)
    # A short run first, so that the time to compile is not counted.
    run(contestant, seen, setting, 10.0)
    solver = contestant.solver(setting)
    states, mark, spent = mg.iterate(seen, solver), 1.0, 0.0
    rows: list[tuple[float, float, float]] = []
    moved: list[float] = []
    while mark <= budget:
        start = time.process_time()
        state = next(states)
        spent += time.process_time() - start
        if state.moved_at == state.step > 0:
            moved.append(state.evaluations)
        if state.evaluations >= mark:
            gap = float(seen.duality_gap(answer_of(solver, seen, state)))
            rows.append((state.evaluations, spent, max(gap, 0.0) / 2.0))
            # Marks a few per cent apart, and at least an evaluation.
            mark = max(state.evaluations + 1.0, 1.06 * state.evaluations)
    return dict(zip(("evaluations", "seconds", "gap"), zip(*rows, strict=True), strict=True)) | {
        "moved": moved
    }


def programme(game: str) -> float:
    """CPU seconds of the linear programme with its certificate."""
    tree = arenas.tree(game)
    # Once untimed, as above.
    exact.nash(tree)
    start = time.process_time()
    exact.nash(tree)
    return time.process_time() - start


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Each method with its setting."""
    budget = 100.0 if quick else 20_000.0
    settings = run(tuning.on_trees, [{"method": name, "quick": quick} for name in NAMES])
    cells = [
        {"method": name, "setting": setting, "budget": budget}
        for name, setting in zip(NAMES, settings, strict=True)
    ]
    found = dict(zip(NAMES, run(trajectory, cells), strict=True))
    return {"methods": found, "programme": run(programme, [{"game": "Leduc"}])[0]}


def plot(results: dict[str, Any]) -> Any:
    """The same curves twice: by evaluations, by seconds."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplots(2, 1, figsize=(8.6, 9.6), sharey=True)
        for ax, x in zip(axes, ("evaluations", "seconds"), strict=True):
            ends = []
            for name, stored in results["methods"].items():
                look = draw.style(name) or draw.Style(draw.GREY)
                at, gap = np.array(stored[x]), np.maximum(stored["gap"], FLOOR)
                width = 3.4 if name == "AutoMPO" else 2.0
                ax.loglog(at, gap, color=look.color, linestyle=look.dash, linewidth=width)
                if name in MOVES:
                    when = np.interp(_apart(stored["moved"]), stored["evaluations"], at)
                    spot = np.exp(np.interp(when, at, np.log(gap)))
                    ax.plot(when, spot, "v", color=look.color, markersize=6)
                ends.append((name, float(gap[-1]), look.color))
            ax.set_ylim(FLOOR / 3, 20)
            ax.set(xlabel="CPU seconds" if x == "seconds" else x, ylabel="exploitability")
            if x == "seconds":
                ax.axvline(results["programme"], color=draw.GREY, linestyle=draw.DASHED)
                ax.text(results["programme"] * 1.08, 3e-16, "linear programme", color=draw.GREY)
                ax.set_xlim(left=1e-3)
            else:
                ax.set_xlim(left=10)
            draw.label_ends(ax, ends)
    return figure


def _apart(moved: list[float]) -> list[float]:
    """The moves that are marked: from 10 evaluations on, some per cent apart, so that triangles do
    not cover each other."""
    kept = [10.0]
    for at in moved:
        if at > 1.04 * kept[-1]:
            kept.append(at)
    return kept[1:]


def _reached(stored: dict[str, Any], gap: float) -> float:
    """CPU seconds until the exploitability is below `gap`; infinite if it never is."""
    below = [s for s, g in zip(stored["seconds"], stored["gap"], strict=True) if g < gap]
    return below[0] if below else float("inf")


def _each(stored: dict[str, Any]) -> float:
    """CPU seconds per evaluation."""
    return float(stored["seconds"][-1] / stored["evaluations"][-1])


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    found = results["methods"]
    auto, average, last = (found[n] for n in ("AutoMPO", "CFR+, average", "PCFR+, last"))
    at = [i for i, spent in enumerate(auto["evaluations"]) if spent <= 5_000][-1]
    then = [i for i, spent in enumerate(last["evaluations"]) if spent <= 5_000][-1]
    # A quick run does not come near 1e-5.
    target = 1e-5 if max(auto["evaluations"]) > 5_000 else 1.0
    sooner = _reached(average, target) / _reached(auto, target)
    cost = _each(auto) / _each(found["MPO"])
    return [
        Claim(
            "ours",
            f"AutoMPO, untuned: exploitability of the last iterate on Leduc after "
            f"{auto['evaluations'][at]:.0f} evaluations",
            "exploitability < 1e-12",
            auto["gap"][at],
            auto["gap"][at] < 1e-12,
        ),
        Claim(
            "ours",
            f"CPU seconds that CFR+ needs for an exploitability of {target:g} on Leduc, as a "
            "multiple of AutoMPO's",
            "ratio > 1",
            sooner,
            sooner > 1.0,
        ),
        Claim(
            "ours",
            "CPU time of an evaluation of AutoMPO on Leduc, as a multiple of MPO's",
            "ratio <= 4",
            cost,
            cost <= 4.0,
        ),
        Claim(
            "averages",
            "PCFR+'s last iterate on Leduc after 5 000 evaluations, as a multiple of its average "
            "(it goes below only after 10 000)",
            "ratio > 1",
            last["gap"][then] / found["PCFR+, average"]["gap"][then],
            last["gap"][then] > found["PCFR+, average"]["gap"][then],
        ),
    ]
