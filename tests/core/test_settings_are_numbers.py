"""Every public float setting refuses NaN, infinity, text, None and flags."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games import metrics, theory
from mpo_games.choices import strength
from mpo_games.games import builders, families, tree_builder

RNG = np.random.default_rng(0)
GAME = mg.load("biased_rps")
NASH = GAME.policy([0.2, 0.6, 0.2], [0.2, 0.6, 0.2])
TREE = mg.build_tree(
    tree_builder.Decision(0, "s", {"a": tree_builder.Payoff(1.0), "b": tree_builder.Payoff(0.0)})
)

BATTLES = [("Ada", "Bob", "model_a"), ("Bob", "Cleo", "model_a"), ("Cleo", "Ada", "tie")]

RIGHT: dict[str, dict[str, Any]] = {
    "AgainstMixture": {"weight": 0.5},
    "AnnealedMMD": {"eta": 0.1, "alpha": 0.1, "power": 0.5},
    "APMD": {"eta": 0.1, "alpha": 0.1, "period": 5},
    "Adaptive": {"ratio": 0.5},
    "Averaged": {"solver": mg.MirrorDescent(0.1), "degree": 1.0},
    "BehaviouralGame": {"game": TREE, "max_memory": 1.0},
    "BanditGame": {"game": GAME, "samples": 2, "exploration": 0.1},
    "DCFR": {"alpha": 1.5, "beta": 0.0, "gamma": 2.0},
    "Decaying": {"start": 1.0, "power": 0.5},
    "DilatedEntropy": {"weights": np.ones(1), "gamma": 0.1},
    "Discount": {"alpha": 1.5, "beta": 0.0},
    "EGPO": {"eta": 0.1, "alpha": 0.1},
    "Ema": {"rate": 0.1},
    "Every": {"period": 5, "floor": 0.1},
    "Extragradient": {"eta": 0.1},
    "ExtragradientRMPlus": {"floor": 0.1},
    "GradientAscent": {"eta": 0.1},
    "HSDCFR": {"steps": 10, "gamma": 30.0},
    "HSPCFRPlus": {"steps": 10, "gamma": 30.0},
    "Leap": {"schedule": mg.Fixed(), "windows": 4.0},
    "LinearSchedule": {"first": 1.0, "last": 4.0, "steps": 10},
    "M2WU": {"eta": 0.1, "alpha": 0.1},
    "MMD": {"eta": 0.1, "alpha": 0.1},
    "MPO": {"eta": 0.1, "alpha": 0.1, "period": 5},
    "MPO_RT": {"eta": 0.1, "alpha": 0.1, "period": 5},
    "Measured": {"ratio": 0.5, "growth": 1.1},
    "MirrorDescent": {"eta": 0.1},
    "Mixed": {"weight": 0.5},
    "NashMD": {"eta": 0.1, "alpha": 0.1},
    "NoisyGame": {"game": GAME, "sigma": 0.1},
    "OptimisticMD": {"eta": 0.1},
    "OptimisticMPO": {"eta": 0.1, "alpha": 0.1, "period": 5},
    "OutcomeSampling": {"game": TREE, "exploration": 0.1},
    "PDCFRPlus": {"alpha": 2.3, "gamma": 5.0},
    "RTCFRPlus": {"alpha": 0.1, "period": 5},
    "RegretMatching": {"plus": True, "floor": 0.1, "alpha": 0.1},
    "RegularisedGap": {"alpha": 0.1},
    "compare": {"solvers": {"MD": mg.MirrorDescent(0.1)}, "games": GAME, "budget": 4.0},
    "rank": {"battles": BATTLES, "prior": 0.5, "level": 0.9, "resamples": 10},
    "Restarted": {"solver": mg.MirrorDescent(0.1), "ratio": 0.5},
    "SmoothPRMPlus": {"floor": 0.1},
    "SmoothedEntropy": {"gamma": 0.5},
    "SupportSize": {"threshold": 0.1},
    "WhenGapFell": {"ratio": 0.5},
    "WhenInnerSolved": {"ratio": 0.5},
    "WhenSettled": {"ratio": 0.5, "alpha": 0.1},
    "WhenSolved": {"ratio": 0.5},
    "bound_ratio": {"divergences": [1.0, 0.5], "eta": 0.1, "alpha": 0.1, "floor": 1e-13},
    "condorcet_cycle": {"n": 3, "strength": 0.5},
    "fit_rate": {"steps": np.arange(9), "values": 0.5 ** np.arange(9), "floor": 1e-13},
    "from_scores": {"scores": [1.0, 2.0], "temperature": 1.0},
    "from_wins": {"counts": [[0, 1], [1, 0]], "prior": 1.0},
    "largest_step": {"game": GAME, "alpha": 0.1},
    "load": {"name": "rps", "max_memory": 1.0},
    "local_rate": {"game": GAME, "equilibrium": NASH, "eta": 0.1, "alpha": 0.1},
    "low_rank_cyclic": {"n": 4, "rank": 2, "rng": RNG, "transitivity": 1.0},
    "matched_step": {"eta": 0.1, "alpha": 0.1},
    "perturbed": {"game": TREE, "rng": RNG, "spread": 0.3},
    "rate_bound": {"eta": 0.1, "alpha": 0.1},
    "stability_limit": {"game": GAME, "equilibrium": NASH, "alpha": 0.1},
}
"""Right settings of everything that takes a float."""

ELSEWHERE = {
    "solve",
    "log_spaced",
    "State",
    "Solution",
    "Rate",
    "Remembered",
    "SequenceFormGame",
    "Payoff",
    "Ranking",
}
"""Their numbers are results, records or parts of a tree; those of `solve` are below."""

INFINITE = {
    ("Discount", "alpha"),
    ("Discount", "beta"),
    ("DCFR", "alpha"),
    ("DCFR", "beta"),
    ("PDCFRPlus", "alpha"),
}
"""Settings for which infinity has a meaning: regrets of one sign are kept, or forgotten."""

WRONG = [np.nan, np.float32("nan"), np.inf, -np.inf, "x", "0.1", None, True, 1j, [0.1], {}]


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All public classes and functions whose numbers somebody may set."""
    for room in (mg, metrics, theory, strength, families, builders, mg.solvers.magnetic):
        for name, thing in vars(room).items():
            home = getattr(thing, "__module__", "")
            ours = home.startswith("mpo_games") if room is mg else home == room.__name__
            if name[0] != "_" and ours and callable(thing):
                yield name, thing
    yield "Discount", mg.solvers.regret.Discount
    yield "LinearSchedule", mg.solvers.schedules.LinearSchedule


def floats(thing: Callable[..., Any]) -> list[str]:
    """The parameters of `thing` that are floats."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = {"float", "Setting", "Power", "float | None"}
    return [p.name for p in parameters if str(p.annotation) in kinds]


FOUND = {name: thing for name, thing in public() if floats(thing)}


def test_every_public_float_is_tried_here() -> None:
    assert set(FOUND) - ELSEWHERE == set(RIGHT)


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_what_is_no_number_is_refused_in_a_sentence(name: str) -> None:
    make, right = FOUND[name], RIGHT[name]
    make(**right)
    tried = [setting for setting in floats(make) if setting in right]
    assert tried
    for setting in tried:
        for wrong in WRONG:
            if (name, setting) in INFINITE and wrong in (np.inf, -np.inf):
                make(**right | {setting: wrong})
                continue
            with pytest.raises((ValueError, TypeError), match=r"^`[\w. *]+` must ") as caught:
                make(**right | {setting: wrong})
            assert str(caught.value).endswith("."), (setting, wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_budget_and_tolerance(wrong: float) -> None:
    with pytest.raises(ValueError, match="`budget`"):
        mg.solve(GAME, mg.MPO(0.1, 0.1, 5), wrong)
    if wrong != np.inf:
        with pytest.raises(ValueError, match="`tol`"):
            mg.solve(GAME, mg.MPO(0.1, 0.1, 5), 5, tol=wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0, -1, 2.5, "5", None])
def test_counts_are_whole_numbers(wrong: Any) -> None:
    makes: list[Callable[[], object]] = [
        lambda: mg.Every(wrong),
        lambda: mg.WhenGapFell(0.5, wrong),
        lambda: mg.SampledGame(GAME, wrong),
        lambda: mg.BanditGame(GAME, wrong),
        lambda: mg.OutcomeSampling(TREE, wrong),
        lambda: mg.Leap(mg.Fixed(), first=wrong),
        lambda: families.random_preferences(wrong, RNG),
        lambda: families.random_zero_sum(2, wrong, RNG),
        lambda: families.condorcet_cycle(wrong),
        lambda: families.low_rank_cyclic(4, wrong, RNG),
    ]
    for make in makes:
        with pytest.raises(ValueError, match=r"^`\w+` must .*\.$"):
            make()


@pytest.mark.parametrize("option", ["--eta", "--alpha"])
@pytest.mark.parametrize("wrong", ["nan", "inf"])
def test_the_command_line_refuses_them_too(
    option: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mpo_games.cli import main

    assert main(["solve", "rps", "mmd", option, wrong]) != 0
    assert f"`{option[2:]}` must be" in capsys.readouterr().err
