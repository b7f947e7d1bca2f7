"""The contestants, and the one tuning rule for all of them.

Every method gets the same budget of feedback evaluations and the same number of settings to choose
from, `TRIES`, spread over the knobs it has: a method with a step size alone gets a finer grid than
one with a step size, a magnet weight and a period. The setting is chosen on games that are not the
ones reported, one setting for all games. Payoffs are scaled to `max |A| = 1`, so that one grid
means the same in every game. Methods without knobs run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

import mpo_games as mg
from experiments.lab import arenas, harness
from mpo_games.choices.geometry import as_given
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.metrics import Metric, average_gap, better_gap, duality_gap
from mpo_games.solvers import self_tuning

TRIES = 12

REPORTED = (0.5, 0.9, 1.0)
"""The quantiles over games that are reported of a race, and that its settings are chosen by."""

Grids = Mapping[tuple[str, ...], Mapping[str, tuple[float, ...]]]
"""The values of every knob, by the knobs that a method has."""

GRIDS: Grids = {
    (): {},
    ("eta",): {"eta": (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)},
    ("floor",): {"floor": (0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)},
    ("alpha", "period"): {"alpha": (0.01, 0.03, 0.1, 0.3), "period": (30, 100, 300)},
    ("eta", "alpha"): {"eta": (0.05, 0.2, 0.5, 2.0), "alpha": (0.02, 0.1, 0.4)},
    ("eta", "alpha", "power"): {
        "eta": (0.2, 0.5, 2.0),
        "alpha": (0.1, 0.4),
        "power": (0.5, 1.0),
    },
    ("eta", "alpha", "period"): {
        "eta": (0.1, 0.5, 2.0),
        "alpha": (0.05, 0.2),
        "period": (30, 200),
    },
    ("eta", "alpha", "rate"): {
        "eta": (0.1, 0.5, 2.0),
        "alpha": (0.05, 0.2),
        "rate": (0.005, 0.05),
    },
}


TREE_GRIDS: Grids = {
    (): {},
    ("eta",): {"eta": (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0)},
    ("eta", "alpha", "period"): {
        "eta": (0.1, 0.5, 1.0),
        "alpha": (0.02, 0.1),
        "period": (50, 200),
    },
    ("alpha", "period"): {"alpha": (0.001, 0.01, 0.1, 1.0), "period": (30, 100, 300)},
}
"""The same number of settings for trees, where a step is measured in payoffs at stake."""


@dataclass(frozen=True, slots=True)
class Method:
    """A contestant: its name in figures, its family, how it is built from its knobs."""

    name: str
    family: str
    build: Callable[..., mg.Solver]
    knobs: tuple[str, ...]
    output: Metric = duality_gap
    """The gap of what it returns: the last iterate, the average, or the better of the two."""
    geometry: mg.Geometry = mg.Entropy()
    """Of its policies."""
    view: Callable[[Any], Any] | None = None
    """What it sees of a tree, if it is for trees."""
    grids: Grids | None = None
    """The values of its knobs, where those of tables, or of trees for a `view`, do not fit."""
    alone: bool = False
    """Whether it decides something for all games of a batch, and so must meet them one by one."""

    def settings(self) -> list[dict[str, float]]:
        """The settings it is tuned over."""
        grid = (self.grids or (GRIDS if self.view is None else TREE_GRIDS))[self.knobs]
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def solver(self, setting: Mapping[str, Any]) -> mg.Solver:
        """The solver at a setting."""
        return self.build(**{k: int(v) if k == "period" else v for k, v in setting.items()})


def _ema(eta: float, alpha: float, rate: float) -> mg.Solver:
    return mg.MMD(eta, alpha, magnet=mg.Ema(rate))


def _sppo(eta: float) -> mg.Solver:
    return mg.Averaged(mg.MirrorDescent(eta))


def _omd_average(eta: float) -> mg.Solver:
    return mg.Averaged(mg.OptimisticMD(eta))


def _rm() -> mg.Solver:
    return mg.Averaged(mg.RegretMatching())


def _rm_plus() -> mg.Solver:
    return mg.Averaged(mg.RegretMatching(plus=True), degree=1)


def _prm_plus() -> mg.Averaged:
    return mg.Averaged(mg.RegretMatching(plus=True, predictive=True), degree=2)


def _restarted_prm_plus() -> mg.Solver:
    return mg.Restarted(_prm_plus(), RATIO, CHECK)


def _restarted_extragradient(eta: float) -> mg.Solver:
    return mg.Restarted(mg.Averaged(mg.Extragradient(eta)), RATIO, CHECK)


def _smooth(floor: float) -> mg.Solver:
    return mg.Restarted(mg.SmoothPRMPlus(floor), RATIO, CHECK)


def _half_step(floor: float) -> mg.Solver:
    return mg.Restarted(mg.ExtragradientRMPlus(floor), RATIO, CHECK)


MOVING = "moving magnet"
FIXED = "fixed or annealed magnet"
PLAIN = "no magnet"
PERTURBED = "other perturbations"
REGRET = "regret matching, last iterate"
AVERAGE = "the average is the output"
RESTARTED = "outsiders, restarted"
SMOOTH = "outsiders, not restarted"

_E, _EA, _EAK = ("eta",), ("eta", "alpha"), ("eta", "alpha", "period")

METHODS: tuple[Method, ...] = (
    Method("MPO", MOVING, mg.MPO, _EAK),
    Method("Optimistic MPO", MOVING, mg.OptimisticMPO, _EAK),
    Method("MPO-RT", MOVING, mg.MPO_RT, _EAK),
    Method("EMA magnet", MOVING, _ema, ("eta", "alpha", "rate")),
    Method("MMD", FIXED, mg.MMD, _EA),
    Method("Annealed MMD", FIXED, mg.AnnealedMMD, ("eta", "alpha", "power")),
    Method("EGPO", FIXED, mg.EGPO, _EA),
    Method("Nash-MD", FIXED, mg.NashMD, _EA),
    Method("MD", PLAIN, mg.MirrorDescent, _E),
    Method("GDA", PLAIN, mg.GradientAscent, _E),
    Method("Optimistic MD", PLAIN, mg.OptimisticMD, _E),
    Method("Extragradient", PLAIN, mg.Extragradient, _E),
    Method("APMD", PERTURBED, mg.APMD, _EAK),
    Method("M2WU", PERTURBED, mg.M2WU, _EAK),
    Method("RM", REGRET, mg.RegretMatching, ()),
    Method("RM+", REGRET, lambda: mg.RegretMatching(plus=True), ()),
    Method("PRM+", REGRET, lambda: mg.RegretMatching(plus=True, predictive=True), ()),
    Method("SPO/SPPO", AVERAGE, _sppo, _E, output=average_gap),
    Method("Fictitious play", AVERAGE, mg.FictitiousPlay, ()),
    Method("RM, average", AVERAGE, _rm, (), output=average_gap),
    Method("RM+, average", AVERAGE, _rm_plus, (), output=average_gap),
    Method("PRM+, average", AVERAGE, _prm_plus, (), output=average_gap),
)

CONVERGED = 1e-15
"""In units of payoff."""

RATIO, CHECK = 0.5, 20
"""Of restarts: they look every `CHECK` steps whether the gap has fallen to `RATIO`."""

L2 = mg.Euclidean()

SELF_TUNING = "nothing to tune"


@dataclass(frozen=True, slots=True)
class Twin:
    """`AutoMPO` in the geometry of the policy it is given: in L2 the anchored Popov method."""

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        """A step of `AutoMPO` but for its geometry."""
        seats = self_tuning.ONE_SEAT if game.players == 1 else self_tuning.TWO_SEATS
        return replace(seats, geometry=as_given).step(game, state, rng)


OUTSIDERS: tuple[Method, ...] = (
    Method("AutoMPO", SELF_TUNING, mg.AutoMPO, (), alone=True),
    Method("Anchored Popov, L2", SELF_TUNING, Twin, (), geometry=L2, alone=True),
    Method("EG restarted", RESTARTED, _restarted_extragradient, _E, better_gap),
    Method("EG restarted, L2 (PDLP)", RESTARTED, _restarted_extragradient, _E, better_gap, L2),
    Method("Smooth PRM+ restarted", RESTARTED, _smooth, ("floor",)),
    Method("ExRM+ restarted", RESTARTED, _half_step, ("floor",)),
    Method("PRM+ restarted", RESTARTED, _restarted_prm_plus, (), better_gap),
    Method("Smooth PRM+", SMOOTH, mg.SmoothPRMPlus, ("floor",)),
    Method("ExRM+", SMOOTH, mg.ExtragradientRMPlus, ("floor",)),
    Method("RT-RM+", SMOOTH, mg.RTCFRPlus, ("alpha", "period")),
    Method("Optimistic MD, average", AVERAGE, _omd_average, _E, output=average_gap),
)
"""The self-tuning solver, and the strongest from elsewhere, for `last_iterate`."""


def _floored(eta: float, alpha: float, period: int) -> mg.Solver:
    return mg.MMD(eta, alpha, magnet=mg.Every(period, floor=FLOOR))


def _floored_optimistic(eta: float, alpha: float, period: int) -> mg.Solver:
    return mg.MMD(eta, alpha, magnet=mg.Every(period, floor=FLOOR), feedback=mg.optimistic)


def _pcfr_plus() -> mg.Solver:
    return mg.RegretMatching(plus=True, predictive=True, alternating=True)


def _restarted_pcfr_plus() -> mg.Solver:
    return mg.Restarted(mg.PCFRPlus(), RATIO, CHECK)


def _itself(game: mg.SequenceFormGame) -> Any:
    return game


def _payoff_scaled(game: mg.SequenceFormGame) -> Any:
    return game.with_weights(mg.dilation.payoff_scaled)


FLOOR = 1e-3
"""Uniform play in the moved magnet, so that actions that died can come back."""

ON_TREES: tuple[Method, ...] = (
    Method("AutoMPO", SELF_TUNING, mg.AutoMPO, (), view=_itself, alone=True),
    Method("MPO", MOVING, _floored, _EAK, view=_payoff_scaled),
    Method("Optimistic MPO", MOVING, _floored_optimistic, _EAK, view=_payoff_scaled),
    Method("MPO-RT (R-NaD)", MOVING, mg.MPO_RT, _EAK, view=BehaviouralGame),
    Method("Optimistic MD", PLAIN, mg.OptimisticMD, _E, view=_payoff_scaled),
    Method(
        "EG restarted", RESTARTED, _restarted_extragradient, _E, better_gap, view=_payoff_scaled
    ),
    Method("CFR+, average", AVERAGE, mg.CFRPlus, (), average_gap, view=_itself),
    Method("PCFR+, average", AVERAGE, mg.PCFRPlus, (), average_gap, view=_itself),
    Method("PCFR+, last", REGRET, _pcfr_plus, (), view=_itself),
    Method("PCFR+ restarted", RESTARTED, _restarted_pcfr_plus, (), better_gap, view=_itself),
    Method("RT-CFR+", SMOOTH, mg.RTCFRPlus, ("alpha", "period"), view=_itself),
)
"""The contestants on trees."""

BY_NAME: Mapping[str, Method] = {method.name: method for method in METHODS + OUTSIDERS}
TREES_BY_NAME: Mapping[str, Method] = {method.name: method for method in ON_TREES}

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


def run(
    method: Method, game: Any, setting: Mapping[str, Any], budget: float, **options: Any
) -> mg.Solution[Any]:
    """Solve `game`, recording as `gap` that of the method's output."""
    return mg.solve(game, method.solver(setting), budget, metrics={"gap": method.output}, **options)


def race(
    method: Method,
    setting: Mapping[str, Any],
    batches: Sequence[arenas.Batch],
    marks: Sequence[float],
) -> Any:
    """The gap of every game of the batches when the evaluations reach each mark, (marks, games).

    A method that is `alone` stops at a gap of `CONVERGED` and keeps it, for the sake of time.
    """
    columns = []
    tol = CONVERGED if method.alone else None
    for game, start in arenas.split(batches) if method.alone else batches:
        policy = start and mg.TabularPolicy.from_probs(start.probs, start.legal, method.geometry)
        seen = game if method.view is None else method.view(game)
        found = run(method, seen, setting, marks[-1], policy=policy, at=marks, tol=tol).trace
        rows = np.minimum(np.searchsorted(found["evaluations"], marks), len(found) - 1)
        columns.append(np.reshape(found["gap"][rows], (len(marks), -1)))
    return np.maximum(np.concatenate(columns, axis=1), 0.0)


def chosen(method: Method, score: Callable[[Mapping[str, float]], float]) -> dict[str, float]:
    """The setting of the least score; a method without knobs has one."""
    settings = method.settings()
    return min(settings, key=score) if len(settings) > 1 else settings[0]


def mean_log(gaps: Any) -> float:
    """What a setting is judged by: low, soon, and without spikes."""
    return float(np.mean(np.log10(np.maximum(gaps, 1e-16))))


def late(trace: mg.Trace, budget: float) -> float:
    """The mean log10 gap of the records of the last two decades of the budget."""
    return mean_log(trace["gap"][trace["evaluations"] >= budget / 100])


def tune(
    method: Method, batches: Sequence[arenas.Batch], marks: Sequence[float]
) -> dict[str, float]:
    """The setting of least mean log10 of what is reported: median, 90 % and worst, at the marks."""

    def score(setting: Mapping[str, float]) -> float:
        gaps = race(method, setting, batches, marks)
        return mean_log(np.quantile(gaps, REPORTED, axis=1))

    return chosen(method, score)


def tuned(
    method: str,
    budget: float,
    tune: tuple[Any, mg.TabularPolicy, int],
    report: tuple[Any, mg.TabularPolicy, int],
) -> dict[str, Any]:
    """Tune a method on one (game, start, seed), then run it on another.

    The setting chosen has the least mean of log10 gap over the tuning games and the records of the
    last two decades of the budget: low, soon, and without spikes.
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
