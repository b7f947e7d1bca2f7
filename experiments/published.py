"""All published numbers but three are reproduced, and so are the published failures.

Ring: the reference number, published by the authors or found by running their published rule. Dot:
ours. COMAL's 3 x 3 game from (.2, .5, .3); biased rock-paper-scissors at eta = alpha = .1 after
10000 steps; EGPO's 100 random 10 x 10 preference games with a fixed reference (mean gap); the steps
to a gap of 1e-11. Numbers below 1e-12 are rounding: there only the order of magnitude counts. Three
numbers are not reproduced. Mirror descent's gap on the biased game depends on where in its circle
the last step falls: the gap swings between .4 and 6, and rounding decides (from a start moved by
1e-12 it ends at 6 instead of 2). EGPO's two gaps come out as .119 and .0094 against .18 and .018;
our games are other draws, and the reference does not state which statistic of the gaps it gives.
Doubling beta would give .183 and .021, which explains the first and not the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run
from mpo_games import exact
from mpo_games import plot as draw
from mpo_games.games.catalogue import load
from mpo_games.games.families import random_preferences

TITLE = "As published"
CORE = True
SEED = 0
"""The first seed of the random games."""

COMAL_GAPS: Mapping[str, tuple[str, float]] = {
    "mwu": ("COMAL: MD, eta .3, 1000 steps", 0.63),
    "average": ("COMAL: the same, average", 0.015),
    "fixed": ("COMAL: fixed magnet at the start", 0.0588),
    "uniform": ("COMAL: fixed magnet, uniform", 0.0245),
}
COMAL_STEPS: Mapping[str, tuple[str, float]] = {
    "slow": ("MPO, eta .3, alpha .1, K 50", 1714),
    "fast": ("MPO, eta 1.25, alpha .2, K 10", 869),
    "optimistic": ("Optimistic MD, eta 2", 190),
}
BIASED: Mapping[str, tuple[str, float]] = {
    "MD": ("Biased RPS: MD", 3.69),
    "MMD": ("Biased RPS: fixed magnet", 0.08692),
    "M2WU": ("Biased RPS: M2WU, fixed mutation", 0.08755),
    "MPO": ("Biased RPS: magnet every 100", 3e-15),
    "Optimistic MD": ("Biased RPS: Optimistic MD", 1e-13),
}
EGPO: Mapping[float, tuple[str, float]] = {
    0.1: ("EGPO: fixed reference, beta .1", 0.18),
    0.01: ("EGPO: fixed reference, beta .01", 0.018),
}
QRE: Mapping[float, tuple[float, float, float]] = {
    0.5: (0.29813319, 0.41382045, 0.28804635),
    0.2: (0.22364492, 0.47798817, 0.29836691),
    0.1: (0.17347803, 0.48630324, 0.34021873),
    0.05: (0.1517447, 0.46794775, 0.38030755),
}
"""The quantal responses of the perturbed RPS by temperature (Sokota et al. 2023)."""


def comal_gap(key: str) -> float:
    """A gap on COMAL's game."""
    game = arenas.comal()
    start = game.policy(arenas.START)
    if key == "average":
        solver: mg.Solver = mg.Averaged(mg.MirrorDescent(0.3))
        metrics = {"gap": mg.metrics.average_gap}
        return mg.solve(game, solver, 1000, policy=start, metrics=metrics).gap
    if key == "mwu":
        return mg.solve(game, mg.MirrorDescent(0.3), 1000, policy=start).gap
    magnet = game.initial_policy() if key == "uniform" else start
    return mg.solve(game, mg.MMD(0.3, 0.1), 5000, policy=start, magnet=magnet).gap


def comal_steps(key: str, limit: int) -> int:
    """The first step whose gap is below 1e-11; `limit` where there is none."""
    solvers = {
        "slow": mg.MPO(0.3, 0.1, 50),
        "fast": mg.MPO(1.25, 0.2, 10),
        "optimistic": mg.OptimisticMD(2.0),
    }
    game = arenas.comal()
    states = mg.iterate(game, solvers[key], policy=game.policy(arenas.START))
    gaps = (float(game.duality_gap(state.policy)) for state in islice(states, limit))
    return next((step for step, gap in enumerate(gaps) if gap < 1e-11), limit)


def biased_gap(key: str, budget: float) -> float:
    """A gap on the biased RPS at eta = alpha = .1, uniform start and magnet."""
    solvers = {
        "MD": mg.MirrorDescent(0.1),
        "MMD": mg.MMD(0.1, 0.1),
        "M2WU": mg.M2WU(0.1, 0.1),
        "MPO": mg.MPO(0.1, 0.1, 100),
        "Optimistic MD": mg.OptimisticMD(0.1),
    }
    return mg.solve(load("biased_rps"), solvers[key], budget).gap


def fixed_reference(beta: float, seeds: list[int]) -> list[float]:
    """The original game's gap at the regularised equilibrium, game by game."""
    games = [random_preferences(10, np.random.default_rng(seed)) for seed in seeds]
    return [float(game.duality_gap(exact.qre(game, beta).policy)) for game in games]


def quantal(tau: float, steps: int) -> dict[str, float]:
    """How far MMD at eta = alpha = tau, and the oracle, are from the published policy."""
    game = load("perturbed_rps", normalised=True)
    last = mg.solve(game, mg.MMD(tau, tau), steps).policy.probs
    oracle = exact.qre(game, tau).policy.probs
    wanted = np.array(QRE[tau])
    return {
        "mmd": float(np.abs(last - wanted).max()),
        "oracle": float(np.abs(oracle - wanted).max()),
    }


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Each number, computed once."""
    seeds, budget = list(range(5 if quick else 100)), 500.0 if quick else 10_000.0
    biased = run(biased_gap, [{"key": k, "budget": budget} for k in BIASED])
    gaps = run(comal_gap, [{"key": k} for k in COMAL_GAPS])
    egpo = run(fixed_reference, [{"beta": b, "seeds": seeds} for b in EGPO])
    steps = run(comal_steps, [{"key": k, "limit": 3000} for k in COMAL_STEPS])
    qre = run(quantal, [{"tau": t, "steps": 200 if quick else 5000} for t in QRE])
    return {
        "gaps": dict(zip(COMAL_GAPS, gaps, strict=True)),
        "biased": dict(zip(BIASED, biased, strict=True)),
        "egpo": {str(b): float(np.mean(g)) for b, g in zip(EGPO, egpo, strict=True)},
        "steps": dict(zip(COMAL_STEPS, steps, strict=True)),
        "qre": dict(zip(map(str, QRE), qre, strict=True)),
    }


def _pairs(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Label, reference and our number for every gap."""
    return [
        *((*COMAL_GAPS[k], results["gaps"][k]) for k in COMAL_GAPS),
        *((*BIASED[k], results["biased"][k]) for k in BIASED),
        *((*EGPO[b], results["egpo"][str(b)]) for b in EGPO),
    ]


def plot(results: dict[str, Any]) -> Any:
    """Paired dots: gaps above, steps below."""
    import matplotlib.pyplot as plt

    steps = [(*COMAL_STEPS[k], results["steps"][k]) for k in COMAL_STEPS]
    panels = ((_pairs(results), "duality gap"), (steps, "steps to a gap of 1e-11 (COMAL)"))
    with draw.theme():
        figure, axes = plt.subplots(
            2, 1, figsize=(7.6, 6.6), height_ratios=[len(rows) + 1 for rows, _ in panels]
        )
        for ax, (rows, label) in zip(axes, panels, strict=True):
            for y, (_, reference, ours) in enumerate(rows):
                ax.plot(ours, y, "o", color=draw.VERMILLION, markersize=7, label="ours")
                ax.plot(
                    reference,
                    y,
                    "o",
                    color=draw.BLACK,
                    markerfacecolor="none",
                    markersize=13,
                    markeredgewidth=1.6,
                    label="reference",
                )
            ax.set_xscale("log")
            ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
            ax.set_ylim(len(rows) - 0.4, -0.6)
            ax.tick_params(axis="y", length=0)
            ax.set_xlabel(label)
        axes[1].set_xlim(100, 3000)
        figure.legend(*_first_two(axes[0]), loc="outside upper right", ncols=2)
    return figure


def _first_two(ax: Any) -> tuple[list[Any], list[str]]:
    # Every dot has a label; one of each kind is enough.
    handles, labels = ax.get_legend_handles_labels()
    return handles[:2], labels[:2]


def claims(results: dict[str, Any]) -> list[Claim]:
    """Each published number against ours."""
    oracle = max(found["oracle"] for found in results["qre"].values())
    mmd = max(found["mmd"] for found in results["qre"].values())
    table = [
        Claim(
            "MMD, code of the authors",
            f"the QREs of the perturbed RPS at four temperatures: largest error, {name}",
            "< 1e-6",
            error,
            error < 1e-6,
        )
        for name, error in (("MMD's last iterate", mmd), ("oracle", oracle))
    ]
    for label, reference, ours in _pairs(results):
        # A reference that is rounding cannot be met within 5 %.
        if reference < 1e-9:
            table.append(Claim("published", label, "gap < 1e-12", ours, ours < 1e-12))
        else:
            close = abs(ours / reference - 1.0) < 0.05
            table.append(Claim("published", label, f"{reference:g} within 5 %", ours, close))
    for key, (label, reference) in COMAL_STEPS.items():
        steps = results["steps"][key]
        statement = f"COMAL: steps to 1e-11, {label}"
        close = abs(steps / reference - 1.0) < 0.05
        table.append(Claim("published", statement, f"{reference:g} within 5 %", steps, close))
    return table
