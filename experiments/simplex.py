"""Mirror descent circles, MMD stops at the regularised equilibrium, MPO walks on to the Nash.

Trajectories on COMAL's cyclic preferences from (.2, .5, .3) at eta = .3, with a magnet at alpha =
.1; MPO's magnet moves every 50 steps (white diamonds). The ring is the start, the disc the last
iterate, the star the Nash equilibrium (4, 3, 4) / 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw

TITLE = "Three ways through the simplex"
CORE = True
SEED = 0
"""Nothing here is random."""

NASH = np.array([4.0, 3.0, 4.0]) / 11.0
PERIOD = 50

SOLVERS: Mapping[str, mg.Solver] = {
    "MD": mg.MirrorDescent(0.3),
    "MMD": mg.MMD(0.3, 0.1),
    "MPO": mg.MPO(0.3, 0.1, PERIOD),
}


def trajectory(method: str, steps: int) -> dict[str, Any]:
    """The policies of one run, and the duality gap of the last."""
    game = arenas.comal()
    states = mg.iterate(game, SOLVERS[method], policy=game.policy(arenas.START))
    policies = [state.policy for state in islice(states, steps + 1)]
    path = np.array([policy.probs[0] for policy in policies])
    return {"path": path, "gap": float(game.duality_gap(policies[-1]))}


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The trajectory of each method."""
    cells = [{"method": name, "steps": 100 if quick else 800} for name in SOLVERS]
    return dict(zip(SOLVERS, run(trajectory, cells), strict=True))


def plot(results: dict[str, Any]) -> Any:
    """Three triangles side by side."""
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    titles = {"MD": "MD circles", "MMD": "MMD stops short", "MPO": "MPO arrives"}
    with draw.theme():
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.9), subplot_kw={"projection": "ternary"})
        for ax, (name, found) in zip(axes, results.items(), strict=True):
            path = np.array(found["path"])
            draw.simplex(
                {name: path},
                ax=ax,
                points={"Nash equilibrium": NASH},
                magnets=path[::PERIOD] if name == "MPO" else None,
                corners="ABC",
            )
            # Above the name of the upper corner.
            ax.set_title(f"{titles[name]}\ngap {found['gap']:.1g}", loc="center", pad=26)
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """Mirror descent's last gap."""
    gap = results["MD"]["gap"]
    return [
        Claim(
            "COMAL",
            "mirror descent moves away from the equilibrium and circles (gap after 800 steps)",
            "gap > 0.3",
            gap,
            gap > 0.3,
        )
    ]
