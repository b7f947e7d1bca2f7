"""What each ingredient of AutoMPO does: one choice of its `MMD` changed at a time.

Log10 of the last iterate's gap after 5 000 evaluations. Tables: the 90 % quantile over forty games
of a family, and the worst game of the two families with ten actions (leaps are for such games).
Trees: the exploitability of the game itself, and the geometric mean over five perturbed ones. The
first rows are MMD and MPO at one fixed setting, `eta = .5, alpha = .05, period = 100`; the last is
AutoMPO. *Plain entropy* keeps the geometry of the game; *payoff weights, not smoothed* is the
dilated entropy that the smoothed one starts from. *No anchor* has a magnet weight of 0, so that a
move only restarts. *Step 1* is a fixed step. Nothing is tuned; payoffs are scaled to max |A| = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Claim, Run
from mpo_games import plot as draw
from mpo_games.choices.geometry import as_given
from mpo_games.method import split
from mpo_games.solvers import self_tuning

TITLE = "The ingredients of AutoMPO, one by one"
CORE = False
SEED = 0
"""The first of the seeds of the games."""

BUDGET = 5_000.0
GAMES = 40
FLOOR = 1e-16

TABLES = ("EGPO, n = 10", "EGPO, n = 30", "zero-sum 10 x 10", "badly scaled", "many equilibria")
TREES = ("Leduc", "Leduc, suits alike", "goofspiel(4)", "liar's dice(4)")
PERTURBED = "Leduc, suits alike"

FULL, MMD, MPO = "all together: AutoMPO", "MMD", "MPO"
FIXED_STEP = 1.0


def _measured_together(full: mg.MMD) -> mg.Solver:
    return replace(full, eta=self_tuning.ONE_SEAT.eta, feedback=mg.popov)


VARIANTS: Mapping[str, Callable[[mg.MMD], mg.Solver]] = {
    MMD: lambda _: mg.MMD(0.5, 0.05),
    MPO: lambda _: mg.MPO(0.5, 0.05, 100),
    "current feedback, step 1": lambda full: replace(
        full, eta=FIXED_STEP, feedback=mg.current, magnet=mg.WhenGapFell(0.3, 10)
    ),
    "step 1": lambda full: replace(full, eta=FIXED_STEP),
    "no anchor": lambda full: replace(full, alpha=0.0),
    "magnet rests": lambda full: replace(full, magnet=mg.Fixed()),
    "no leaps": lambda full: replace(full, magnet=mg.WhenGapFell(0.3, 1)),
    "players at once": _measured_together,
    "plain entropy": lambda full: replace(full, geometry=as_given),
    "payoff weights, not smoothed": lambda full: replace(full, geometry=as_given),
    FULL: lambda full: full,
}
"""By its name in the figure, how AutoMPO's `MMD` is changed."""

WEIGHTED = "payoff weights, not smoothed"
"""On tables this is plain entropy. On trees the game has the weights and the solver takes them."""


def on_tables(variant: str, family: str, games: int, budget: float) -> list[float]:
    """The last gaps on games of a family."""
    batches = arenas.FAMILIES[family].batches(range(games))
    return [_gap(game, variant, budget, start) for game, start in split(batches)]


def on_tree(variant: str, game: str, seed: int | None, budget: float) -> float:
    """The last exploitability on a tree, perturbed where there is a seed."""
    original = arenas.tree(game, seed)
    scale = float(original.bound)
    tree = original.with_payoff(original.payoff / scale)
    seen = tree.with_dilation(mg.dilation.payoff_scaled) if variant == WEIGHTED else tree
    # Exploitability is half the gap; `scale` brings it back to the game's own payoffs.
    return 0.5 * _gap(seen, variant, budget, None) * scale


def compute(quick: bool, run: Run) -> dict[str, Any]:
    """Every variant on every game."""
    budget, games = (60.0, 2) if quick else (BUDGET, GAMES)
    families = TABLES[: 1 if quick else None]
    trees = [(name, None) for name in TREES] + [(PERTURBED, seed) for seed in range(5)]
    trees = trees[2:3] + trees[-1:] if quick else trees
    names = list(VARIANTS)
    tables = run(
        on_tables,
        [
            {"variant": n, "family": f, "games": games, "budget": budget}
            for n in names
            for f in families
        ],
    )
    played = run(
        on_tree,
        [{"variant": n, "game": g, "seed": s, "budget": budget} for n in names for g, s in trees],
    )
    table, played = iter(tables), iter(played)
    return {
        name: {
            "tables": {family: next(table) for family in families},
            "trees": [[game, seed, next(played)] for game, seed in trees],
        }
        for name in names
    }


def plot(results: dict[str, Any]) -> Any:
    """A table of powers of ten."""
    import matplotlib.pyplot as plt

    columns = [*_tables(results, FULL), *_trees(results, FULL)]
    with draw.theme():
        figure, ax = plt.subplots(figsize=(12.4, 6.2))
        draw.heatmap(
            ax,
            np.log10(
                [[*_tables(results, n).values(), *_trees(results, n).values()] for n in results]
            ),
            list(results),
            columns,
        )
        ax.set_title(f"log10 of the gap after {BUDGET:.0f} evaluations")
    return figure


def claims(results: dict[str, Any]) -> list[Claim]:
    """By how much the best variant without an ingredient is worse, over all columns."""
    score = {
        name: float(
            np.mean(np.log10([*_tables(results, name).values(), *_trees(results, name).values()]))
        )
        for name in results
    }
    rest = {name: value for name, value in score.items() if name != FULL}
    nearest = min(rest, key=lambda name: rest[name])
    return [
        Claim(
            "ours",
            f"AutoMPO without any one ingredient is further from equilibrium: orders of "
            f"magnitude between it and the nearest ({nearest!r}), mean over games",
            "above 0",
            rest[nearest] - score[FULL],
            rest[nearest] > score[FULL],
        )
    ]


def _gap(game: Any, variant: str, budget: float, start: Any) -> float:
    full = self_tuning.ONE_SEAT if game.players == 1 else self_tuning.TWO_SEATS
    solver = VARIANTS[variant](full)
    return float(np.ravel(mg.solve(game, solver, budget, policy=start, at=[budget]).gap)[0])


def _tables(results: dict[str, Any], name: str) -> dict[str, float]:
    """The 90 % quantile of each family, and the worst game of ten actions."""
    found = results[name]["tables"]
    late = {f: max(float(np.quantile(gaps, 0.9)), FLOOR) for f, gaps in found.items()}
    worst = max(max(gaps) for f, gaps in found.items() if "10" in f)
    return late | {"worst 10 x 10": max(worst, FLOOR)}


def _trees(results: dict[str, Any], name: str) -> dict[str, float]:
    """Each tree, and the geometric mean of the perturbed ones."""
    rows = results[name]["trees"]
    plain = {game: max(gap, FLOOR) for game, seed, gap in rows if seed is None}
    moved = [max(gap, FLOOR) for _, seed, gap in rows if seed is not None]
    return plain | {"perturbed Leduc": float(np.exp(np.mean(np.log(moved))))}
