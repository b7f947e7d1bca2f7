"""The settings that several figures use, and the evaluations at which they record gaps."""

from __future__ import annotations

import numpy as np

from experiments.lab import arenas, methods

CHECKPOINTS = (300, 1_000, 5_000, 20_000)
"""Evaluations on tables after which quantiles over the games are kept."""

MARKS = sorted({*CHECKPOINTS, *np.round(10.0 ** np.arange(1.5, 4.3, 0.125)).tolist()})
"""Evaluations on tables at which gaps are recorded."""

TUNED_FOR = 5_000
"""The budget that settings on tables are chosen for; the figures run on, to the last checkpoint."""

TREE_BUDGETS = (300, 5_000)
"""Evaluations on trees: of a quick run, and of a whole one."""

TREE_MARKS = sorted({300, 1_000, 5_000, *np.round(10.0 ** np.arange(1.25, 3.7, 0.125)).tolist()})
"""Evaluations on trees at which gaps are recorded."""


def marks(quick: bool) -> list[float]:
    """The `MARKS` of a run on tables."""
    return [m for m in MARKS if m <= CHECKPOINTS[0 if quick else -1]]


def tree_marks(quick: bool) -> list[float]:
    """The `TREE_MARKS` of a run on trees."""
    return [m for m in TREE_MARKS if m <= TREE_BUDGETS[0 if quick else -1]]


def on_family(method: str, family: str, quick: bool) -> dict[str, float]:
    """The setting that a method gets on a family of tables (`arenas.FAMILIES`)."""
    batches, _ = arenas.FAMILIES[family].arena(quick)
    # The last two decades of the budget.
    late = [m for m in marks(quick) if TUNED_FOR / 100 <= m <= TUNED_FOR]
    return methods.tune(methods.BY_NAME[method], batches, late)


def on_trees(method: str, quick: bool) -> dict[str, float]:
    """The one setting that a method gets on all trees, chosen on `arenas.tuned_trees`."""
    at = tree_marks(quick)
    late = [m for m in at if m >= at[-1] / 100]
    return methods.tune(methods.TREES_BY_NAME[method], arenas.tuned_trees(quick), late)
