"""The contestants, and the one tuning rule for all of them.

Every method gets the same budget of feedback evaluations and the same number of settings to choose
from, `TRIES`, spread over the knobs that it has: a method with only a step size gets a finer grid
than one with a step size, a magnet weight and a period. The setting is chosen on games that are not
reported, one setting for all games. Payoffs are scaled to `max |A| = 1`, so that one grid means the
same in every game. A method without knobs runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
"""How many settings a method with knobs chooses from."""

TUNED_FOR = 5_000
"""The evaluations for which settings on tables are chosen, and hyperparameter schedules made."""

TREE_BUDGET = 5_000
"""The evaluations of a run on trees, unless a figure says otherwise."""

REPORTED = (0.5, 0.9, 1.0)
"""The quantiles over games by which a race is reported, and its settings are chosen."""

Grids = Mapping[tuple[str, ...], Mapping[str, tuple[float, ...]]]
"""For each set of knobs that a method may have, the values of every knob."""

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
"""Settings for tables."""

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
"""Settings for trees, as many; a step is measured in payoffs at stake there."""


@dataclass(frozen=True, slots=True)
class Method:
    """A contestant."""

    name: str
    """Its name in figures, which decides its look (`mpo_games.plot.style`)."""
    family: str
    """The group of methods that it is drawn with."""
    build: Callable[..., mg.Solver]
    """The solver from the values of its knobs."""
    knobs: tuple[str, ...]
    """The names of its settings."""
    output: Metric = duality_gap
    """The gap of the policy that it returns: last iterate, average, or the better of the two."""
    geometry: mg.Geometry = mg.Entropy()
    """The geometry of its policies on tables."""
    view: Callable[[Any], Any] | None = None
    """The game that it plays in place of a tree; None for a method on tables."""
    grids: Grids | None = None
    """The values of its knobs; by default `GRIDS`, or `TREE_GRIDS` where it has a `view`."""
    alone: bool = False
    """Whether it plays games one by one, since it decides something for a whole batch at once."""

    def settings(self) -> list[dict[str, float]]:
        """The settings it is tuned over."""
        grid = (self.grids or (GRIDS if self.view is None else TREE_GRIDS))[self.knobs]
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def solver(self, setting: Mapping[str, Any]) -> mg.Solver:
        """The solver at a setting."""
        # Grids hold floats, but a period counts steps.
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


def _hs_dcfr() -> mg.Solver:
    return mg.HSDCFR(TUNED_FOR)


def _hs_pcfr_plus() -> mg.Solver:
    return mg.HSPCFRPlus(TUNED_FOR)


def _restarted_pcfr_plus() -> mg.Solver:
    return mg.Restarted(mg.PCFRPlus(), RATIO, CHECK)


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
"""The gap, in units of payoff, at which a method that plays games one by one stops."""

RATIO, CHECK = 0.5, 20
"""The settings of restarts: every `CHECK` steps, if the gap has fallen to `RATIO` of the last."""

L2 = mg.Euclidean()

SELF_TUNING = "nothing to tune"


@dataclass(frozen=True, slots=True)
class Twin:
    """`AutoMPO` in the geometry of the policy that it is given: in L2 the anchored Popov method."""

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        """A step of `AutoMPO` in the given geometry."""
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
    Method("PCFR+ restarted", RESTARTED, _restarted_pcfr_plus, (), better_gap),
    Method("Smooth PRM+", SMOOTH, mg.SmoothPRMPlus, ("floor",)),
    Method("ExRM+", SMOOTH, mg.ExtragradientRMPlus, ("floor",)),
    Method("RT-RM+", SMOOTH, mg.RTCFRPlus, ("alpha", "period")),
    Method("Optimistic MD, average", AVERAGE, _omd_average, _E, output=average_gap),
    Method("HS-DCFR(30)", AVERAGE, _hs_dcfr, (), output=average_gap),
    Method("HS-PCFR+(30)", AVERAGE, _hs_pcfr_plus, (), output=average_gap),
    Method("PDCFR+", AVERAGE, mg.PDCFRPlus, (), output=average_gap),
)
"""For `last_iterate`: the self-tuning solver, and the strongest methods of other papers."""


def _floored(eta: float, alpha: float, period: int) -> mg.Solver:
    return mg.MMD(eta, alpha, magnet=mg.Every(period, floor=FLOOR))


def _floored_optimistic(eta: float, alpha: float, period: int) -> mg.Solver:
    return mg.MMD(eta, alpha, magnet=mg.Every(period, floor=FLOOR), feedback=mg.optimistic)


def _pcfr_plus() -> mg.Solver:
    return mg.RegretMatching(plus=True, predictive=True, alternating=True)


def _itself(game: mg.SequenceFormGame) -> Any:
    return game


def _payoff_scaled(game: mg.SequenceFormGame) -> Any:
    return game.with_dilation(mg.dilation.payoff_scaled)


FLOOR = 1e-3
"""The share of uniform play in a moved magnet, so that actions that died can come back."""

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
    Method("DCFR, average", AVERAGE, mg.DCFR, (), average_gap, view=_itself),
    Method("PCFR+, average", AVERAGE, mg.PCFRPlus, (), average_gap, view=_itself),
    Method("PDCFR+, average", AVERAGE, mg.PDCFRPlus, (), average_gap, view=_itself),
    Method("PCFR+, last", REGRET, _pcfr_plus, (), view=_itself),
    Method("PCFR+ restarted", RESTARTED, _restarted_pcfr_plus, (), better_gap, view=_itself),
    Method("RT-CFR+", SMOOTH, mg.RTCFRPlus, ("alpha", "period"), view=_itself),
)
"""The contestants on trees whose settings do not depend on the length of the run."""


def on_trees(steps: int) -> Mapping[str, Method]:
    """The contestants on trees by name, in a run of `steps` evaluations."""
    hs_dcfr, hs_pcfr_plus = partial(mg.HSDCFR, steps), partial(mg.HSPCFRPlus, steps)
    scheduled = (
        Method("HS-DCFR(30)", AVERAGE, hs_dcfr, (), average_gap, view=_itself),
        Method("HS-PCFR+(30)", AVERAGE, hs_pcfr_plus, (), average_gap, view=_itself),
    )
    return {method.name: method for method in ON_TREES + scheduled}


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


def run(
    method: Method, game: Any, setting: Mapping[str, Any], budget: float, **options: Any
) -> mg.Solution[Any]:
    """Solve `game`; the column `gap` of the trace is the gap of the method's output."""
    return mg.solve(game, method.solver(setting), budget, metrics={"gap": method.output}, **options)


def race(
    method: Method,
    setting: Mapping[str, Any],
    batches: Sequence[arenas.Batch],
    marks: Sequence[float],
) -> Any:
    """The gap of every game of the batches when the evaluations reach each mark, `(marks, games)`.

    A method that is `alone` stops at a gap of `CONVERGED`, which then counts for all later marks.
    """
    columns = []
    tol = CONVERGED if method.alone else None
    for game, start in arenas.split(batches) if method.alone else batches:
        # The same probabilities in every geometry.
        policy = start and mg.TabularPolicy.from_probs(start.probs, start.legal, method.geometry)
        seen = game if method.view is None else method.view(game)
        found = run(method, seen, setting, marks[-1], policy=policy, at=marks, tol=tol).trace
        # The first record at or after a mark; the last one where the method stopped before.
        rows = np.minimum(np.searchsorted(found["evaluations"], marks), len(found) - 1)
        columns.append(np.reshape(found["gap"][rows], (len(marks), -1)))
    # Rounding may leave a gap below 0.
    return np.maximum(np.concatenate(columns, axis=1), 0.0)


def chosen(method: Method, score: Callable[[Mapping[str, float]], float]) -> dict[str, float]:
    """The setting of least score; the only one of a method without knobs."""
    settings = method.settings()
    return min(settings, key=score) if len(settings) > 1 else settings[0]


def mean_log(gaps: Any) -> float:
    """The mean log10 gap, which judges a setting: low, soon, and without spikes is best."""
    # Below is rounding, and 0 has no logarithm.
    return float(np.mean(np.log10(np.maximum(gaps, 1e-16))))


def late(trace: mg.Trace, budget: float) -> float:
    """The mean log10 gap of the records of the last two decades of the budget."""
    return mean_log(trace["gap"][trace["evaluations"] >= budget / 100])


def tune(
    method: Method, batches: Sequence[arenas.Batch], marks: Sequence[float]
) -> dict[str, float]:
    """The setting whose `REPORTED` quantiles have the least mean log10 over the marks."""

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
