"""The thirty hardest games: where AutoMPO itself is worst, and the others on the same games.

A random search draws games of 3 to 10 actions from eight families. It keeps the fifteen with the
largest gap after 1 000 evaluations and the fifteen with the largest gap after 5 000. Payoffs are
scaled to max |A| = 1 and rounded before the search, so the stored games are the games that were
searched. Each dot is a game: the gap of a method's output after 5 000 evaluations. Methods are
sorted by their median (bar). The search looked for games that are hard for AutoMPO; the other
methods have worse games elsewhere. Their settings are those that `last_iterate` chose for random
10 x 10 zero-sum games.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas, methods, tuning
from experiments.lab.harness import DIGITS, Claim, Run
from mpo_games import plot as draw
from mpo_games.games import families
from mpo_games.method import race

TITLE = "The thirty hardest games"
CORE = False
SEED = 0
"""The first seed of the search; every chunk of games has its own."""

SUBJECT = "AutoMPO"
NAMES = tuple(dict.fromkeys((SUBJECT, *methods.HIGHLIGHTED, "PRM+ restarted", "EG restarted")))
SIZES = (3, 11)
MARKS = (1_000, 5_000)
KEPT = 15
"""How many games are kept for each mark."""
CHUNK, CHUNKS = 100, 10
FLOOR = 1e-16

SOURCES: tuple[Callable[[int, arenas.Rng], Any], ...] = (
    lambda n, rng: families.random_preferences(n, rng).payoff[0],
    lambda n, rng: families.random_zero_sum(n, int(rng.integers(*SIZES)), rng).payoff,
    lambda n, rng: families.random_antisymmetric(n, rng).payoff,
    lambda n, rng: families.badly_scaled(n, rng).payoff,
    lambda n, rng: families.low_rank_cyclic(n, 2, rng, float(rng.uniform(0, 3))).payoff[0],
    lambda n, rng: families.planted_equilibrium(*_sparse(n, rng), rng).payoff,
    lambda n, rng: families.many_equilibria(n - 2, 2, rng).payoff,
    lambda n, rng: np.round(2.0 * families.random_zero_sum(n, n, rng).payoff),
)
"""How a game of about `n` actions is drawn; payoffs of the last are -2 to 2, with many ties."""


def search(seed: int, count: int, marks: list[float]) -> list[dict[str, Any]]:
    """The hardest of `count` random games: their payoffs and gaps at the marks."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        source = SOURCES[rng.integers(len(SOURCES))]
        payoff = source(int(rng.integers(*SIZES)), rng)
        # The last family's rounded payoffs may all be 0, and then there is no scale.
        if not payoff.any():
            continue
        # To the digits that are stored: the stored games are those that were searched.
        rounded = [[float(f"{a:.{DIGITS}g}") for a in row] for row in payoff / np.abs(payoff).max()]
        found.append({"payoff": rounded, "gaps": _gaps(SUBJECT, {}, rounded, marks)})
    return _hardest(found)


def contest(method: str, setting: dict[str, float], games: Any, marks: list[float]) -> Any:
    """The gaps of a method on every game, at the marks."""
    return [_gaps(method, setting, payoff, marks) for payoff in games]


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """The search, then every method on the games that were kept."""
    marks, chunks = ([50.0, 100.0], 1) if quick else (list(MARKS), CHUNKS)
    count = 4 if quick else CHUNK
    cells = [{"seed": SEED + i, "count": count, "marks": marks} for i in range(chunks)]
    games = _hardest([game for chunk in run(search, cells) for game in chunk])
    payoffs = [game["payoff"] for game in games]
    family = "zero-sum 10 x 10"
    wanted = [{"method": name, "family": family, "quick": quick} for name in NAMES]
    settings = run(tuning.on_family, wanted)
    found = run(
        contest,
        [
            {"method": name, "setting": setting, "games": payoffs, "marks": marks}
            for name, setting in zip(NAMES, settings, strict=True)
        ],
    )
    return {
        "searched": count * chunks,
        "marks": marks,
        "payoffs": payoffs,
        "methods": dict(zip(NAMES, found, strict=True)),
    }


def plot(results: dict[str, Any]) -> Any:
    """A row of dots for each method."""
    import matplotlib.pyplot as plt

    gaps = {
        name: np.maximum(np.array(found, dtype=float)[:, -1], FLOOR)
        for name, found in results["methods"].items()
    }
    names = sorted(gaps, key=lambda name: float(np.median(gaps[name])), reverse=True)
    with draw.theme():
        figure, ax = plt.subplots(figsize=(8.0, 5.4))
        for y, name in enumerate(names):
            look = draw.style(name) or draw.Style(draw.GREY)
            spread = y + np.linspace(-0.2, 0.2, len(gaps[name]))
            ax.plot(np.sort(gaps[name]), spread, "o", color=look.color, markersize=6, alpha=0.6)
            ax.plot(2 * [np.median(gaps[name])], [y - 0.35, y + 0.35], color=look.color, lw=3)
        ax.set_xscale("log")
        ax.set_yticks(range(len(names)), names)
        for tick, name in zip(ax.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if name == SUBJECT else "normal")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"duality gap after {results['marks'][-1]} evaluations")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """What the figure shows, as numbers."""
    worst = max(row[-1] for row in results["methods"][SUBJECT])
    return [
        Claim(
            "ours",
            f"the self-tuning solver's worst gap after {results['marks'][-1]} evaluations among "
            f"{results['searched']} games searched for it",
            "gap < 1e-2",
            worst,
            worst < 1e-2,
        )
    ]


def _gaps(method: str, setting: dict[str, float], payoff: Any, marks: list[float]) -> list[float]:
    game = mg.MatrixGame([payoff])
    batches = [(game, game.initial_policy())]
    gaps = race(methods.BY_NAME[method], setting, batches, marks)
    return [float(gap) for gap in gaps[:, 0]]


def _hardest(games: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `KEPT` games with the largest gap at each mark, without repetition."""
    kept: dict[str, dict[str, Any]] = {}
    # In the order of the marks: a game that is hard at both counts for the first one.
    for mark in range(len(MARKS)):
        rest = [game for game in games if str(game["payoff"]) not in kept]
        worst = sorted(rest, key=lambda game: game["gaps"][mark], reverse=True)[:KEPT]
        kept |= {str(game["payoff"]): game for game in worst}
    return list(kept.values())


def _sparse(n: int, rng: arenas.Rng) -> list[Any]:
    """Two policies of `n` actions whose supports have the same random size."""
    size, sides = int(rng.integers(1, n + 1)), []
    for _ in range(2):
        side = np.zeros(n)
        side[rng.permutation(n)[:size]] = rng.dirichlet(np.ones(size))
        sides.append(side)
    return sides
