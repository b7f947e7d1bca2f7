"""Extensive-form games: exploitability of every method's output on eight trees and twenty more.

Above: the geometric mean over the twenty perturbed games (payoffs x (1 + .3 N(0, 1)); less than
1e-16 counts as 1e-16) against feedback evaluations, each of which is the feedback of both players.
Below: log10 of the exploitability after 5 000 evaluations on OpenSpiel's games, and the geometric
mean and the worst of the perturbed ones. A method with knobs chose among twelve settings on
perturbed Kuhn, goofspiel(4) and suit-isomorphic Leduc, by the rule of `mpo_games.method`; a method
without runs as it is. The hyperparameter schedules (HS) are made for 5 000 evaluations. Mirror-type
methods move in the payoff-scaled dilated entropy, and a magnet that moves mixes in 1e-3 of uniform
play.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab import arenas, methods, tuning
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.method import race

TITLE = "The last iterate on trees"
CORE = False
SEED = 0
"""The first of the seeds of the perturbations; those tuned on have 1000."""

FLOOR = 1e-16


def contest(method: str, game: str, seed: int | None, setting: Any, quick: bool) -> Any:
    """The exploitability of a method on a tree, perturbed where there is a seed."""
    contestant, batch = methods.TREES_BY_NAME[method], (arenas.tree(game, seed), None)
    gaps = race(contestant, setting, [batch], tuning.tree_marks(quick))
    # Exploitability is half the duality gap.
    return gaps[:, 0] / 2.0


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every method on all trees."""
    settings = run(
        tuning.on_trees, [{"method": name, "quick": quick} for name in methods.TREES_BY_NAME]
    )
    trees = arenas.reported_trees(quick)
    chosen = dict(zip(methods.TREES_BY_NAME, settings, strict=True))
    found = run(
        contest,
        [
            {"method": name, "game": game, "seed": seed, "setting": setting, "quick": quick}
            for name, setting in chosen.items()
            for game, seed in trees
        ],
    )
    each = iter(found)
    return {
        "marks": tuning.tree_marks(quick),
        "games": [game if seed is None else f"{game}, perturbed" for game, seed in trees],
        "methods": {
            name: {"setting": setting, "exploitability": [next(each) for _ in trees]}
            for name, setting in chosen.items()
        },
    }


def plot(results: dict[str, Any]) -> Any:
    """Geometric means above, a table below."""
    import matplotlib.pyplot as plt

    marks, names = results["marks"], list(results["methods"])
    with draw.theme():
        figure, (top, bottom) = plt.subplots(2, 1, figsize=(11.4, 10.0))
        ends, dashes = [], []
        for name in names:
            look = draw.style(name) or draw.Style(draw.GREY)
            curve = _mean(_split(results, name)[1])
            width = 3.4 if name == "AutoMPO" else 2.0
            top.loglog(marks, curve, color=look.color, linestyle=look.dash, linewidth=width)
            ends.append((name, float(curve[-1]), look.color))
            dashes.append(look.dash)
        top.set(xlim=(marks[0], marks[-1]), xlabel="evaluations", ylabel="exploitability")
        top.set_title("twenty perturbed games, geometric mean")
        draw.label_ends(top, ends, dashes)
        power = np.log10(
            [
                [*plain[:, -1], _mean(rest)[-1], rest[:, -1].max()]
                for plain, rest in (_split(results, name) for name in names)
            ]
        )
        order = np.argsort(power.mean(axis=1), kind="stable")
        columns = [g for g in results["games"] if "perturbed" not in g]
        columns += ["perturbed, mean", "perturbed, worst"]
        draw.heatmap(bottom, power[order], [names[i] for i in order], columns)
        bottom.set_title(f"log10 of the exploitability after {marks[-1]} evaluations")
    return figure


def _split(results: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Exploitability on the games as they are, and on the perturbed ones: `(games, marks)` each."""
    rows = np.maximum(np.array(results["methods"][name]["exploitability"], dtype=float), FLOOR)
    perturbed = np.array(["perturbed" in game for game in results["games"]])
    return rows[~perturbed], rows[perturbed]


def _mean(rows: Any) -> Any:
    """The geometric mean over games, at every mark."""
    return np.exp(np.mean(np.log(rows), axis=0))


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    mean = {name: float(_mean(_split(results, name)[1])[-1]) for name in results["methods"]}
    best = min(mean[name] for name in methods.KIN)
    fixed = min(mean["MPO"], mean["Optimistic MPO"])
    return [
        Claim(
            "ours",
            "AutoMPO's exploitability on twenty perturbed trees, as a share of that of the best of "
            "CFR's kin (geometric means)",
            "ratio < 0.1",
            mean["AutoMPO"] / best,
            mean["AutoMPO"] < 0.1 * best,
        ),
        Claim(
            "limits of MPO",
            "on the same trees a tuned fixed period stays behind CFR+'s average (ratio of the "
            "better MPO to CFR+)",
            "ratio > 1",
            fixed / mean["CFR+, average"],
            fixed > mean["CFR+, average"],
        ),
    ]
