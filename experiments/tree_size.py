"""The cost of a step, and the memory, grow linearly with the tree, to 1 048 562 sequences.

Left: the processor time of one whole MMD step (both players, and the solver around them) on one
thread, the fastest of fifteen rounds. Right: the bytes of the arrays of the compiled game and of
one policy. Dashed: the slope of 1, through Leduc. A sequence is a player's own actions from the
root, so every action of every information state ends one. Below 500 sequences the fixed cost of a
step, some microseconds, prevails. These are timings: compute them with `-j 1`, alone on the
machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.games.sequence_form import SequenceFormGame

TITLE = "Cost and memory against the size of the tree"
CORE = False
SEED = 0
"""Nothing is random here."""

LARGE = {
    "liar's dice(6)": "liars_dice(dice_sides=6)",
    "goofspiel(6)": "goofspiel(num_cards=6,imp_info=True,points_order=descending)",
    "liar's dice(7)": "liars_dice(dice_sides=7)",
    "liar's dice(8)": "liars_dice(dice_sides=8)",
}
GAMES = {
    name: arenas.TREES[name]
    for name in ("Kuhn", "dark hex", "goofspiel(4)", "liar's dice(4)", "Leduc", "goofspiel(5)")
} | LARGE
"""OpenSpiel's name of each game."""

SMALL = 500
"""Larger trees than this are fitted: below, the fixed cost of a step would bend the line."""

ROUNDS, TURN = 15, 0.05
"""How many rounds are timed, and the seconds that a round takes at least."""


def fastest_step(game: SequenceFormGame, turn: float) -> float:
    """Seconds of one MMD step in the fastest round, each of which takes `turn` seconds."""
    states = mg.iterate(game, mg.MMD(0.1, 0.1))
    # The first steps compile.
    next(islice(states, 2, None))
    count, least = 1, np.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        next(islice(states, count - 1, None))
        least = min(least, (time.process_time() - began) / count)
        # As many steps as fill a round: one alone is shorter than the clock can tell.
        count = max(1, int(turn / least))
    return float(least)


def held(*owners: Any) -> int:
    """Bytes of the arrays that the objects hold."""
    arrays = [getattr(o, n) for o in owners for n in o.__dataclass_fields__]
    # Game, tree and policy share arrays, which count once.
    distinct = {id(a): a.nbytes for a in arrays if isinstance(a, np.ndarray)}
    return sum(distinct.values())


def measure(name: str, turn: float = TURN) -> dict[str, float]:
    """Size, seconds and bytes of one game, compiled anew."""
    seconds = []
    # A cache of its own: the first load must compile, the second must read what it wrote.
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"MPO_GAMES_CACHE": folder}),
    ):
        for _ in ("compiled", "read from disk"):
            began = time.process_time()
            game: Any = mg.load(GAMES[name])
            seconds.append(time.process_time() - began)
    return {
        "states": game.tree.states,
        "sequences": game.tree.sequences,
        "payoffs": game.payoff.size,
        "compile_seconds": seconds[0],
        "read_seconds": seconds[1],
        "step_seconds": fastest_step(game, turn),
        "bytes": held(game, game.tree, game.initial_policy()),
    }


def slope(sequences: Any, cost: Any) -> float:
    """The power of the sequences by which the cost grows, by least squares above `SMALL`."""
    large = np.asarray(sequences) > SMALL
    return float(np.polyfit(np.log(sequences)[large], np.log(cost)[large], 1)[0])


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every game; the quick run has the six smallest."""
    cells: list[dict[str, Any]] = [{"name": n} for n in GAMES]
    if quick:
        cells = [cell | {"turn": TURN / 50} for cell in cells[: -len(LARGE)]]
    return {"games": dict(zip([c["name"] for c in cells], run(measure, cells), strict=True))}


def columns(results: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Sequences, microseconds and megabytes of the games."""
    found = results["games"].values()
    sequences, step, size = (
        np.array([g[key] for g in found], dtype=float)
        for key in ("sequences", "step_seconds", "bytes")
    )
    return sequences, 1e6 * step, size / 1e6


def plot(results: dict[str, Any]) -> Any:
    """Time on the left, memory on the right, every game by its name."""
    import matplotlib.pyplot as plt

    sequences, *costs = columns(results)
    names = list(results["games"])
    with draw.theme():
        figure, axes = plt.subplots(1, 2, figsize=(10.4, 5.4))
        labels = ("microseconds a step", "megabytes, game and policy")
        for ax, cost, label in zip(axes, costs, labels, strict=True):
            through = names.index("Leduc")
            ends = np.array([sequences.min(), sequences.max()])
            line = cost[through] * ends / sequences[through]
            ax.loglog(ends, line, color=draw.GREY, linestyle=draw.DASHED, label="slope 1")
            ax.loglog(sequences, cost, "o", color=draw.BLUE, markersize=7)
            for i, (name, x, y) in enumerate(zip(names, sequences, cost, strict=True)):
                # Names alternate between the sides, so that neighbours do not overlap.
                left = i % 2 == 1
                ax.annotate(
                    name,
                    (x, y),
                    xytext=(-8, 6) if left else (8, -12),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    fontsize=9.5,
                )
            # Room for the names at both ends.
            ax.margins(x=0.14)
            ax.set(xlabel="sequences", ylabel=label)
            ax.set_title(f"fitted slope {slope(sequences, cost):.2f}")
            ax.legend(loc="upper left")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """The fitted slopes of time and memory."""
    sequences, *costs = columns(results)
    fitted = [slope(sequences, cost) for cost in costs]
    whats = ("the time of an MMD step", "the memory of a game and a policy")
    return [
        Claim(
            "sequence form, a pass per step",
            f"{what} against sequences, fitted on log axes above {SMALL} sequences",
            "slope in [0.85, 1.15]",
            power,
            0.85 <= power <= 1.15,
        )
        for what, power in zip(whats, fitted, strict=True)
    ]
