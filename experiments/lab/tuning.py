"""The settings that several figures use, and the evaluations at which they record gaps."""

from __future__ import annotations

import numpy as np

from experiments.lab import arenas, methods
from mpo_games.baselines import TUNED_FOR
from mpo_games.baselines import on_trees as contestants
from mpo_games.method import tune

CHECKPOINTS = (300, 1_000, 5_000, 20_000)
"""Evaluations on tables after which quantiles over the games are kept."""

MARKS = sorted({*CHECKPOINTS, *np.round(10.0 ** np.arange(1.5, 4.3, 0.125)).tolist()})
"""Evaluations on tables at which gaps are recorded."""

QUICK = 100
"""Evaluations of a quick run on trees."""

TREE_MARKS = sorted({300, 1_000, 5_000, *np.round(10.0 ** np.arange(1.25, 3.7, 0.125)).tolist()})
"""Evaluations on trees at which gaps are recorded."""


def marks(quick: bool) -> list[float]:
    """The `MARKS` of a run on tables."""
    return [m for m in MARKS if m <= CHECKPOINTS[0 if quick else -1]]


def tree_marks(quick: bool, budget: float = methods.TREE_BUDGET) -> list[float]:
    """The `TREE_MARKS` of a run of `budget` evaluations on trees."""
    return [m for m in TREE_MARKS if m <= (QUICK if quick else budget)]


def on_family(method: str, family: str, quick: bool) -> dict[str, float]:
    """The setting that a method gets on a family of tables (`arenas.FAMILIES`)."""
    batches, _ = arenas.FAMILIES[family].arena(quick)
    # The last two decades of the budget.
    late = [m for m in marks(quick) if TUNED_FOR / 100 <= m <= TUNED_FOR]
    return tune(methods.BY_NAME[method], batches, late)


def on_trees(method: str, quick: bool, budget: int = methods.TREE_BUDGET) -> dict[str, float]:
    """The one setting that a method gets on all trees for `budget` evaluations.

    It is chosen on `arenas.tuned_trees`.
    """
    at = tree_marks(quick, budget)
    late = [m for m in at if m >= at[-1] / 100]
    return tune(contestants(budget)[method], arenas.tuned_trees(quick), late)


def classic_on_trees(method: str) -> dict[str, float]:
    """The same for a classic that `trees` leaves out: its setting in `mpo_games.baselines`."""
    at = tree_marks(False)
    late = [m for m in at if m >= at[-1] / 100]
    return tune(methods.CLASSICS[method], arenas.tuned_trees(False), late)
