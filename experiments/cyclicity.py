"""Where preferences are cyclic, what a reward model ranks first loses; the equilibrium does not.

Games of twelve responses whose win rates mix a skill with a cyclic part (`low_rank_cyclic`), from
purely cyclic (skill x 0) to nearly transitive (skill x 4), and EGPO's random preferences. Each dot
is a game. Across: the share of its triples that are cyclic. Up: the duality gap of always playing
the response that the best Bradley-Terry fit scores highest (at 1 another response surely beats it).
The equilibrium's gap is 0 in all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.lab.harness import Claim, Run
from mpo_games import cyclicity
from mpo_games import plot as draw
from mpo_games.games.families import low_rank_cyclic, random_preferences

TITLE = "The case for game-theoretic alignment"
CORE = True
SEED = 0
"""The first of the seeds of each kind of game."""

TRANSITIVITY = (0.0, 1.0, 2.0, 4.0)
N, RANK = 12, 4


def reports(transitivity: float | None, seeds: list[int]) -> list[list[float]]:
    """A row per game: the cyclic share, the gap of the reward's winner, the equilibrium's gap.

    `transitivity` is the weight of skill in `low_rank_cyclic`; None stands for EGPO's games.
    """
    rows = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        game = (
            random_preferences(N, rng)
            if transitivity is None
            else low_rank_cyclic(N, RANK, rng, transitivity)
        )
        found = cyclicity.report(game)
        rows.append([found.cyclic_share, found.reward_gap, found.equilibrium_gap])
    return rows


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The games of every kind."""
    seeds = list(range(5 if quick else 60))
    kinds: list[float | None] = [*TRANSITIVITY, None]
    found = run(reports, [{"transitivity": t, "seeds": seeds} for t in kinds])
    names = [*(f"skill x {t:g}" for t in TRANSITIVITY), "uniform random"]
    return dict(zip(names, found, strict=True))


def plot(results: dict[str, Any]) -> Any:
    """A scatter of games."""
    import matplotlib.pyplot as plt

    with draw.theme():
        figure, ax = plt.subplots(figsize=(7.2, 4.6))
        looks = zip(
            (draw.VERMILLION, draw.ORANGE, draw.SKY, draw.BLUE, draw.GREY), "os^Dv", strict=True
        )
        for (name, rows), (color, marker) in zip(results.items(), looks, strict=True):
            share, gap, _ = np.array(rows).T
            ax.plot(
                100 * share,
                gap,
                marker,
                color=color,
                alpha=0.65,
                markersize=7,
                markeredgewidth=0,
                label=name,
            )
        ax.axhline(0.0, color=draw.BLACK, linewidth=2.2)
        ax.text(1.0, 0.015, "Nash equilibrium", transform=ax.get_yaxis_transform(), ha="right")
        ax.set(xlabel="cyclic triples (%)", ylabel="gap of the best reward's choice")
        ax.set_ylim(-0.03, 1.03)
        figure.legend(loc="outside right center")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """How much the reward's winner can lose, and how much the equilibrium."""
    rows = np.array([row for found in results.values() for row in found])
    cyclic = rows[rows[:, 0] > 0.1]
    median, worst = float(np.median(cyclic[:, 1])), float(rows[:, 2].max())
    return [
        Claim(
            "MPO",
            "the best Bradley-Terry reward's choice is exploitable where more than a tenth of "
            "the triples are cyclic (median gap)",
            "gap > 0.1",
            median,
            median > 0.1,
        ),
        Claim(
            "MPO",
            "the equilibrium is not: worst gap of all games",
            "gap < 1e-9",
            worst,
            worst < 1e-9,
        ),
    ]
