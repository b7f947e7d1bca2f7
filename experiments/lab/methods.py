"""What the figures ask of the contestants of `mpo_games.baselines`.

The rule is that of `mpo_games.method`: equal budgets, equally many settings to choose from. Payoffs
are scaled to `max |A| = 1` here, so that one grid means the same in every game.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas, harness
from mpo_games.baselines import CLASSICS_ON_TREES, METHODS, OUTSIDERS, TUNED_FOR, on_trees
from mpo_games.method import Method, chosen, late, run

TREE_BUDGET = TUNED_FOR
"""The evaluations of a run on trees, unless a figure says otherwise."""

KIN = (
    "CFR+, average",
    "DCFR, average",
    "PCFR+, average",
    "PDCFR+, average",
    "PCFR+ restarted",
    "HS-DCFR(30)",
    "HS-PCFR+(30)",
)
"""Counterfactual regret minimisation and its descendants on trees."""

BY_NAME: Mapping[str, Method] = {method.name: method for method in METHODS + OUTSIDERS}
CLASSICS: Mapping[str, Method] = {method.name: method for method in CLASSICS_ON_TREES}
TREES_BY_NAME: Mapping[str, Method] = on_trees(TREE_BUDGET)

HIGHLIGHTED = (
    "AutoMPO",
    "Anchored Popov, L2",
    "EG restarted, L2 (PDLP)",
    "ExRM+ restarted",
    "Smooth PRM+ restarted",
    "PRM+, average",
    "Optimistic MPO",
    "MPO",
    "Optimistic MD",
)
"""The methods that a figure of many names; its other curves are grey."""


def tuned(
    method: str,
    budget: float,
    tune: tuple[Any, mg.TabularPolicy, int],
    report: tuple[Any, mg.TabularPolicy, int],
) -> dict[str, Any]:
    """Tune a method on one (game, start, seed), then run it on another.

    The chosen setting has the least mean log10 gap, over the tuning games and over the records in
    the last two decades of the budget (`late`).
    """
    contestant = BY_NAME[method]

    def score(setting: Mapping[str, float]) -> float:
        found = run(contestant, tune[0], setting, budget, policy=tune[1], seed=tune[2])
        return late(found.trace, budget)

    best = chosen(contestant, score)
    found = run(contestant, report[0], best, budget, policy=report[1], seed=report[2])
    gaps = np.maximum(found.trace["gap"], 0.0)
    return {
        "setting": best,
        "tried": len(contestant.settings()),
        "evaluations": found.trace["evaluations"],
        "gap": np.quantile(gaps, (0.1, 0.5, 0.9), axis=1).T,
        "final": np.sort(gaps[-1]),
    }


def contest(method: str, arena: str, budget: float, quick: bool) -> dict[str, Any]:
    """Tune a method on the arena's tuning games, then run it on the reported ones."""
    tune, report = arenas.arena(arena, quick)
    return tuned(method, budget, (tune, arenas.start(tune), 0), (report, arenas.start(report), 0))


def quantiles(stored: Mapping[str, Any]) -> mg.Trace:
    """The trace of the 10 %, 50 % and 90 % quantiles that `tuned` stored."""
    return harness.curve(stored["evaluations"], stored["gap"])
