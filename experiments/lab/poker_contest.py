"""The contest on trees: methods, tuning, two clocks.

The rule of `mpo_games.method` with one change: every method is tuned on the very game that it is
reported on, `TRIES` settings each with the full budget. There is no second Leduc to tune on, and a
copy with payoffs drawn at random around the game's own is another problem: optimistic steps of .3
suit liar's dice, steps of 1 suit a copy with 30 % noise on its payoffs, and on the game itself
steps of 1 do not converge. So a line shows its method at the best of twelve settings, and a method
without knobs gets no help. The solvers see payoffs scaled to `max |A| = 1` in sequence form, so
that one grid fits all games; reports are in the game's own payoffs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas
from experiments.lab.harness import Run
from mpo_games import exact
from mpo_games.baselines import AVERAGE, FIXED, MOVING, PLAIN
from mpo_games.baselines import GRIDS as TABLES
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.method import Grid, Method, chosen, late, run
from mpo_games.protocol import Array

GRIDS: Mapping[tuple[str, ...], Grid] = {
    **TABLES,
    ("eta", "alpha"): {"eta": (0.03, 0.1, 0.3, 1.0), "alpha": (0.01, 0.03, 0.1)},
    ("eta", "alpha", "power"): {
        "eta": (1.0, 3.0, 10.0),
        "alpha": (0.3, 1.0),
        "power": (0.5, 1.0),
    },
    ("eta", "alpha", "period"): {
        "eta": (0.1, 0.3, 1.0),
        "alpha": (0.03, 0.1),
        "period": (30, 200),
    },
    ("eta", "period", "floor"): {
        "eta": (0.3, 1.0),
        "period": (50, 100, 200),
        "floor": (0.0, 1e-3),
    },
}
"""Settings for payoffs scaled to `max |A| = 1` in sequence form."""


def weighted(game: SequenceFormGame) -> SequenceFormGame:
    """The game with payoff-scaled weights of its dilated entropy."""
    return game.with_dilation(mg.dilation.payoff_scaled)


def floored_mpo(eta: float, period: int, floor: float) -> mg.Solver:
    """Optimistic MPO whose magnet keeps all actions alive.

    For payoff-scaled weights, where `eta` and `alpha` have no unit.
    """
    return mg.MMD(eta, 0.02, mg.Every(period, floor), feedback=mg.optimistic)


_E, _EA, _EAK = GRIDS["eta",], GRIDS["eta", "alpha"], GRIDS["eta", "alpha", "period"]
_EAP, _EPF = GRIDS["eta", "alpha", "power"], GRIDS["eta", "period", "floor"]

METHODS: tuple[Method, ...] = (
    Method("AutoMPO", MOVING, mg.AutoMPO),
    Method("MPO", MOVING, mg.MPO, _EAK),
    Method("MPO-RT", MOVING, mg.MPO_RT, _EAK),
    Method("Optimistic MPO, weighted", MOVING, floored_mpo, _EPF, view=weighted),
    Method("MMD", FIXED, mg.MMD, _EA),
    Method("Annealed MMD", FIXED, mg.AnnealedMMD, _EAP),
    Method("MD", PLAIN, mg.MirrorDescent, _E),
    Method("GDA, policy gradient", PLAIN, mg.GradientAscent, _E, view=BehaviouralGame),
    Method("Optimistic MD", PLAIN, mg.OptimisticMD, _E),
    Method("Optimistic MD, weighted", PLAIN, mg.OptimisticMD, _E, view=weighted),
    Method("Fictitious play", AVERAGE, mg.FictitiousPlay),
    Method("CFR+", AVERAGE, mg.CFRPlus),
)
"""The contestants: each is a line in every panel."""

BY_NAME: Mapping[str, Method] = {method.name: method for method in METHODS}


def contest(method: str, game: str, budget: float) -> dict[str, Any]:
    """Tune a method on a game, run it, and run it again to time it."""
    contestant, original = BY_NAME[method], arenas.tree(game)
    scale = float(original.bound)
    normalised = original.with_payoff(original.payoff / scale)
    seen = contestant.view(normalised) if contestant.view else normalised

    def score(setting: Mapping[str, float]) -> float:
        return late(run(contestant, seen, setting, budget).trace, budget)

    setting = chosen(contestant, score)
    # Recorded here and timed below, so that the clock sees the steps alone.
    found = run(contestant, seen, setting, budget)
    at = found.trace["evaluations"]
    # Reported in the game's own payoffs; exploitability is half the duality gap.
    return {
        "setting": setting,
        "tried": len(contestant.settings()),
        "evaluations": at,
        "exploitability": np.maximum(found.trace["gap"], 0.0) * scale / 2.0,
        "seconds": seconds(seen, contestant.solver(setting), at),
    }


def seconds(game: Any, solver: mg.Solver, at: Array, passes: int = 2) -> Array:
    """Seconds until the bare solver, nothing recorded, has spent each of the evaluations `at`.

    The better of `passes` passes, in processor time of this thread: what a clock on the wall would
    show on an idle core.
    """

    def one_pass() -> list[float]:
        states: Iterator[mg.State[Any]] = mg.iterate(game, solver)
        start, taken = time.thread_time(), []
        for mark in at:
            while next(states).evaluations < mark:
                pass
            taken.append(time.thread_time() - start)
        return taken

    return np.asarray(np.min([one_pass() for _ in range(passes)], axis=0))


def truth(game: str) -> dict[str, float]:
    """The value and the duality gap of the equilibrium, by linear programming."""
    nash = exact.nash(arenas.tree(game))
    return {"value": float(nash.value), "gap": float(nash.gap)}


def contests(games: Sequence[str], budget: float, run_cells: Run) -> dict[str, Any]:
    """The contest of every method on every game."""
    pairs = list(product(games, BY_NAME))
    cells = [{"game": g, "method": m, "budget": budget} for g, m in pairs]
    found = dict(zip(pairs, run_cells(contest, cells), strict=True))
    return {g: {m: found[g, m] for m in BY_NAME} for g in games}
