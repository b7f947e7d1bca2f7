"""The methods that a new one is compared with: rivals on tables and on trees.

Their names are those of the figures (`mpo_games.plot.style`). Settings on tables are in units of
the largest payoff, `max |A|`, so that one grid means the same in every game; on trees a step is
measured in the payoffs at stake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpo_games.choices.feedback import optimistic
from mpo_games.choices.geometry import as_given
from mpo_games.choices.magnets import Ema, Every
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.method import Grid, Method
from mpo_games.policies.dilation import payoff_scaled
from mpo_games.policies.mirror_maps import Euclidean
from mpo_games.protocol import Solver
from mpo_games.rivals import Baseline, Baselines
from mpo_games.solvers import magnetic, regret, self_tuning
from mpo_games.solvers.averaged import Averaged
from mpo_games.solvers.classic import FictitiousPlay, GradientAscent
from mpo_games.solvers.regret import RegretMatching
from mpo_games.solvers.restarts import Restarted

TUNED_FOR = 5_000
"""The evaluations for which settings are chosen, and hyperparameter schedules made."""

GRIDS: Mapping[tuple[str, ...], Grid] = {
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
"""Settings for tables: for each set of knobs that a method may have, the values of every knob."""

TREE_GRIDS: Mapping[tuple[str, ...], Grid] = {
    (): {},
    ("eta",): {"eta": (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0)},
    ("eta", "alpha"): {"eta": (0.05, 0.2, 0.5, 2.0), "alpha": (0.005, 0.02, 0.1)},
    ("eta", "alpha", "period"): {
        "eta": (0.1, 0.5, 1.0),
        "alpha": (0.02, 0.1),
        "period": (50, 200),
    },
    ("alpha", "period"): {"alpha": (0.001, 0.01, 0.1, 1.0), "period": (30, 100, 300)},
}
"""Settings for trees, as many; a step is measured in payoffs at stake there."""

RATIO, CHECK = 0.5, 20
"""The settings of restarts: every `CHECK` steps, if the gap has fallen to `RATIO` of the last."""

FLOOR = 1e-3
"""The share of uniform play in a moved magnet on trees, so that dead actions can come back."""


def _ema(eta: float, alpha: float, rate: float) -> Solver:
    return magnetic.MMD(eta, alpha, magnet=Ema(rate))


def _sppo(eta: float) -> Solver:
    return Averaged(magnetic.MirrorDescent(eta))


def _omd_average(eta: float) -> Solver:
    return Averaged(magnetic.OptimisticMD(eta))


def _rm_plus() -> Solver:
    return RegretMatching(plus=True)


def _prm_plus() -> Solver:
    return RegretMatching(plus=True, predictive=True)


def _average_rm() -> Solver:
    return Averaged(RegretMatching())


def _average_rm_plus() -> Solver:
    return Averaged(RegretMatching(plus=True), degree=1)


def _average_prm_plus() -> Averaged:
    return Averaged(RegretMatching(plus=True, predictive=True), degree=2)


def _restarted_prm_plus() -> Solver:
    return Restarted(_average_prm_plus(), RATIO, CHECK)


def _restarted_pcfr_plus() -> Solver:
    return Restarted(regret.PCFRPlus(), RATIO, CHECK)


def _restarted_extragradient(eta: float) -> Solver:
    return Restarted(Averaged(magnetic.Extragradient(eta)), RATIO, CHECK)


def _restarted_smooth(floor: float) -> Solver:
    return Restarted(regret.SmoothPRMPlus(floor), RATIO, CHECK)


def _restarted_half_step(floor: float) -> Solver:
    return Restarted(regret.ExtragradientRMPlus(floor), RATIO, CHECK)


def _floored(eta: float, alpha: float, period: int) -> Solver:
    return magnetic.MMD(eta, alpha, magnet=Every(period, floor=FLOOR))


def _floored_optimistic(eta: float, alpha: float, period: int) -> Solver:
    return magnetic.MMD(eta, alpha, magnet=Every(period, floor=FLOOR), feedback=optimistic)


def _pcfr_plus() -> Solver:
    return RegretMatching(plus=True, predictive=True, alternating=True)


@dataclass(frozen=True, slots=True)
class Twin:
    """`AutoMPO` in the geometry of the policy that it is given: in L2 the anchored Popov method."""

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        """A step of `AutoMPO` in the given geometry."""
        seats = self_tuning.ONE_SEAT if game.players == 1 else self_tuning.TWO_SEATS
        return replace(seats, geometry=as_given).step(game, state, rng)


MOVING = "moving magnet"
FIXED = "fixed or annealed magnet"
PLAIN = "no magnet"
PERTURBED = "other perturbations"
REGRET = "regret matching, last iterate"
AVERAGE = "the average is the output"
RESTARTED = "outsiders, restarted"
SMOOTH = "outsiders, not restarted"
SELF_TUNING = "nothing to tune"

L2 = Euclidean()

_E, _EA, _EAK = GRIDS["eta",], GRIDS["eta", "alpha"], GRIDS["eta", "alpha", "period"]
_EAR, _EAP = GRIDS["eta", "alpha", "rate"], GRIDS["eta", "alpha", "power"]
_F, _AK = GRIDS["floor",], GRIDS["alpha", "period"]

METHODS: tuple[Method, ...] = (
    Method("MPO", MOVING, magnetic.MPO, _EAK),
    Method("Optimistic MPO", MOVING, magnetic.OptimisticMPO, _EAK),
    Method("MPO-RT", MOVING, magnetic.MPO_RT, _EAK),
    Method("EMA magnet", MOVING, _ema, _EAR),
    Method("MMD", FIXED, magnetic.MMD, _EA),
    Method("Annealed MMD", FIXED, magnetic.AnnealedMMD, _EAP),
    Method("EGPO", FIXED, magnetic.EGPO, _EA),
    Method("Nash-MD", FIXED, magnetic.NashMD, _EA),
    Method("MD", PLAIN, magnetic.MirrorDescent, _E),
    Method("GDA", PLAIN, GradientAscent, _E),
    Method("Optimistic MD", PLAIN, magnetic.OptimisticMD, _E),
    Method("Extragradient", PLAIN, magnetic.Extragradient, _E),
    Method("APMD", PERTURBED, magnetic.APMD, _EAK),
    Method("M2WU", PERTURBED, magnetic.M2WU, _EAK),
    Method("RM", REGRET, RegretMatching),
    Method("RM+", REGRET, _rm_plus),
    Method("PRM+", REGRET, _prm_plus),
    Method("SPO/SPPO", AVERAGE, _sppo, _E),
    Method("Fictitious play", AVERAGE, FictitiousPlay),
    Method("RM, average", AVERAGE, _average_rm),
    Method("RM+, average", AVERAGE, _average_rm_plus),
    Method("PRM+, average", AVERAGE, _average_prm_plus),
)
"""On tables: the methods of the papers on magnets, and their relatives."""

OUTSIDERS: tuple[Method, ...] = (
    Method("AutoMPO", SELF_TUNING, self_tuning.AutoMPO, alone=True),
    Method("Anchored Popov, L2", SELF_TUNING, Twin, geometry=L2, alone=True),
    Method("EG restarted", RESTARTED, _restarted_extragradient, _E),
    Method("EG restarted, L2 (PDLP)", RESTARTED, _restarted_extragradient, _E, L2),
    Method("Smooth PRM+ restarted", RESTARTED, _restarted_smooth, _F),
    Method("ExRM+ restarted", RESTARTED, _restarted_half_step, _F),
    Method("PRM+ restarted", RESTARTED, _restarted_prm_plus),
    Method("PCFR+ restarted", RESTARTED, _restarted_pcfr_plus),
    Method("Smooth PRM+", SMOOTH, regret.SmoothPRMPlus, _F),
    Method("ExRM+", SMOOTH, regret.ExtragradientRMPlus, _F),
    Method("RT-RM+", SMOOTH, regret.RTCFRPlus, _AK),
    Method("Optimistic MD, average", AVERAGE, _omd_average, _E),
    Method("HS-DCFR(30)", AVERAGE, regret.HSDCFR, steps=TUNED_FOR),
    Method("HS-PCFR+(30)", AVERAGE, regret.HSPCFRPlus, steps=TUNED_FOR),
    Method("PDCFR+", AVERAGE, regret.PDCFRPlus),
)
"""On tables: the self-tuning solver, and the strongest methods of other papers."""


def _itself(game: SequenceFormGame) -> Any:
    return game


def _payoff_scaled(game: SequenceFormGame) -> Any:
    return game.with_dilation(payoff_scaled)


_TE, _TEAK = TREE_GRIDS["eta",], TREE_GRIDS["eta", "alpha", "period"]
_TEA, _TAK = TREE_GRIDS["eta", "alpha"], TREE_GRIDS["alpha", "period"]

ON_TREES: tuple[Method, ...] = (
    Method("AutoMPO", SELF_TUNING, self_tuning.AutoMPO, view=_itself, alone=True),
    Method("MPO", MOVING, _floored, _TEAK, view=_payoff_scaled),
    Method("Optimistic MPO", MOVING, _floored_optimistic, _TEAK, view=_payoff_scaled),
    Method("MPO-RT (R-NaD)", MOVING, magnetic.MPO_RT, _TEAK, view=BehaviouralGame),
    Method("Optimistic MD", PLAIN, magnetic.OptimisticMD, _TE, view=_payoff_scaled),
    Method("EG restarted", RESTARTED, _restarted_extragradient, _TE, view=_payoff_scaled),
    Method("CFR+, average", AVERAGE, regret.CFRPlus, view=_itself),
    Method("DCFR, average", AVERAGE, regret.DCFR, view=_itself),
    Method("PCFR+, average", AVERAGE, regret.PCFRPlus, view=_itself),
    Method("PDCFR+, average", AVERAGE, regret.PDCFRPlus, view=_itself),
    Method("PCFR+, last", REGRET, _pcfr_plus, view=_itself),
    Method("PCFR+ restarted", RESTARTED, _restarted_pcfr_plus, view=_itself),
    Method("RT-CFR+", SMOOTH, regret.RTCFRPlus, _TAK, view=_itself),
    Method(
        "HS-DCFR(30)",
        AVERAGE,
        regret.HSDCFR,
        view=_itself,
        steps=TUNED_FOR,
    ),
    Method(
        "HS-PCFR+(30)",
        AVERAGE,
        regret.HSPCFRPlus,
        view=_itself,
        steps=TUNED_FOR,
    ),
)
"""On trees: the contestants of `experiments/trees.py`."""

CLASSICS_ON_TREES: tuple[Method, ...] = (
    Method("MMD", FIXED, magnetic.MMD, _TEA, view=_payoff_scaled),
    Method("MD", PLAIN, magnetic.MirrorDescent, _TE, view=_payoff_scaled),
    Method("Fictitious play", AVERAGE, FictitiousPlay, view=_itself),
    Method("CFR, average", AVERAGE, regret.CFR, view=_itself),
)
"""On trees: classics that the figures of trees leave out."""


def on_trees(steps: int) -> Mapping[str, Method]:
    """The contestants of `ON_TREES` by name, in a run of `steps` evaluations."""
    return {method.name: method.lasting(steps) for method in ON_TREES}


DEFAULTS_ON_TABLES: Mapping[str, Mapping[str, float]] = {
    "MPO": {"eta": 0.5, "alpha": 0.2, "period": 30},
    "Optimistic MPO": {"eta": 0.5, "alpha": 0.05, "period": 200},
    "EMA magnet": {"eta": 0.5, "alpha": 0.2, "rate": 0.05},
    "MMD": {"eta": 0.5, "alpha": 0.1},
    "Annealed MMD": {"eta": 2.0, "alpha": 0.4, "power": 0.5},
    "Optimistic MD": {"eta": 1.0},
    "Extragradient": {"eta": 1.0},
    "APMD": {"eta": 0.1, "alpha": 0.2, "period": 200},
    "SPO/SPPO": {"eta": 0.3},
    "EG restarted": {"eta": 2.0},
    "EG restarted, L2 (PDLP)": {"eta": 0.3},
    "Smooth PRM+ restarted": {"floor": 5.0},
    "ExRM+ restarted": {"floor": 3.0},
    "Smooth PRM+": {"floor": 5.0},
    "ExRM+": {"floor": 3.0},
    "RT-RM+": {"alpha": 0.1, "period": 30},
    "Optimistic MD, average": {"eta": 2.0},
    "MPO-RT": {"eta": 0.5, "alpha": 0.2, "period": 30},
    "EGPO": {"eta": 2.0, "alpha": 0.02},
    "Nash-MD": {"eta": 0.2, "alpha": 0.02},
    "MD": {"eta": 0.03},
    "GDA": {"eta": 0.01},
    "M2WU": {"eta": 0.5, "alpha": 0.2, "period": 30},
}
"""One setting for all tables, in units of the largest payoff.

The rule of `mpo_games.method.tune` chose it among twelve, on twenty random zero-sum games of
10 x 10 actions (the figure `last_iterate`). For the methods that this figure leaves out the games
are random preferences among ten responses (`random_games`).
"""

DEFAULTS_ON_TREES: Mapping[str, Mapping[str, float]] = {
    "MPO": {"eta": 0.5, "alpha": 0.1, "period": 50},
    "Optimistic MPO": {"eta": 1.0, "alpha": 0.02, "period": 50},
    "MPO-RT (R-NaD)": {"eta": 0.1, "alpha": 0.1, "period": 200},
    "Optimistic MD": {"eta": 1.5},
    "EG restarted": {"eta": 1.5},
    "RT-CFR+": {"alpha": 0.001, "period": 300},
    "MMD": {"eta": 0.2, "alpha": 0.02},
    "MD": {"eta": 0.1},
}
"""One setting for all trees, chosen for 5 000 evaluations on perturbed Kuhn, goofspiel and Leduc
poker (the figure `trees`; for the last two `classic_on_trees` of `experiments/lab/tuning.py`)."""

SHORT = {
    "MPO-RT (R-NaD)": "MPO-RT",
    **{f"{name}, average": name for name in ("CFR", "CFR+", "DCFR", "PCFR+", "PDCFR+")},
}
"""Names of methods on trees as `baselines` has them."""


def baselines() -> Baselines:
    """The methods that the figures of this project compare, by name, to hand to `compare`.

    Each has its published form, and one setting for all tables and one for all trees, which the
    rule of `compare(..., tune_on=)` chose among twelve on other games. So a game of another kind
    may suit a method less well: pass `tune_on` to let all of them choose anew. Schedules that
    depend on the length of a run are made for the budget. A rival that is not made for tables, or
    not for trees, says so where it is to play one.

    >>> baselines()["SPO/SPPO"].solver(load("rps")) == Averaged(MirrorDescent(0.3))
    True
    """
    tables = {m.name: _untuned(m, DEFAULTS_ON_TABLES) for m in (*OUTSIDERS[:1], *METHODS)}
    tables |= {m.name: _untuned(m, DEFAULTS_ON_TABLES) for m in OUTSIDERS}
    trees = {
        SHORT.get(m.name, m.name): _untuned(m, DEFAULTS_ON_TREES)
        for m in (*ON_TREES, *CLASSICS_ON_TREES)
    }
    names = dict.fromkeys((*tables, *trees))
    return Baselines({n: Baseline(n, tables.get(n), trees.get(n)) for n in names})


def _untuned(method: Method, defaults: Mapping[str, Mapping[str, float]]) -> Method:
    """The method with its setting of `defaults`, if it has one to choose."""
    return replace(method, default=defaults[method.name]) if method.grid else method
