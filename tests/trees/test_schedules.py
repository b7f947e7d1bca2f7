"""Hyperparameter schedules and PDCFR+: the equations of their papers, in the papers' own order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled import compiled
from histories import Behaviour, Histories, matched

import mpo_games as mg
from mpo_games.metrics import average_gap
from mpo_games.solvers.regret import Discount
from mpo_games.solvers.schedules import LinearSchedule

RPS = mg.MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
START = RPS.policy([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])

Rule = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""From the regrets until t - 1, that of t, and t: the regrets until t, and those to play by."""


def dcfr(alpha: Callable[[int], float], beta: Callable[[int], float]) -> Rule:
    """`R_t = R_{t-1} d_{t-1}(sign of R_{t-1}) + r_t`: discounted before the next is added."""

    def rule(old: np.ndarray, regret: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        s = t - 1
        # Before the first step there is nothing to discount, and 0^beta is infinite.
        up, down = ((s**d / (s**d + 1.0) if s else 0.0) for d in (alpha(s), beta(s)))
        total = np.where(old > 0.0, up, down) * old + regret
        return total, total

    return rule


def pcfr_plus(old: np.ndarray, regret: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """`R_t = [R_{t-1} + r_t]^+`, play by `[R_t + r_t]^+`."""
    total = np.maximum(old + regret, 0.0)
    return total, total + regret


def pdcfr_plus(alpha: float) -> Rule:
    """`R_t = [R_{t-1} d_{t-1} + r_t]^+`, play by `[R_t d_t + r_t]^+`."""

    def rule(old: np.ndarray, regret: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        before, now = (float(s) ** alpha / (float(s) ** alpha + 1.0) for s in (t - 1, t))
        total = np.maximum(before * old + regret, 0.0)
        return total, now * total + regret

    return rule


def averages(game: Any, steps: int, rule: Rule, gamma: Callable[[int], float]) -> Behaviour:
    """The cumulative play `X_t = X_{t-1} ((t - 1) / t)^gamma(t - 1) + x_t` after `steps`."""
    histories, policy = Histories(game), {}
    regrets: dict[str, Any] = defaultdict(float)
    total: dict[str, Any] = defaultdict(float)
    for t in range(1, steps + 1):
        faded = ((t - 1) / t) ** gamma(t - 1)
        for label, play in histories.reach(policy).items():
            total[label] = faded * total[label] + play
        for player in (0, 1):
            for label, regret in histories.regrets(policy, (player,)).items():
                regrets[label], guess = rule(regrets[label], regret, t)
                policy[label] = matched(guess)
    return total


N = 40
"""The length of a run that the schedules are made for."""

PUBLISHED: dict[str, tuple[mg.Averaged, Rule, Callable[[int], float]]] = {
    "HS-DCFR(30)": (
        mg.HSDCFR(N),
        dcfr(lambda t: 1.0 + 3.0 * t / N, lambda t: -1.0 - 2.0 * t / N),
        lambda t: 30.0 - 5.0 * t / N,
    ),
    "HS-DCFR(15)": (
        mg.HSDCFR(N, 15.0),
        dcfr(lambda t: 1.0 + 3.0 * t / N, lambda t: -1.0 - 2.0 * t / N),
        lambda t: 15.0 - 5.0 * t / N,
    ),
    "HS-PCFR+(30)": (mg.HSPCFRPlus(N), pcfr_plus, lambda t: 30.0 - 5.0 * t / N),
    "PDCFR+": (mg.PDCFRPlus(), pdcfr_plus(2.3), lambda t: 5.0),
    "DCFR": (mg.DCFR(), dcfr(lambda t: 1.5, lambda t: 0.0), lambda t: 2.0),
}


@pytest.mark.parametrize(("name", "steps"), [("kuhn_poker", N), ("leduc_poker", 8)])
@pytest.mark.parametrize("method", PUBLISHED)
def test_the_published_equations(name: str, steps: int, method: str) -> None:
    """Every average behavioural probability where the average comes, to 1e-11."""
    pyspiel = pytest.importorskip("pyspiel")
    solver, rule, gamma = PUBLISHED[method]
    expected = averages(pyspiel.load_game(name), steps, rule, gamma)
    game = compiled(name)
    tree, average = game.tree, mg.solve(game, solver, steps).state.memory["average"]
    for j, label in enumerate(tree.labels):
        total = expected[label].sum()
        # A reach so small comes from an early step, and is only rounding by now.
        if total > 1e-12:
            ours = average.probs[tree.offset[j] : tree.offset[j + 1]]
            assert np.allclose(ours, expected[label] / total, rtol=0, atol=1e-11)


def constant(power: float) -> LinearSchedule:
    return LinearSchedule(power, power, 7)


CONSTANT: dict[str, tuple[mg.Averaged, mg.Averaged]] = {
    "DCFR": (
        mg.DCFR(1.5, -0.5, 2.0),
        mg.Averaged(
            mg.RegretMatching(alternating=True, discount=Discount(constant(1.5), constant(-0.5))),
            constant(2.0),
        ),
    ),
    "PCFR+": (
        mg.PCFRPlus(),
        mg.Averaged(mg.RegretMatching(plus=True, predictive=True, alternating=True), constant(2.0)),
    ),
    "PDCFR+": (
        mg.PDCFRPlus(),
        mg.Averaged(
            mg.RegretMatching(
                plus=True,
                predictive=True,
                alternating=True,
                discount=Discount(constant(2.3), constant(0.0)),
            ),
            constant(5.0),
        ),
    ),
}


@pytest.mark.parametrize("method", CONSTANT)
def test_a_constant_schedule_is_the_constant_bit_for_bit(method: str) -> None:
    one, other = (
        mg.solve(RPS, solver, 100, policy=START).state.memory for solver in CONSTANT[method]
    )
    assert np.array_equal(one["average"].coordinates, other["average"].coordinates)
    assert np.array_equal(one["regrets"], other["regrets"])
    assert one["average_weight"] == other["average_weight"]


def test_schedules_by_the_papers_formula() -> None:
    """They are 1 + 3 t / N, -1 - 2 t / N and 30 - 5 t / N until N, and constant from there."""
    solver = mg.HSDCFR(1000)
    assert isinstance(solver.solver, mg.RegretMatching)
    discount = solver.solver.discount
    assert discount is not None
    for power, formula in (
        (discount.alpha, lambda t: 1.0 + 3.0 * t / 1000),
        (discount.beta, lambda t: -1.0 - 2.0 * t / 1000),
        (solver.degree, lambda t: 30.0 - 5.0 * t / 1000),
    ):
        assert callable(power)
        for t in (0, 1, 250, 999, 1000):
            assert power(t) == pytest.approx(formula(t), rel=1e-14)
        assert power(5000) == power(1000)
        assert np.array_equal(power(np.array([1, 250])), [power(1), power(250)])
    assert mg.HSPCFRPlus(1000).degree == solver.degree


def test_the_other_power_of_pdcfr_plus_has_no_effect() -> None:
    runs = []
    for beta in (-3.0, 0.0, 2.0):
        matching = mg.RegretMatching(
            plus=True, predictive=True, alternating=True, discount=Discount(2.3, beta)
        )
        runs.append(mg.solve(RPS, mg.Averaged(matching, 5.0), 60, policy=START).state)
    for run in runs[1:]:
        assert np.array_equal(run.policy.coordinates, runs[0].policy.coordinates)
    own = mg.solve(RPS, mg.PDCFRPlus(), 60, policy=START).state
    assert np.array_equal(own.policy.coordinates, runs[0].policy.coordinates)


def test_a_falling_degree_discounts_the_past_at_every_step() -> None:
    """Weights of three steps by hand: `X_{t+1} = X_t (t / (t + 1))^d(t) + x_{t+1}`."""
    solver = mg.Averaged(mg.CFRPlus().solver, LinearSchedule(3.0, 1.0, 2))
    states = [s for s, _ in zip(mg.iterate(RPS, solver, policy=START), range(4), strict=False)]
    faded = [(1 / 2) ** 2.0, (2 / 3) ** 1.0]
    weights = np.array([faded[0] * faded[1], faded[1], 1.0])
    played = [s.policy.probs for s in states[:3]]
    expected = sum(w * p for w, p in zip(weights / weights.sum(), played, strict=True))
    assert np.allclose(states[3].memory["average"].probs, expected, atol=1e-15)


@pytest.mark.parametrize("make", [lambda: mg.HSDCFR(30), mg.PDCFRPlus, mg.DCFR])
def test_restarts_of_a_batch_are_a_loop(make: Callable[[], mg.Averaged]) -> None:
    """Games that restart at different times each have their own step in the schedule."""
    rng = np.random.default_rng(3)
    payoffs = rng.normal(size=(4, 3, 3))
    batch = mg.solve(mg.MatrixGame(payoffs), mg.Restarted(make(), 0.7, 3), 120, at=[120])
    steps = set()
    for i, payoff in enumerate(payoffs):
        # Each game charges the looks of the batch, so it is compared after as many steps.
        alone = mg.solve(mg.MatrixGame(payoff), mg.Restarted(make(), 0.7, 3), 120, at=[120])
        assert alone.state.step == batch.state.step
        steps.add(int(alone.state.memory["restarted"]))
        assert np.allclose(batch.state.policy.probs[i], alone.state.policy.probs, atol=1e-12)
    assert len(steps) > 1


def test_runs_with_schedules_are_resumed_bit_for_bit(tmp_path: Any) -> None:
    whole = mg.solve(RPS, mg.HSDCFR(40), 40, policy=START)
    half = mg.solve(RPS, mg.HSDCFR(40), 20, at=[20], policy=START)
    loaded = mg.Solution.load(half.save(tmp_path / "half"), RPS)
    rest = mg.solve(RPS, mg.HSDCFR(40), 40, resume=loaded)
    for name in ("policy", "average"):
        a, b = (r.state.policy if name == "policy" else r.state.memory[name] for r in (whole, rest))
        assert np.array_equal(a.coordinates, b.coordinates)


@pytest.mark.parametrize(
    ("solver", "bound"),
    [(mg.HSDCFR(1000), 4e-4), (mg.HSPCFRPlus(1000), 1e-15), (mg.PDCFRPlus(), 1e-12)],
    ids=["HS-DCFR(30)", "HS-PCFR+(30)", "PDCFR+"],
)
def test_kuhn_after_a_thousand(solver: mg.Averaged, bound: float) -> None:
    game = compiled("kuhn_poker")
    run = mg.solve(game, solver, 1000, metrics={"gap": average_gap}, at=[1000])
    assert run.state.evaluations == run.state.step == 1000
    assert run.gap / 2 < bound


def test_wrong_schedules_are_refused_in_a_sentence() -> None:
    for gamma in (4.0, 31.0, float("nan")):
        for make in (mg.HSDCFR, mg.HSPCFRPlus):
            with pytest.raises(ValueError, match=r"^`gamma` must lie in \[5, 30\], got .*\.$"):
                make(100, gamma)
    for steps in (0, 2.5, None):
        with pytest.raises(ValueError, match=r"^`steps` must be a whole number"):
            mg.HSDCFR(steps)  # type: ignore[arg-type]
    for first in (31.0, float("inf"), "2"):
        with pytest.raises(ValueError, match=r"^`first` must lie in"):
            LinearSchedule(first, 1.0, 5)  # type: ignore[arg-type]
    for degree in (lambda t: -1.0, lambda t: float("nan"), lambda t: None):
        with pytest.raises(ValueError, match=r"^`degree` must give powers in \[0, 30\]"):
            mg.solve(RPS, mg.Averaged(mg.RegretMatching(), degree), 3)
    for alpha in (lambda t: 31.0, lambda t: "2"):
        with pytest.raises(ValueError, match=r"^`alpha` must give powers in \[-30, 30\]"):
            mg.solve(RPS, mg.RegretMatching(discount=Discount(alpha)), 3)
