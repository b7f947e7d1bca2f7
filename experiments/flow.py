"""From every start MD circles outwards, MMD stops short of the equilibrium, and MPO arrives.

Forty policies on COMAL's cyclic preferences at eta = .3, each of which plays itself: a row for each
method, a column for each time. With a fixed magnet (diamond) at alpha = .1 all end at one point,
the regularised equilibrium. With MPO's magnet, which moves to each policy every 50 steps, all end
at the Nash equilibrium (star). The animation shows the same run.
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
from mpo_games.protocol import Array

TITLE = "The flow of many policies"
CORE = True
SEED = 0
"""Of the starts."""

NASH = np.array([4.0, 3.0, 4.0]) / 11.0
MAGNET = (0.2, 0.3, 0.5)
"""The magnet of MMD, and the first one of MPO."""
POLICIES = 40
STRIDE = 4
"""Steps between two policies that are stored."""
SHOWN = (0, 80, 240, 480)
"""The step that each column shows."""

SOLVERS: Mapping[str, mg.Solver] = {
    "MD": mg.MirrorDescent(0.3),
    "MMD": mg.MMD(0.3, 0.1),
    "MPO": mg.MPO(0.3, 0.1, 50),
}


def flow(method: str, steps: int) -> dict[str, Any]:
    """Probabilities of A and B every `STRIDE` steps, `(times, policies, 2)`, and the last gap."""
    # A game for each policy: each is a run of its own, and all are one batch.
    one = arenas.comal()
    game = mg.PreferenceGame(np.repeat(one.preferences[None], POLICIES, axis=0))
    starts = np.random.default_rng(SEED).dirichlet(np.ones(3), size=POLICIES)
    policy = game.policy(starts[:, None])
    magnet = game.policy(np.tile(MAGNET, (POLICIES, 1, 1)))
    states = mg.iterate(game, SOLVERS[method], policy=policy, magnet=magnet)
    seen = [state.policy for state in islice(states, 0, steps + 1, STRIDE)]
    # Two of three probabilities, and no finer than the drawing: the stored file stays small.
    places = np.round([policy.probs[:, 0, :2] for policy in seen], 4)
    return {"places": places, "gap": float(np.max(game.duality_gap(seen[-1])))}


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The flow of each method."""
    cells = [{"method": name, "steps": 40 if quick else SHOWN[-1]} for name in SOLVERS]
    return dict(zip(SOLVERS, run(flow, cells), strict=True))


def plot(results: dict[str, Any]) -> Any:
    """A row a method, a column a time."""
    with draw.theme():
        figure, axes = _triangles(len(results), len(SHOWN), (7.2, 5.6))
        for row, (name, found) in zip(axes, results.items(), strict=True):
            places = _whole(found["places"])
            for ax, step in zip(row, SHOWN, strict=True):
                at = min(step // STRIDE, len(places) - 1)
                _frame(ax, name, places, at, tail=6)
                if name == "MD":
                    ax.set_title(f"step {at * STRIDE}", loc="center", pad=4)
            row[0].text(0.5, 0.75, -0.25, name, ha="center", fontweight="bold")
    return figure


def animate(results: dict[str, Any]) -> tuple[Any, Any, list[int]]:
    """The figure, the function that draws a frame of it, and the frames."""
    with draw.theme():
        figure, (axes,) = _triangles(1, len(results), (7.2, 2.75))
    cloud = {name: _whole(found["places"]) for name, found in results.items()}
    titles = {"MD": "MD circles", "MMD": "MMD stops short", "MPO": "MPO arrives"}

    def frame(at: int) -> None:
        with draw.theme():
            for ax, (name, places) in zip(axes, cloud.items(), strict=True):
                ax.clear()
                _bare(ax)
                _frame(ax, name, places, at, tail=5)
                ax.set_title(titles[name], loc="center", pad=4, fontsize=14)

    last = len(cloud["MPO"]) - 1
    # All stored times at first, later every other one; a pause on the last before the GIF repeats.
    return figure, frame, [*range(min(60, last)), *range(60, last, 2), *[last] * 12]


def claims(results: dict[str, Any]) -> list[Claim]:
    """Where the policies of each method end."""
    apart = np.ptp(_whole(results["MMD"]["places"])[-1], axis=0).max()
    rows = (
        ("mirror descent: the worst of 40 policies stays away (gap)", ">", 0.3, "MD"),
        ("moving magnet: the worst of 40 policies has arrived (gap)", "<", 0.01, "MPO"),
    )
    found = [
        Claim(
            "COMAL",
            text,
            f"gap {sign} {bound:g}",
            results[name]["gap"],
            (results[name]["gap"] > bound) is (sign == ">"),
        )
        for text, sign, bound, name in rows
    ]
    text = "fixed magnet: all of 40 policies end at one point (their spread)"
    return [*found, Claim("MMD", text, "spread < 0.001", float(apart), bool(apart < 1e-3))]


def _whole(places: Any) -> Array:
    """Places with the third probability, which is not stored: `(times, policies, 3)`."""
    ab = np.array(places)
    return np.concatenate([ab, 1.0 - ab.sum(axis=-1, keepdims=True)], axis=-1)


def _triangles(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, subplot_kw={"projection": "ternary"}
    )
    for ax in axes.flat:
        _bare(ax)
    return figure, axes


def _bare(ax: Any) -> None:
    ax.grid(False)
    for axis in (ax.taxis, ax.laxis, ax.raxis):
        axis.set_ticks([])
        axis.set_label_text("")


def _frame(ax: Any, method: str, places: Array, at: int, tail: int) -> None:
    """The policies at one time, each with its path over the last `tail` times."""
    look = draw.style(method)
    color = draw.BLACK if look is None else look.color
    ways = places[max(0, at - tail) : at + 1].swapaxes(0, 1)
    # NaN breaks the line after each path, so that one call draws them all.
    gaps = np.full((ways.shape[0], 1, 3), np.nan)
    lines = np.concatenate([ways, gaps], axis=1).reshape(-1, 3)
    ax.plot(*lines.T, color=color, alpha=0.4, linewidth=1.2)
    ax.plot(*places[at].T, "o", color=color, markersize=3.2, linestyle="none")
    if method == "MMD":
        magnet = np.reshape(MAGNET, (3, 1))
        ax.plot(*magnet, "D", color=draw.BLACK, markerfacecolor="white", markersize=6)
    star = {"markersize": 13, "markeredgecolor": "white", "linestyle": "none"}
    ax.plot(*NASH[:, None], "*", color=draw.BLACK, **star)
