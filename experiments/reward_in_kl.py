"""In tables MPO-RT is not another method: KL in the reward is MPO at step eta / (1 - eta alpha).

COMAL's game from (.2, .5, .3), eta = 1, alpha = .2, K = 20. Left: the gaps of the three runs.
Right: how far MPO's iterates are from MPO-RT's. At equal eta they part, since equal eta compares
two step sizes; at the matched step they agree to rounding. The methods differ in earnest at token
level, where the KL is sampled.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run, columns, trace
from mpo_games import plot as draw
from mpo_games.solvers.magnetic import matched_step

TITLE = "KL in the reward, KL in the step"
CORE = True
SEED = 0
"""Nothing here is random."""

ETA, ALPHA, PERIOD = 1.0, 0.2, 20


def run_all(budget: int) -> dict[str, Any]:
    """The traces of MPO-RT and of MPO at the same and the matched step, and their distances."""
    game = arenas.comal()
    start = game.policy(arenas.START)
    rewarded = mg.MPO_RT(ETA, ALPHA, PERIOD)
    ours = {"equal": mg.MPO(ETA, ALPHA, PERIOD)}
    ours["matched"] = mg.MPO(matched_step(ETA, ALPHA), ALPHA, PERIOD)

    def path(solver: mg.Solver) -> Any:
        states = islice(mg.iterate(game, solver, policy=start), budget)
        return np.array([state.policy.probs[0] for state in states])

    reference = path(rewarded)
    apart = {name: np.abs(path(s) - reference).max(axis=1) for name, s in ours.items()}
    marks = [int(m) for m in mg.log_spaced(budget) if m < budget]
    return {
        "traces": {
            name: columns(mg.solve(game, s, float(budget), policy=start))
            for name, s in {"rewarded": rewarded, **ours}.items()
        },
        "steps": marks,
        "apart": {name: distance[marks] for name, distance in apart.items()},
        "most": {name: float(distance.max()) for name, distance in apart.items()},
    }


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """One cell: the runs are compared step by step."""
    found: dict[str, Any] = run(run_all, [{"budget": 100 if quick else 2000}])[0]
    return found


def plot(results: dict[str, Any]) -> Any:
    """Gaps left, distances right."""
    import matplotlib.pyplot as plt

    step = matched_step(ETA, ALPHA)
    runs = {name: trace(stored) for name, stored in results["traces"].items()}
    with draw.theme():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.0))
        left.set_ylim(1e-17, 5)
        draw.convergence(
            {
                "MPO, equal eta": runs["equal"],
                "MPO, matched": runs["matched"],
                "MPO-RT": runs["rewarded"],
            },
            ax=left,
            # Told apart by their widths, below.
            looks={"MPO, matched": draw.STYLES["MPO"]},
        )
        # The matched run lies under MPO-RT's: broad and faint, it shows on both sides.
        left.lines[0].set(linewidth=1.2)
        left.lines[1].set(linewidth=6, alpha=0.35)
        left.set_title("the gap")
        steps = np.array(results["steps"])
        for name, label, height, width in (
            ("equal", f"eta = {ETA:g}: another step size", 0.2, 1.2),
            ("matched", f"eta = {step:g}: the same map", 1e-14, 6.0),
        ):
            distance = np.maximum(results["apart"][name][1:], 1e-17)
            faint = 1.0 if width < 3 else 0.35
            right.loglog(steps[1:], distance, color=draw.VERMILLION, linewidth=width, alpha=faint)
            right.text(1.0, height, label, color=draw.VERMILLION)
        right.set_ylim(1e-17, 5)
        right.set(xlabel="steps", ylabel="largest difference", title="MPO's distance from MPO-RT")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The largest difference of the two methods at matched steps."""
    apart = results["most"]["matched"]
    return [
        Claim(
            "MPO (MPO-RT)",
            "in tables MPO-RT is MPO at step eta / (1 - eta alpha), no other method: largest "
            "difference of any probability at any step",
            "< 1e-12",
            apart,
            apart < 1e-12,
        )
    ]
