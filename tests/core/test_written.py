"""Settings print as they are written in code: reading a print back gives the same value."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.choices import pull
from mpo_games.provenance import spell
from mpo_games.solvers import self_tuning
from mpo_games.solvers.regret import Discount
from mpo_games.solvers.schedules import LinearSchedule
from mpo_games.written import written

NAMES: dict[str, Any] = vars(mg) | {"Discount": Discount, "LinearSchedule": LinearSchedule}
NAMES |= {"in_reward": pull.in_reward, "squared": pull.squared}

WRITTEN = """
MMD(eta=0.5, alpha=0.02, magnet=Every(100, floor=0.001), feedback=optimistic)
MMD(eta=0.3, alpha=0.1)
MMD(eta=Decaying(start=0.3, power=0.5), alpha=0.1, magnet=Ema(0.02), pull=in_reward)
MMD(eta=0.3, alpha=0.1, magnet=Leap(WhenGapFell(0.3, check=1)), feedback=AgainstMixture(0.2))
MMD(eta=Adaptive(0.3), alpha=0.0, magnet=WhenInnerSolved(0.5), feedback=popov, geometry=smoothed)
MPO(eta=0.3, alpha=0.1, period=50)
OptimisticMPO(eta=0.3, alpha=0.1, period=50)
MPO_RT(eta=0.3, alpha=0.1, period=50)
APMD(eta=0.3, alpha=0.1, period=50)
M2WU(eta=0.3, alpha=0.1)
M2WU(eta=0.3, alpha=0.1, period=50)
MirrorDescent(0.3)
OptimisticMD(0.3)
Extragradient(0.3)
EGPO(eta=0.3, alpha=0.1)
NashMD(eta=0.7, alpha=0.13)
AnnealedMMD(eta=1.0, alpha=0.3)
AnnealedMMD(eta=1.0, alpha=0.3, power=0.7)
AutoMPO()
FictitiousPlay()
GradientAscent(0.2)
RegretMatching()
RegretMatching(plus=True, discount=Discount(alpha=2.0))
SmoothPRMPlus(2.0)
ExtragradientRMPlus(1.0)
RTCFRPlus(alpha=0.1, period=20)
CFR()
CFRPlus()
PCFRPlus()
DCFR()
DCFR(alpha=2.0, beta=-1.0)
PDCFRPlus()
PDCFRPlus(gamma=4.0)
HSDCFR(1000)
HSPCFRPlus(1000, gamma=15.0)
Averaged(MirrorDescent(0.3))
Averaged(RegretMatching(), degree=LinearSchedule(first=3.0, last=1.0, steps=2))
PlayedAverage(Averaged(MPO(eta=0.3, alpha=0.1, period=50), degree=1))
Restarted(PCFRPlus())
Restarted(Averaged(Extragradient(0.5)), ratio=0.3, check=20)
""".strip().splitlines()


@pytest.mark.parametrize("text", WRITTEN)
def test_a_solver_prints_as_it_is_written(text: str) -> None:
    solver = eval(text, NAMES)
    assert repr(solver) == text
    assert written(solver) == text


@pytest.mark.parametrize("name", ["ONE_SEAT", "TWO_SEATS", "UNDER_NOISE"])
def test_what_self_tuning_is_prints_too(name: str) -> None:
    solver = getattr(self_tuning, name)
    assert eval(repr(solver), NAMES) == solver


@dataclass(frozen=True)
class Own:
    """A solver of a user, whose repr `dataclass` makes."""

    inner: Any
    rule: Any = np.log
    kept: Any = field(default_factory=list)

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        """No step."""
        return state


class Plain:
    """An object without a repr."""


def rule(state: Any) -> float:
    """A step size."""
    return 0.1


def test_nothing_shows_an_address() -> None:
    inside = [rule, Plain(), functools.partial(rule, state=3), Plain().__init__, np.float64(0.5)]
    for value in (*inside, Own(rule), Own(Own(rule), kept=[Plain()]), {"a": (rule,)}):
        solver = mg.Averaged(Own(value, rule=lambda state: 0.1))
        assert " at 0x" not in repr(solver)
        assert "\n" not in repr(solver)
    assert repr(mg.MMD(rule, 0.1)) == "MMD(eta=rule, alpha=0.1)"
    assert written(Own(np.float64(0.5))) == "Own(0.5)"
    assert written(Own(np.zeros(100))) == "Own(array of shape (100,))"
    assert written(Own((1,), kept=[rule])) == "Own((1,), kept=[rule])"
    assert written(Own({"a": rule})) == "Own({'a': rule})"


def test_a_repr_of_ones_own_is_kept() -> None:
    @dataclass(frozen=True)
    class Speaks(Own):
        def __repr__(self) -> str:
            return "hello"

    assert written(Speaks(1)) == "hello"


def test_files_hold_every_setting_as_before() -> None:
    """`spell` is compared with saved runs: it is not the repr, and must not follow it."""
    assert spell(mg.MPO(0.3, 0.1, 50)) == (
        "MMD(eta=0.3, alpha=0.1, magnet=Every(period=50, floor=0.0), feedback=current, "
        "pull=proximal, geometry=as_given)"
    )
    assert spell(mg.Averaged(Own((rule,)))) == (
        "Averaged(solver=Own(inner=(rule,), rule=<ufunc 'log'>, kept=[]), degree=0.0)"
    )
