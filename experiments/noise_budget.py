"""Under noise AutoMPO's output falls like one over the root of the budget; a fixed period hovers.

EGPO's random preferences of 10 responses, 100 000 evaluations from uniform play. Noisy: each
feedback entry with N(0, .1^2) on it. Bandit: eight duels an evaluation, won or lost, and only the
response played learns from one (exploration .1). The gap is the true one, of what each method
returns: AutoMPO hears the noise and hands out an average by itself; MPO its last iterate. Median of
ten games and 10-90 % band; the dashed line has slope -1/2. MPO and the averages are tuned by the
rule of `methods.py`, twelve settings each, on four other games and random streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.lab import arenas, methods
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "Noise, and a budget of 100 000 evaluations"
CORE = False
SEED = 0
"""The first seed of the reported games and their noise; those tuned on begin at 1000."""

KINDS = ("noisy", "bandit")
NAMES = ("AutoMPO", "MPO", "EMA magnet", "SPO/SPPO", "Optimistic MD, average")
AVERAGES = ("SPO/SPPO", "Optimistic MD, average")
FROM = 1_000
"""From here on slopes are measured."""


def tuned(method: str, kind: str, games: int, budget: float) -> dict[str, float]:
    """The setting that a method gets under one kind of feedback."""
    contestant, seen = methods.BY_NAME[method], _seen(kind, range(1000, 1000 + games))

    def score(setting: dict[str, float]) -> float:
        return methods.late(methods.run(contestant, seen, setting, budget, seed=1).trace, budget)

    return methods.chosen(contestant, score)


def contest(
    method: str, kind: str, setting: dict[str, float], seeds: list[int], budget: float
) -> dict[str, Any]:
    """The gaps of a method on some games, (records, games), and when they were recorded."""
    seen = _seen(kind, seeds)
    found = methods.run(methods.BY_NAME[method], seen, setting, budget, seed=seeds[0])
    gaps = np.maximum(found.trace["gap"], 0.0).reshape(len(found.trace), -1)
    return {"evaluations": found.trace["evaluations"], "gaps": gaps}


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method under both kinds of feedback; AutoMPO meets the games one by one."""
    games, few, budget = (2, 1, 300.0) if quick else (10, 4, 1e5)
    pairs = [(kind, name) for kind in KINDS for name in NAMES]
    wanted = [{"method": n, "kind": k, "games": few, "budget": budget} for k, n in pairs]
    settings = dict(zip(pairs, run(tuned, wanted), strict=True))
    cells = [
        {"method": n, "kind": k, "setting": settings[k, n], "seeds": seeds, "budget": budget}
        for k, n in pairs
        for seeds in (
            [[i] for i in range(games)] if methods.BY_NAME[n].alone else [list(range(games))]
        )
    ]
    found: dict[tuple[str, str], list[Any]] = {pair: [] for pair in pairs}
    for cell, rows in zip(cells, run(contest, cells), strict=True):
        found[str(cell["kind"]), str(cell["method"])].append(rows)
    return {
        kind: {
            name: {"setting": settings[kind, name], **_joined(found[kind, name])} for name in NAMES
        }
        for kind in KINDS
    }


def plot(results: dict[str, Any]) -> Any:
    """A panel per kind of feedback."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, axes = plt.subplots(2, 1, figsize=(7.4, 9.2), sharex=True)
        for ax, (kind, found) in zip(axes, results.items(), strict=True):
            traces = {name: methods.quantiles(stored) for name, stored in found.items()}
            draw.convergence(traces, ax=ax, band=(0.0, 1.0))
            at = np.asarray(found["AutoMPO"]["evaluations"], dtype=float)
            late = at >= at[-1] / 100
            end = float(np.asarray(found["AutoMPO"]["gap"])[-1, 1])
            ax.loglog(at[late], 0.5 * end * np.sqrt(at[-1] / at[late]), "--", color=draw.GREY)
            ax.set_xscale("log")
            ax.set_xlim(left=100)
            ax.set_title(kind)
            ax.label_outer()
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The slope, and the ratios to a fixed period and to the best time average."""
    table = []
    for kind, found in results.items():
        ours = found["AutoMPO"]
        at, gap = np.asarray(ours["evaluations"]), np.asarray(ours["gap"])[:, 1]
        late = at >= min(FROM, at[-1] / 10)
        slope = float(np.polyfit(np.log(at[late]), np.log(gap[late]), 1)[0])
        last = {name: float(np.median(stored["final"])) for name, stored in found.items()}
        average = min(last[name] for name in AVERAGES)
        table += [
            Claim(
                "ours",
                f"{kind} feedback: the slope of log AutoMPO's gap in log evaluations, from {FROM}",
                "slope < -0.4",
                slope,
                slope < -0.4,
            ),
            Claim(
                "ours",
                f"{kind} feedback: AutoMPO's gap, as a share of tuned fixed-period MPO's",
                "ratio <= 0.1",
                last["AutoMPO"] / last["MPO"],
                last["AutoMPO"] <= 0.1 * last["MPO"],
            ),
            Claim(
                "ours",
                f"{kind} feedback: AutoMPO's gap over that of the best tuned time average",
                "ratio <= 2",
                last["AutoMPO"] / average,
                last["AutoMPO"] <= 2.0 * average,
            ),
        ]
    return table


def _seen(kind: str, seeds: Sequence[int]) -> Any:
    """A batch of games through samples; a single one where there is one seed."""
    batches = arenas.FAMILIES["EGPO, n = 10"].batches(seeds)
    games = arenas.split(batches) if len(seeds) == 1 else iter(batches)
    return arenas.FEEDBACKS[kind](next(games)[0])


def _joined(runs: list[Any]) -> dict[str, Any]:
    """Quantiles over all games of some runs, at the records of the first."""
    at = np.asarray(runs[0]["evaluations"], dtype=float)
    columns = []
    for rows in runs:
        when = np.searchsorted(rows["evaluations"], at, side="right") - 1
        columns.append(np.asarray(rows["gaps"], dtype=float)[np.maximum(when, 0)])
    gaps = np.concatenate(columns, axis=1)
    return {
        "evaluations": at,
        "gap": np.quantile(gaps, (0.1, 0.5, 0.9), axis=1).T,
        "final": np.sort(gaps[-1]),
    }
