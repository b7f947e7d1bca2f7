"""A right call of every public function of the core: what a generated input changes a part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.games import builders, families
from mpo_games.games.tree_builder import Decision, Payoff

Call = tuple[Callable[..., Any], dict[str, Any]]
"""A function, and arguments by name with which it gives a result."""

ROCK, CYCLE = mg.load("rps"), mg.load("comal")
TREE = mg.build_tree(
    Decision(
        0, "a", {"x": Payoff(1.0), "y": Decision(1, "b", {"l": Payoff(-1.0), "r": Payoff(2.0)})}
    )
)
GAMES = [ROCK, CYCLE, TREE]
RNG = np.random.default_rng(0)
TABLE = [[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]
SOLUTION = mg.solve(CYCLE, mg.Averaged(mg.MMD(0.1, 0.1)), 20)
STRATEGY = mg.solve(ROCK, mg.MMD(0.1, 0.1), 5).policy
PLAN = mg.solve(TREE, mg.MMD(0.1, 0.1), 5).policy
STATE = SOLUTION.state


def solvers() -> Iterator[Call]:
    """Settings of solvers and of their choices."""
    step = {"eta": 0.1, "alpha": 0.1}
    yield (
        mg.MMD,
        {
            **step,
            "magnet": mg.Every(3),
            "feedback": mg.optimistic,
            "pull": mg.MMD(1, 1).pull,
            "geometry": mg.as_given,
        },
    )
    for make in (mg.EGPO, mg.NashMD):
        yield make, dict(step)
    yield mg.AnnealedMMD, {**step, "power": 0.5}
    for make in (mg.MPO, mg.MPO_RT, mg.OptimisticMPO, mg.APMD, mg.M2WU):
        yield make, {**step, "period": 3}
    for make in (mg.MirrorDescent, mg.OptimisticMD, mg.Extragradient, mg.GradientAscent):
        yield make, {"eta": 0.1}
    yield mg.DCFR, {"alpha": 1.5, "beta": 0.0, "gamma": 2.0}
    for make in (mg.HSDCFR, mg.HSPCFRPlus):
        yield make, {"steps": 10, "gamma": 30.0}
    yield mg.PDCFRPlus, {"alpha": 2.3, "gamma": 5.0}
    yield mg.RTCFRPlus, {"alpha": 0.1, "period": 3}
    yield mg.SmoothPRMPlus, {"floor": 0.1}
    yield mg.ExtragradientRMPlus, {"floor": 0.1}
    flags = dict.fromkeys(("plus", "predictive", "half_step", "alternating"), False)
    yield mg.RegretMatching, {**flags, "discount": None, "alpha": 0.1, "magnet": mg.Fixed()}
    yield mg.Averaged, {"solver": mg.MMD(0.1, 0.1), "degree": 1.0}
    yield mg.PlayedAverage, {"solver": mg.Averaged(mg.MMD(0.1, 0.1))}
    yield mg.Restarted, {"solver": mg.MMD(0.1, 0.1), "ratio": 0.5, "check": 10}
    yield mg.MMD, {"eta": mg.Decaying(0.1, 0.5), "alpha": 0.1}
    yield lambda **k: mg.MMD(mg.Decaying(**k), 0.1), {"start": 0.1, "power": 0.5}
    yield lambda **k: mg.MMD(0.1, 0.1, feedback=mg.AgainstMixture(**k)), {"weight": 0.1}
    popov = {"feedback": mg.popov}
    yield lambda **k: mg.MMD(mg.Measured(**k), 0.1, **popov), {"ratio": 0.4, "growth": 1.1}
    yield lambda **k: mg.MMD(mg.Adaptive(**k), 0.1, **popov), {"ratio": 0.4}
    for moves, given in (
        (mg.Every, {"period": 3, "floor": 0.1}),
        (mg.Ema, {"rate": 0.1}),
        (mg.WhenGapFell, {"ratio": 0.5, "check": 3}),
        (mg.WhenInnerSolved, {"ratio": 0.5, "check": 3}),
        (mg.Leap, {"schedule": mg.Every(5), "windows": 4.0, "first": 4}),
    ):
        yield lambda moves=moves, **k: mg.MMD(0.1, 0.1, magnet=moves(**k), **popov), given


def games() -> Iterator[Call]:
    """Constructors, builders and families of games."""
    yield mg.MatrixGame, {"payoff": [[0, 1], [2, 3]], "actions": (["a", "b"], ["c", "d"])}
    names = {"responses": ["a", "b", "c"], "contexts": ["x"]}
    yield mg.PreferenceGame, {"preferences": [TABLE], **names}
    yield builders.from_wins, {"counts": [[0, 3], [1, 0]], "prior": 1.0}
    yield builders.from_ballots, {"ballots": [["a", "b"]], "candidates": ["a", "b"], "counts": [2]}
    yield builders.from_ballots, {"ballots": [[0, 1], [1, 0]]}
    yield builders.from_scores, {"scores": [1.0, 2.0], "temperature": 1.0}
    yield builders.majority_of, {"criteria": [[1, 2], [2, 1]]}
    yield builders.mean_of, {"criteria": [[1, 2], [2, 1]], "weights": [1, 2]}
    yield builders.from_function, {"prefers": lambda a, b: 0.5, "responses": ["a", "b"]}
    sized = {"n": 3, "rng": RNG}
    for draw in (
        families.random_preferences,
        families.random_antisymmetric,
        families.badly_scaled,
        families.bradley_terry,
    ):
        yield draw, dict(sized)
    yield families.random_zero_sum, {**sized, "m": 2}
    yield families.low_rank_cyclic, {**sized, "rank": 2, "transitivity": 1.0}
    yield families.condorcet_cycle, {"n": 3, "strength": 0.5}
    yield families.planted_equilibrium, {"x": [0.5, 0.5], "y": [0.5, 0.5], "rng": RNG}
    yield families.many_equilibria, {**sized, "k": 2}
    yield families.perturbed, {"game": TREE, "rng": RNG, "spread": 0.3}
    yield mg.NoisyGame, {"game": ROCK, "sigma": 0.1}
    yield mg.SampledGame, {"game": CYCLE, "samples": 2}
    yield mg.BanditGame, {"game": CYCLE, "samples": 2, "exploration": 0.1, "duels": True}
    yield mg.OutcomeSampling, {"game": TREE, "trajectories": 2, "exploration": 0.5}
    yield mg.BehaviouralGame, {"game": TREE, "feed": mg.q_values}
    yield mg.build_tree, {"root": Payoff(1.0), "dilation": mg.dilation.unit}
    yield TREE.with_payoff, {"payoff": TREE.payoff}
    yield TREE.with_dilation, {"dilation": mg.dilation.kroer}


def trees() -> Iterator[Call]:
    """The arrays of a tree, and the files of games."""
    shape = {"parent": [0, 1], "offset": [2, 4, 6], "split": 1}
    yield mg.Tree, shape
    entries = {"row": TREE.row, "column": TREE.column, "chance": TREE.chance}
    yield (
        mg.SequenceFormGame,
        {"tree": TREE.tree, **entries, "payoff": TREE.payoff, "dilation": mg.dilation.unit},
    )
    for game in GAMES:
        yield mg.to_efg, {"game": game, "title": "t", "players": ("A", "B")}
    yield mg.to_nfg, {"game": ROCK, "title": "t", "players": ("A", "B")}
    yield mg.load, {"name": "condorcet", "n": 3, "strength": 0.5}


def policies() -> Iterator[Call]:
    """Policies, and what games say about them."""
    half = [[0.5, 0.5], [0.5, 0.5]]
    yield (
        mg.TabularPolicy.from_probs,
        {"probs": half, "legal": [[1, 1], [1, 1]], "geometry": mg.Entropy()},
    )
    yield mg.TabularPolicy.uniform, {"legal": [[1, 1], [1, 0]], "geometry": mg.Euclidean()}
    yield mg.SmoothedEntropy, {"gamma": 0.5}
    yield ROCK.policy, {"row": [0.2, 0.3, 0.5], "column": [0.2, 0.3, 0.5]}
    yield CYCLE.policy, {"probs": [0.2, 0.3, 0.5]}
    nouns = {"tree": TREE.tree, "geometry": TREE.geometry}
    yield mg.TreeplexPolicy.from_probs, {**nouns, "probs": [1, 1, 0.5, 0.5, 0.5, 0.5]}
    yield mg.probabilities, {"opponent": STRATEGY}
    for policy in (STRATEGY, STATE.policy, PLAN):
        yield policy.smooth, {"share": 0.1}
        yield lambda policy=policy, **k: policy.mix(policy, **k), {"weight": 0.1}
    for game, policy in ((ROCK, STRATEGY), (CYCLE, STATE.policy), (TREE, PLAN)):
        for verb in ("feedback", "duality_gap", "best_response", "value"):
            yield getattr(game, verb), {"policy": policy}
        yield game.divergence, {"policy": policy, "other": policy}
        yield game.regularised_gap, {"policy": policy, "magnet": policy, "alpha": 0.1}


def measures() -> Iterator[Call]:
    """Oracles, theory, metrics and reports."""
    rate = {"eta": 0.1, "alpha": 0.1}
    for game, policy in ((ROCK, STRATEGY), (CYCLE, STATE.policy), (TREE, PLAN)):
        yield lambda game: mg.exact.nash(game), {"game": game}
        yield (
            lambda game, alpha, magnet: mg.exact.qre(game, alpha, magnet),
            {"game": game, "alpha": 0.1, "magnet": policy},
        )
        yield mg.theory.largest_step, {"game": game, "alpha": 0.1}
        nouns = dict.fromkeys(("nash", "magnet", "moved"), policy)
        yield mg.theory.proximal_point_slack, {"game": game, **nouns}
    for game, policy in ((ROCK, STRATEGY), (CYCLE, STATE.policy)):
        yield (
            lambda game, policy: mg.theory.frequency(game, policy),
            {"game": game, "policy": policy},
        )
        yield mg.theory.local_rate, {"game": game, "equilibrium": policy, **rate}
        yield mg.theory.stability_limit, {"game": game, "equilibrium": policy, "alpha": 0.1}
    yield mg.theory.rate_bound, dict(rate)
    yield mg.theory.bound_ratio, {"divergences": [1.0, 0.5, 0.2], **rate, "floor": 1e-13}
    falls = {"steps": list(range(9)), "values": [0.5**k for k in range(9)]}
    yield mg.theory.fit_rate, {**falls, "floor": 1e-13}
    yield mg.cyclicity.report, {"game": CYCLE}
    yield mg.cyclicity.cyclic_share, {"preferences": TABLE}
    yield mg.cyclicity.fit_bradley_terry, {"preferences": TABLE}
    yield lambda **k: mg.metrics.RegularisedGap(**k)(CYCLE, STATE), {"alpha": 0.1}
    yield lambda **k: mg.metrics.DivergenceTo(**k)(CYCLE, STATE), {"target": STATE.policy}
    yield lambda **k: mg.metrics.SupportSize(**k)(CYCLE, STATE), {"threshold": 0.1}
    yield mg.log_spaced, {"budget": 100.0, "per_decade": 3}
    for dilate in (mg.dilation.unit, mg.dilation.kroer, mg.dilation.farina):
        yield dilate, {"game": TREE}
    yield mg.dilation.payoff_scaled, {"game": TREE, "policy": PLAN}


def solved(budget: Any, **given: Any) -> Any:
    """A run; any large budget is one that would take long, rightly."""
    large = isinstance(budget, int | float | np.number) and 100.0 < budget < np.inf
    return mg.solve(budget=100 if large else budget, **given)


def runs() -> Iterator[Call]:
    """The loop."""
    yield (
        solved,
        {
            "game": CYCLE,
            "solver": mg.MMD(0.1, 0.1),
            "budget": 20,
            "policy": CYCLE.initial_policy(),
            "magnet": CYCLE.initial_policy(),
            "metrics": {"gap": mg.metrics.duality_gap},
            "at": [1, 5, 20],
            "tol": 1e-9,
            "seed": 0,
            "callback": lambda solution: None,
            "progress": False,
        },
    )
    yield (
        solved,
        {"game": CYCLE, "solver": mg.Averaged(mg.MMD(0.1, 0.1)), "budget": 40, "resume": SOLUTION},
    )
    yield (
        lambda **k: next(mg.iterate(**k)),
        {"game": CYCLE, "solver": mg.MMD(0.1, 0.1), "policy": None, "magnet": None, "rng": RNG},
    )
