"""Every public object prints on one short line, or as a small table: no walls of numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mpo_games as mg

RNG = np.random.default_rng(0)


def tree(states: int) -> mg.SequenceFormGame:
    """A tree with many information states: one for each card that chance deals."""
    deals = [
        (1.0 / states, mg.Decision(0, f"card {i}", {"bet": mg.Payoff(i), "fold": mg.Payoff(0.0)}))
        for i in range(states)
    ]
    return mg.build_tree(mg.Chance(deals))


SMALL, LARGE = mg.load("comal"), mg.load("random_zero_sum", n=300, m=200)
TREE = tree(400)
MANY = mg.PreferenceGame(np.full((50, 3, 3), 0.5))
BATCH = mg.MatrixGame(RNG.normal(size=(20, 30, 3, 3)))
SOLVER = mg.MPO(eta=0.3, alpha=0.1, period=5)
RUNS = [mg.solve(game, SOLVER, 20) for game in (SMALL, LARGE, TREE, MANY, BATCH)]

BATTLES = mg.Battles.of([(f"model {i}", f"model {j}", "a") for i in range(60) for j in range(i)])

INSTANCES: dict[str, Callable[[], list[Any]]] = {
    "MatrixGame": lambda: [LARGE, BATCH, mg.load("rps")],
    "PreferenceGame": lambda: [SMALL, MANY, mg.load("condorcet", n=200)],
    "SequenceFormGame": lambda: [TREE, tree(1)],
    "BehaviouralGame": lambda: [mg.BehaviouralGame(TREE)],
    "NoisyGame": lambda: [mg.NoisyGame(LARGE, 0.1)],
    "SampledGame": lambda: [mg.SampledGame(LARGE, 5)],
    "BanditGame": lambda: [mg.BanditGame(LARGE, 5)],
    "OutcomeSampling": lambda: [mg.OutcomeSampling(TREE)],
    "TabularPolicy": lambda: [RUNS[i].policy for i in (0, 1, 3, 4)],
    "TreeplexPolicy": lambda: [RUNS[2].policy],
    "Tree": lambda: [TREE.tree],
    "DilatedEntropy": lambda: [TREE.geometry, mg.DilatedEntropy(np.ones(0))],
    "Entropy": lambda: [mg.Entropy()],
    "SmoothedEntropy": lambda: [mg.SmoothedEntropy()],
    "Euclidean": lambda: [mg.Euclidean()],
    "Solution": lambda: RUNS,
    "State": lambda: [run.state for run in RUNS],
    "Trace": lambda: [run.trace for run in RUNS],
    "Table": lambda: [run.table() for run in RUNS],
    "Mixture": lambda: [mg.Mixture((RUNS[1].policy, RUNS[1].best), (2.0, -1.0))],
    "Payoff": lambda: [mg.Payoff(1.0)],
    "Chance": lambda: [mg.Chance([(1.0, mg.Payoff(1.0))])],
    "Decision": lambda: [mg.Decision(0, "start", {"only": mg.Payoff(1.0)})],
    "MMD": lambda: [SOLVER, mg.MMD(lambda state: 0.1, mg.Decaying(0.1, 0.5), mg.Ema(0.1))],
    "AutoMPO": lambda: [mg.AutoMPO()],
    "Averaged": lambda: [mg.CFRPlus(), mg.Averaged(SOLVER)],
    "PlayedAverage": lambda: [mg.PlayedAverage(mg.Averaged(SOLVER))],
    "Restarted": lambda: [mg.Restarted(mg.PCFRPlus())],
    "RegretMatching": lambda: [mg.RegretMatching(plus=True)],
    "FictitiousPlay": lambda: [mg.FictitiousPlay()],
    "GradientAscent": lambda: [mg.GradientAscent(0.1)],
    "Adaptive": lambda: [mg.Adaptive(0.3)],
    "Measured": lambda: [mg.Measured(0.3)],
    "Anchored": lambda: [mg.Anchored()],
    "Decaying": lambda: [mg.Decaying(0.1, 0.5)],
    "AgainstMixture": lambda: [mg.AgainstMixture(0.1)],
    "Fixed": lambda: [mg.Fixed()],
    "Every": lambda: [mg.Every(5)],
    "Ema": lambda: [mg.Ema(0.1)],
    "WhenGapFell": lambda: [mg.WhenGapFell(0.5)],
    "WhenInnerSolved": lambda: [mg.WhenInnerSolved(0.5)],
    "Method": lambda: [mg.Method("Mine", "yours", mg.MPO, {"eta": (0.1, 0.2)})],
    "Baseline": lambda: list(mg.baselines().values()),
    "Battles": lambda: [BATTLES],
    "Ranking": lambda: [mg.rank(BATTLES, resamples=10)],
    "Comparison": lambda: [
        mg.compare(mg.baselines(), {"small": SMALL, "tree": TREE}, 4, progress=False)
    ],
    "Leap": lambda: [mg.Leap(mg.WhenGapFell(0.5))],
}
"""Objects of every public class, small ones and ones with very many numbers."""

CLASSES = [
    name
    for name in mg.__all__
    if inspect.isclass(thing := getattr(mg, name)) and not getattr(thing, "_is_protocol", False)
]


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_object_prints_shortly(name: str) -> None:
    for thing in INSTANCES[name]():
        for text in (repr(thing), str(thing)):
            assert " at 0x" not in text
            lines = text.splitlines()
            assert 0 < len(lines) <= (30 if name in ("Table", "Comparison", "Ranking") else 1), text
            assert len(max(lines, key=len)) < 260, text
        html = getattr(thing, "_repr_html_", str)()
        assert html.count("<tr>") <= 30
        assert html.count("<table>") == html.count("</table>") <= 1


def test_what_the_lines_say() -> None:
    solution = mg.solve(SMALL, mg.MPO(eta=0.3, alpha=0.1, period=50), 300)
    method, gap = "MPO(eta=0.3, alpha=0.1, period=50)", f"{solution.gap:.2g}"
    assert repr(solution) == f"{method} on comal: gap {gap} after 300 evaluations"
    many = "MPO(eta=0.3, alpha=0.1, period=5) on a matrix game of 3 x 3 payoffs: largest gap "
    assert repr(RUNS[4]).startswith(many)
    assert repr(SMALL) == "comal: preferences among 3 responses"
    assert repr(mg.load("condorcet", n=5)) == "condorcet(n=5): preferences among 5 responses"
    assert repr(mg.load("rps")) == "rps: 3 x 3 payoffs from -1 to 1"
    assert repr(BATCH).startswith("MatrixGame: a batch of 20 x 30, each with 3 x 3 payoffs")
    assert repr(mg.MatrixGame([[1.0]], name="mine")) == "mine: 1 x 1 payoffs from 1 to 1"
    assert repr(TREE) == "SequenceFormGame: 400 information states, 802 sequences"
    assert repr(SMALL.policy([0.5, 0.25, 0.25])) == "TabularPolicy: 0 0.5, 1 0.25, 2 0.25"
    assert "MPO(eta=0.3, alpha=0.1, period=50)" in solution._repr_html_()
    assert repr(mg.solve(SMALL, SOLVER, 5, metrics={})) == (
        "MPO(eta=0.3, alpha=0.1, period=5) on comal: after 5 evaluations"
    )


def test_oracles_and_reports_print_shortly() -> None:
    found = [mg.exact.nash(SMALL), mg.exact.nash(TREE), mg.exact.qre(SMALL, 0.1)]
    report = mg.cyclicity.report(MANY)
    for thing in (*found, report, report.contexts[0], mg.theory.Rate(0.5, 0.4, 0.6, 1.0)):
        assert len(repr(thing).splitlines()) == 1
        assert len(repr(thing)) < 260
    assert len(str(report).splitlines()) <= 30
    assert "30 more" in str(report)


def test_openspiels_games_have_their_names_in_words() -> None:
    pytest.importorskip("pyspiel")
    game = mg.load("leduc_poker")
    assert repr(game) == "Leduc poker: 936 information states, 2186 sequences"
    assert repr(mg.solve(game, mg.CFRPlus(), 3)).startswith("CFRPlus() on Leduc poker: gap ")
    assert len(str(game.initial_policy().table()).splitlines()) <= 30
