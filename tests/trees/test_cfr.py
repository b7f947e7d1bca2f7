"""CFR and its descendants: digit by digit those of OpenSpiel, and of a plain recursion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled import LIARS_DICE, compiled
from histories import Behaviour, Histories, matched

import mpo_games as mg
from mpo_games.games.behavioural import BehaviouralGame, counterfactual_values
from mpo_games.metrics import average_gap
from mpo_games.solvers.regret import CFR, DCFR, CFRPlus, Discount, PCFRPlus, RTCFRPlus

pyspiel = pytest.importorskip("pyspiel")


def view(name: str) -> BehaviouralGame:
    return BehaviouralGame(compiled(name), counterfactual_values)


def average_exploitability(name: str, solver: mg.Averaged, steps: int) -> float:
    run = mg.solve(view(name), solver, steps, metrics={"gap": average_gap}, at=[steps])
    assert run.state.evaluations == run.state.step == steps
    return run.gap / 2


@pytest.mark.parametrize(("name", "steps"), [("kuhn_poker", 300), ("leduc_poker", 25)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(CFR(), "CFRSolver"), (CFRPlus(), "CFRPlusSolver")],
    ids=["CFR", "CFR+"],
)
def test_open_spiels_c_solvers(name: str, steps: int, ours: mg.Averaged, theirs: str) -> None:
    game = pyspiel.load_game(name)
    solver = getattr(pyspiel, theirs)(game)
    for _ in range(steps):
        solver.evaluate_and_update_policy()
    expected = pyspiel.exploitability(game, solver.average_policy())
    assert average_exploitability(name, ours, steps) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("settings", [(1.5, 0.0, 2.0), (1.0, 1.0, 1.0), (2.0, -1.0, 0.5)])
def test_open_spiels_discounted_cfr(settings: tuple[float, float, float]) -> None:
    discounted = pytest.importorskip("open_spiel.python.algorithms.discounted_cfr")
    exploitability = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    game = pyspiel.load_game("kuhn_poker")
    alpha, beta, gamma = settings
    solver = discounted.DCFRSolver(game, alpha=alpha, beta=beta, gamma=gamma)
    for _ in range(100):
        solver.evaluate_and_update_policy()
    expected = exploitability.exploitability(game, solver.average_policy())
    ours = average_exploitability("kuhn_poker", DCFR(alpha, beta, gamma), 100)
    assert ours == pytest.approx(expected, abs=1e-12)


VARIANTS: dict[str, tuple[mg.Averaged, dict[str, Any]]] = {
    "CFR": (CFR(), {}),
    "CFR+": (CFRPlus(), {"plus": True, "degree": 1}),
    "DCFR": (DCFR(), {"discount": (1.5, 0.0), "degree": 2}),
    "PCFR+": (PCFRPlus(), {"plus": True, "predictive": True, "degree": 2}),
    "CFR+ simultaneous": (
        mg.Averaged(mg.RegretMatching(plus=True), 1),
        {"plus": True, "degree": 1, "alternating": False},
    ),
    "DCFR+ predictive simultaneous": (
        mg.Averaged(mg.RegretMatching(plus=True, predictive=True, discount=Discount(2.0)), 3),
        {
            "plus": True,
            "predictive": True,
            "discount": (2.0, 0.0),
            "degree": 3,
            "alternating": False,
        },
    ),
}


@pytest.mark.parametrize(("name", "steps"), [("kuhn_poker", 60), ("leduc_poker", 8)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_plain_recursion(name: str, steps: int, variant: str) -> None:
    """Every average behavioural probability where the average comes, to 1e-11."""
    solver, options = VARIANTS[variant]
    expected = recursion(pyspiel.load_game(name), steps, **options)
    game = view(name)
    run = mg.solve(game, solver, steps, at=[steps])
    tree, average = game.tree, game.treeplex(run.state.memory["average"])
    for j, label in enumerate(tree.labels):
        total = expected[label].sum()
        if total > 0:
            ours = average.probs[tree.offset[j] : tree.offset[j + 1]]
            assert np.allclose(ours, expected[label] / total, rtol=0, atol=1e-11)


ON_TREES = {name: solver for name, (solver, _) in VARIANTS.items()} | {
    "RT-CFR+": mg.Averaged(RTCFRPlus(0.1, 5)),
    "HS-DCFR(30)": mg.HSDCFR(12),
    "HS-PCFR+(30)": mg.HSPCFRPlus(12),
    "PDCFR+": mg.PDCFRPlus(),
}


@pytest.mark.parametrize("variant", ON_TREES)
def test_the_tree_and_its_table(variant: str) -> None:
    """The same iterates and averages on the sequence form and on the table of the same tree."""
    table = view("leduc_poker")
    at_tree, at_table = (
        mg.solve(game, ON_TREES[variant], 12).state for game in (table.exact, table)
    )
    assert np.allclose(at_tree.policy.plan, table.treeplex(at_table.policy).plan, atol=1e-12)
    ours, theirs = (state.memory["average"] for state in (at_tree, at_table))
    assert np.allclose(ours.plan, table.treeplex(theirs).plan, atol=1e-12)


def test_a_batch_of_trees_is_a_loop() -> None:
    game, rng = compiled("kuhn_poker"), np.random.default_rng(0)
    single = [game.initial_policy().smooth(0.1).matching(rng.normal(size=26)) for _ in range(3)]
    batch = single[0].replace(np.array([p.coordinates for p in single]))
    run = mg.solve(game, PCFRPlus(), 20, policy=batch)
    for i, start in enumerate(single):
        alone = mg.solve(game, PCFRPlus(), 20, policy=start)
        assert np.array_equal(run.policy.plan[i], alone.policy.plan)
        assert np.array_equal(
            run.state.memory["average"].plan[i], alone.state.memory["average"].plan
        )


def recursion(
    game: Any,
    steps: int,
    *,
    plus: bool = False,
    predictive: bool = False,
    alternating: bool = True,
    discount: tuple[float, float] | None = None,
    degree: int = 0,
) -> Behaviour:
    """CFR on histories, with dictionaries: the average's weights of every information state."""
    histories = Histories(game)
    policy: Behaviour = {}
    regrets: dict[str, Any] = defaultdict(float)
    average: dict[str, Any] = defaultdict(float)
    for step in range(1, steps + 1):
        for label, weight in histories.reach(policy).items():
            average[label] = average[label] + float(step) ** degree * weight
        for sides in ((0,), (1,)) if alternating else ((0, 1),):
            for label, regret in histories.regrets(policy, sides).items():
                total = regrets[label] + regret
                if discount is not None:
                    up, down = (step**d / (step**d + 1.0) for d in discount)
                    total = np.where(total > 0, up * total, down * total)
                if plus:
                    total = np.maximum(total, 0.0)
                regrets[label] = total
                policy[label] = matched(total + regret if predictive else total)
    return average


def test_the_average_is_of_what_was_played_and_late_play_counts_more() -> None:
    game = view("kuhn_poker")
    states = [s for s, _ in zip(mg.iterate(game, CFRPlus()), range(4), strict=False)]
    played = tuple(s.policy for s in states[:3])
    expected = game.average(mg.Mixture(played, (1 / 6, 2 / 6, 3 / 6)))
    assert np.allclose(states[3].memory["average"].probs, expected.probs, atol=1e-14)


def test_degrees_need_not_be_whole() -> None:
    game = mg.MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
    states = [s for s, _ in zip(mg.iterate(game, DCFR(gamma=0.5)), range(4), strict=False)]
    w = np.sqrt([1.0, 2.0, 3.0])
    expected = sum(a * s.policy.probs for a, s in zip(w / w.sum(), states[:3], strict=True))
    assert np.allclose(states[3].memory["average"].probs, expected, atol=1e-14)


def test_matrix_games_alternate_too_and_preferences_have_nobody_to_wait_for() -> None:
    game = mg.MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
    start = game.policy([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])
    turn = mg.RegretMatching(alternating=True).step(game, mg.State(start, start)).policy
    both = mg.RegretMatching().step(game, mg.State(start, start)).policy
    assert np.array_equal(turn.probs[0], both.probs[0])
    q = game.feedback(turn)[1]
    regret = np.maximum(q - start.probs[1] @ q, 0.0)
    assert np.allclose(turn.probs[1], regret / regret.sum(), atol=1e-15)
    cycles = mg.PreferenceGame(np.array([[[0.5, 0.1], [0.9, 0.5]], [[0.5, 0.7], [0.3, 0.5]]]))
    runs = [mg.solve(cycles, mg.RegretMatching(alternating=a), 5) for a in (False, True)]
    assert np.array_equal(runs[0].policy.probs, runs[1].policy.probs)


def test_discounts_by_the_papers_formula() -> None:
    regrets = np.array([4.0, -3.0, 0.0])
    for t in (1, 2, 7):
        for a, b in ((1.5, 0.0), (1.0, 1.0), (2.0, -1.0)):
            expected = [4.0 * t**a / (t**a + 1), -3.0 * t**b / (t**b + 1), 0.0]
            assert np.allclose(Discount(a, b)(regrets, t), expected, rtol=1e-15)
    # From the second step on, infinite powers are the cut at 0 of regret matching plus.
    assert np.array_equal(Discount(np.inf, -np.inf)(regrets, 2), [4.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("solver", "bound"),
    [(CFRPlus(), 1.2e-4), (PCFRPlus(), 5e-8), (DCFR(), 2e-4), (CFR(), 1.2e-3)],
    ids=["CFR+", "PCFR+", "DCFR", "CFR"],
)
def test_kuhn_after_a_thousand(solver: mg.Averaged, bound: float) -> None:
    assert average_exploitability("kuhn_poker", solver, 1000) < bound


def test_reward_transformed_cfr_converges_in_its_last_iterate() -> None:
    game = view("kuhn_poker")
    run = mg.solve(game, RTCFRPlus(alpha=0.01, period=20), 2000)
    assert run.gap < 1e-12
    plain = mg.solve(game, mg.RegretMatching(plus=True, alternating=True), 2000)
    assert plain.gap > 1e-3


def test_rewards_are_transformed_by_the_distance_to_the_magnet() -> None:
    game = mg.MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
    start = game.policy([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])
    magnet = game.initial_policy()
    step = mg.RegretMatching(alpha=0.7).step(game, mg.State(start, magnet))
    q = game.feedback(start) - 0.7 * (start.probs - magnet.probs)
    regret = np.maximum(q - np.sum(start.probs * q, axis=-1, keepdims=True), 0.0)
    assert np.allclose(step.policy.probs, regret / regret.sum(-1, keepdims=True), atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "early", "late"),
    [(CFRPlus(), 3e-4, 2.5e-5), (PCFRPlus(), 8e-4, 1.2e-4)],
    ids=["CFR+", "PCFR+"],
)
def test_leduc_after_a_thousand_and_five(solver: mg.Averaged, early: float, late: float) -> None:
    run = mg.solve(view("leduc_poker"), solver, 5000, metrics={"gap": average_gap}, at=[1000, 5000])
    assert run.trace["gap"][0] / 2 < early
    assert run.trace["gap"][1] / 2 < late


@pytest.mark.slow
def test_liars_dice_by_reward_transformed_cfr() -> None:
    run = mg.solve(view(LIARS_DICE), RTCFRPlus(alpha=1e-3, period=20), 3000)
    assert run.gap < 1e-3


def test_runs_are_resumed_bit_for_bit(tmp_path: Any) -> None:
    game = view("kuhn_poker")
    make: Callable[[], mg.Averaged] = PCFRPlus
    whole = mg.solve(game, make(), 40)
    half = mg.solve(game, make(), 20, at=[20])
    loaded = mg.Solution.load(half.save(tmp_path / "half"), game)
    rest = mg.solve(game, make(), 40, resume=loaded)
    for name in ("policy", "average"):
        a, b = (r.state.policy if name == "policy" else r.state.memory[name] for r in (whole, rest))
        assert np.array_equal(a.coordinates, b.coordinates)
