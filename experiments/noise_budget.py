"""Under noise AutoMPO's output falls like one over the root of the budget; a fixed period hovers.

EGPO's random preferences of 10 responses, 100 000 evaluations from uniform play. Noisy: N(0, .1^2)
is added to each entry of the feedback. Bandit: an evaluation is eight duels, won or lost, and each
teaches only the value of the response that was played (exploration .1). The gap is the true one of
the policy that each method returns: AutoMPO notices the noise and then returns an average; MPO
returns its last iterate. The line is the median of ten games, the band 10-90 %; the dashed line has
slope -1/2. MPO and the averages are tuned by the rule of `mpo_games.method`, twelve settings each,
on four other games and random streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.lab import arenas, methods
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.method import chosen, late, run, split

TITLE = "Noise, and a budget of 100 000 evaluations"
CORE = False
SEED = 0
"""The first seed of the reported games and of their noise; tuning games begin at 1000."""

KINDS = ("noisy", "bandit")
NAMES = ("AutoMPO", "MPO", "EMA magnet", "SPO/SPPO", "Optimistic MD, average")
AVERAGES = ("SPO/SPPO", "Optimistic MD, average")
FROM = 1_000
"""The evaluation from which on slopes are fitted."""


def tuned(method: str, kind: str, games: int, budget: float) -> dict[str, float]:
    """The setting that a method gets under one kind of feedback."""
    contestant, seen = methods.BY_NAME[method], _seen(kind, range(1000, 1000 + games))

    def score(setting: dict[str, float]) -> float:
        return late(run(contestant, seen, setting, budget, seed=1).trace, budget)

    return chosen(contestant, score)


def contest(
    method: str, kind: str, setting: dict[str, float], seeds: list[int], budget: float
) -> dict[str, Any]:
    """The gaps of a method on some games, (records, games), and when they were recorded."""
    seen = _seen(kind, seeds)
    found = run(methods.BY_NAME[method], seen, setting, budget, seed=seeds[0])
    gaps = np.maximum(found.trace["gap"], 0.0).reshape(len(found.trace), -1)
    return {"evaluations": found.trace["evaluations"], "gaps": gaps}


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method under both kinds of feedback."""
    games, few, budget = (2, 1, 300.0) if quick else (10, 4, 1e5)
    pairs = [(kind, name) for kind in KINDS for name in NAMES]
    wanted = [{"method": n, "kind": k, "games": few, "budget": budget} for k, n in pairs]
    settings = dict(zip(pairs, run(tuned, wanted), strict=True))
    # A method that is `alone` (AutoMPO) gets a cell for each game, the others one for all games.
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
            # Half the last gap, so that the line of slope -1/2 runs below AutoMPO's.
            ax.loglog(at[late], 0.5 * end * np.sqrt(at[-1] / at[late]), "--", color=draw.GREY)
            ax.set_xscale("log")
            ax.set_xlim(left=100)
            ax.set_title(kind)
            ax.label_outer()
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """AutoMPO's slope, and its gap over that of a fixed period and of the best time average."""
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
    """The games of the seeds, in a batch, with estimated feedback; of one seed a single game."""
    batches = arenas.FAMILIES["EGPO, n = 10"].batches(seeds)
    games = split(batches) if len(seeds) == 1 else iter(batches)
    return arenas.FEEDBACKS[kind](next(games)[0])


def _joined(runs: list[Any]) -> dict[str, Any]:
    """Quantiles over the games of all `runs`, at the evaluations that the first one recorded."""
    at = np.asarray(runs[0]["evaluations"], dtype=float)
    columns = []
    for rows in runs:
        # Runs of single games record at other evaluations: each gap holds until the next record.
        when = np.searchsorted(rows["evaluations"], at, side="right") - 1
        columns.append(np.asarray(rows["gaps"], dtype=float)[np.maximum(when, 0)])
    gaps = np.concatenate(columns, axis=1)
    return {
        "evaluations": at,
        "gap": np.quantile(gaps, (0.1, 0.5, 0.9), axis=1).T,
        "final": np.sort(gaps[-1]),
    }
