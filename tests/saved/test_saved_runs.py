"""Solutions that release 0.1.0 saved halfway are read, and go on as they did there, bit for bit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import HERE, assert_same, expected

import mpo_games as mg
from mpo_games import cli

TABLES = HERE / "tables"
EXPECTED = "tables.json"

MOVED_AT = "moved_at"
"""What a state calls the step at which its magnet last moved. In the files it is `moved`."""


def halving(state: Any) -> float:
    """A setting of the user's own; a saved run knows it by its name."""
    return 0.4 * 0.5 ** (state.step // 40)


SOLVERS: Mapping[str, Callable[[], Any]] = {
    "MPO": lambda: mg.MPO(0.3, 0.1, 20),
    "MPO on a tree": lambda: mg.MPO(0.5, 0.1, 15),
    "optimistic MPO": lambda: mg.OptimisticMPO(0.5, 0.1, 20),
    "MPO-RT": lambda: mg.MPO_RT(0.3, 0.1, 20),
    "APMD": lambda: mg.APMD(0.2, 0.5, 20),
    "M2WU": lambda: mg.M2WU(0.2, 0.2),
    "annealed MMD": lambda: mg.AnnealedMMD(0.5, 1.0),
    "own setting": lambda: mg.MMD(halving, 0.1, magnet=mg.Every(20, floor=0.01)),
    "Nash-MD": lambda: mg.NashMD(0.3, 0.2),
    "against the mixture": lambda: mg.MMD(0.3, 0.1, feedback=mg.AgainstMixture(0.25)),
    "extragradient": lambda: mg.Extragradient(0.3),
    "alternating": lambda: mg.MMD(0.3, 0.1, feedback=mg.alternating),
    "Popov": lambda: mg.MMD(0.3, 0.1, feedback=mg.popov),
    "drifting magnet": lambda: mg.MMD(0.3, 0.1, magnet=mg.Ema(0.05)),
    "when the gap fell": lambda: mg.MMD(0.3, 0.1, magnet=mg.WhenGapFell(0.8, 5)),
    "when the kept gap fell": lambda: mg.MMD(
        0.3, 0.1, magnet=mg.WhenGapFell(0.5, 3), feedback=mg.alternating_popov
    ),
    "when the inner game is solved": lambda: mg.MMD(0.3, 0.1, magnet=mg.WhenInnerSolved(0.5, 4)),
    "leaps": lambda: mg.MMD(
        0.3, 0.02, magnet=mg.Leap(mg.WhenGapFell(0.3, 1), 1.0, 8), feedback=mg.popov
    ),
    "AutoMPO": lambda: mg.AutoMPO(),
    "adaptive": lambda: mg.MMD(mg.Adaptive(0.3), 0.0, feedback=mg.popov, geometry=mg.smoothed),
    "measured": lambda: mg.MMD(
        mg.Measured(0.5), mg.Anchored(), mg.Every(30), mg.popov, geometry=mg.smoothed
    ),
    "averaged": lambda: mg.Averaged(mg.OptimisticMD(0.3), degree=1),
    "averaged MPO": lambda: mg.Averaged(mg.MPO(0.3, 0.1, 20)),
    "plays its average": lambda: mg.PlayedAverage(mg.Averaged(mg.MMD(0.3, 0.05))),
    "plays its average under noise": lambda: mg.PlayedAverage(
        mg.Averaged(mg.MMD(mg.Adaptive(0.3), 0.0, feedback=mg.popov))
    ),
    "restarted": lambda: mg.Restarted(mg.Averaged(mg.Extragradient(0.3)), 0.5, 5),
    "restarted regrets": lambda: mg.Restarted(mg.SmoothPRMPlus(1.0), 0.5, 5),
    "regret matching": lambda: mg.RegretMatching(plus=True, predictive=True),
    "extragradient RM+": lambda: mg.ExtragradientRMPlus(1.0),
    "RT-CFR+": lambda: mg.RTCFRPlus(0.1, 20),
    "CFR+": mg.CFRPlus,
    "DCFR": mg.DCFR,
    "fictitious play": lambda: mg.FictitiousPlay(),
    "gradient ascent": lambda: mg.GradientAscent(0.2),
}
"""All solvers that were saved, by this release's names of their classes."""

EARLIER: Mapping[str, Callable[[], Any]] = {
    "mixed": lambda: mg.MMD(0.3, 0.1, feedback=mg.Mixed(0.25)),
    "when_solved": lambda: mg.MMD(0.3, 0.1, magnet=mg.WhenSolved(0.8, 5)),
    "when_settled": lambda: mg.MMD(0.3, 0.1, magnet=mg.WhenSettled(0.5, 0.1, 4)),
    "average_of": lambda: mg.AverageOf(mg.Averaged(mg.MMD(0.3, 0.05))),
}
"""Cases whose solvers had another name in release 0.1.0, by that name."""


@cache
def kuhn() -> Any:
    pytest.importorskip("pyspiel")
    return mg.load("kuhn_poker")


def comal() -> Any:
    return mg.load("comal")


def rps() -> Any:
    return mg.load("biased_rps")


def matrix() -> Any:
    return mg.MatrixGame(np.random.default_rng(1).normal(size=(4, 5)))


def preferences() -> Any:
    return mg.families.random_preferences(7, np.random.default_rng(2))


def batch() -> Any:
    return mg.MatrixGame(np.random.default_rng(3).normal(size=(3, 3, 3)))


def scaled_kuhn() -> Any:
    """By the earlier name of `with_dilation`."""
    return kuhn().with_weights(mg.dilation.payoff_scaled)


def view(**options: Any) -> Any:
    return mg.BehaviouralGame(kuhn(), **options)


def begun(game: Any, geometry: Any = mg.Entropy()) -> Any:
    """A start that is not uniform."""
    weights = np.arange(1.0, 1.0 + game.legal.size).reshape(game.legal.shape)
    return mg.TabularPolicy.from_probs(weights / weights.sum(-1, keepdims=True), None, geometry)


@dataclass(frozen=True)
class Case:
    """A run that was saved at `half`, between two moves of the magnet, and went on to `budget`."""

    solver: str
    game: Callable[[], Any]
    budget: int = 120
    half: int = 50
    start: Callable[[Any], Any] | None = None
    average: bool = False
    """Whether the gap of the average is recorded, too."""

    @property
    def options(self) -> dict[str, Any]:
        """What is recorded, and when: seldom, for small files."""
        found: dict[str, Any] = {"at": mg.log_spaced(self.budget, 2)}
        if self.average:
            metrics = {"gap": mg.metrics.duality_gap, "average": mg.metrics.average_gap}
            found["metrics"] = metrics
        return found

    def first(self, game: Any) -> Any:
        return None if self.start is None else self.start(game)


CASES: Mapping[str, Case] = {
    "mpo": Case("MPO", comal, start=begun),
    "mpo_kuhn": Case("MPO on a tree", scaled_kuhn),
    "mpo_euclidean": Case("MPO", rps, start=lambda game: begun(game, mg.Euclidean())),
    "mpo_noisy": Case("MPO", lambda: mg.NoisyGame(rps(), 0.1)),
    "optimistic_mpo": Case("optimistic MPO", matrix),
    "optimistic_sampled": Case("optimistic MPO", lambda: mg.SampledGame(rps(), 20)),
    "optimistic_bandit": Case(
        "optimistic MPO", lambda: mg.BanditGame(comal(), 50, exploration=0.2, duels=True)
    ),
    "mpo_rt": Case("MPO-RT", preferences),
    "apmd": Case("APMD", rps),
    "m2wu": Case("M2WU", rps, start=begun),
    "annealed": Case("annealed MMD", matrix),
    "own_setting": Case("own setting", comal, start=begun),
    "nash_md": Case("Nash-MD", comal, start=begun),
    "mixed": Case("against the mixture", matrix),
    "extragradient_view": Case("extragradient", view),
    "alternating": Case("alternating", matrix),
    "alternating_outcomes": Case("alternating", lambda: mg.OutcomeSampling(kuhn(), 30, 0.3)),
    "popov": Case("Popov", rps, start=begun),
    "popov_opening": Case("Popov", rps, budget=60, half=1, start=begun),
    "ema": Case("drifting magnet", comal, start=begun),
    "ema_kuhn": Case("drifting magnet", kuhn),
    "when_solved": Case("when the gap fell", rps, start=begun),
    "when_solved_kept": Case("when the kept gap fell", matrix),
    "when_settled": Case("when the inner game is solved", comal, start=begun),
    "leap": Case("leaps", matrix, budget=300, half=150),
    "auto_preferences": Case("AutoMPO", preferences),
    "auto_rps": Case("AutoMPO", rps, budget=60, half=30),
    "auto_matrix": Case("AutoMPO", matrix, budget=300, half=150),
    "auto_kuhn": Case("AutoMPO", kuhn, budget=120, half=70),
    "auto_opening": Case("AutoMPO", matrix, budget=60, half=2),
    "adaptive": Case("adaptive", matrix),
    "measured": Case("measured", preferences),
    "averaged": Case("averaged", matrix, average=True),
    "averaged_batch": Case("averaged MPO", batch, average=True),
    "average_of": Case("plays its average", rps, start=begun),
    "average_of_noisy": Case(
        "plays its average under noise", lambda: mg.NoisyGame(rps(), 0.1), start=begun
    ),
    "restarted": Case("restarted", rps, budget=200, half=98, start=begun, average=True),
    "restarted_batch": Case("restarted", batch, budget=200, half=98, average=True),
    "restarted_regrets": Case("restarted regrets", matrix),
    "regret_matching": Case("regret matching", matrix),
    "extragradient_rm": Case("extragradient RM+", rps, start=begun),
    "rt_cfr_kuhn": Case("RT-CFR+", lambda: view(feed=mg.counterfactual_values)),
    "cfr_plus_kuhn": Case("CFR+", kuhn, average=True),
    "dcfr_view": Case("DCFR", lambda: view(feed=mg.counterfactual_values), average=True),
    "fictitious_play": Case("fictitious play", matrix),
    "gradient_ascent": Case("gradient ascent", rps, start=begun),
}

COMMAND = (
    *("solve", "biased_rps", "--noise", "0.05", "--average", "--seed", "3"),
    *("mmd", "--feedback", "optimistic", "when-gap-fell", "--ratio", "0.5"),
)
"""A run of the command line, saved at 60 evaluations, when its schedule was `when-solved`."""


def facts(solution: Any) -> dict[str, Any]:
    """What is compared of a run."""
    state = solution.state
    return {
        "probs": state.policy.probs.tolist(),
        "magnet": state.magnet.probs.tolist(),
        "best_gap": solution.best_gap,
        "step": state.step,
        "moved": getattr(state, MOVED_AT),
        "evaluations": state.evaluations,
        **{f"trace {name}": solution.trace[name].tolist() for name in solution.trace},
    }


def compare(found: Mapping[str, Any], stored: Mapping[str, Any], exact: bool) -> None:
    assert found.keys() == stored.keys()
    for what, value in found.items():
        if exact or not what.startswith(("best", "trace")):
            assert_same(value, stored[what], exact, what)


def loaded(name: str) -> Any:
    case = CASES[name]
    game = case.game()
    return mg.Solution.load(TABLES / f"{name}.npz", game, case.first(game))


@pytest.mark.parametrize("name", CASES)
def test_what_was_saved_is_read(name: str) -> None:
    """On every machine: the numbers are those in the file."""
    solution = loaded(name)
    with np.load(TABLES / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    header = json.loads(str(arrays["header"]))
    for key, policy in (("policy", solution.policy), ("magnet", solution.state.magnet)):
        assert np.array_equal(policy.coordinates, arrays[f"{key}/coordinates"])
    for column in solution.trace:
        assert np.array_equal(solution.trace[column], arrays[f"trace/{column}"], equal_nan=True)
    assert solution.rng_state == header["rng_state"]
    state = solution.state
    assert (state.step, state.evaluations) == (header["step"], header["evaluations"])
    assert getattr(state, MOVED_AT) == state.moved == header["moved"]


def go_on(name: str, solver: Any) -> None:
    """Resume a case with `solver`; it ends where release 0.1.0 ended."""
    case = CASES[name]
    stored, exact = expected(EXPECTED)
    solution = mg.solve(case.game(), solver, case.budget, resume=loaded(name), **case.options)
    compare(facts(solution), stored[name], exact)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_run_goes_on(name: str) -> None:
    go_on(name, SOLVERS[CASES[name].solver]())


@pytest.mark.parametrize("name", EARLIER)
def test_a_saved_run_goes_on_under_the_earlier_name(name: str) -> None:
    go_on(name, EARLIER[name]())


@pytest.mark.parametrize("name", ["mpo", "auto_matrix", "when_solved", "auto_kuhn", "average_of"])
def test_what_was_read_can_be_saved_again(name: str, tmp_path: Path) -> None:
    """And read once more, before it goes on."""
    case = CASES[name]
    stored, exact = expected(EXPECTED)
    file, game = loaded(name).save(tmp_path / "again"), case.game()
    again = mg.Solution.load(file, game, case.first(game))
    solver = SOLVERS[case.solver]()
    solution = mg.solve(game, solver, case.budget, resume=again, **case.options)
    compare(facts(solution), stored[name], exact)


@pytest.mark.parametrize("schedule", ["when-gap-fell", "when-solved"])
def test_the_command_line_goes_on(
    schedule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, exact = expected(EXPECTED)
    files = ["--resume", str(TABLES / "command_line.npz"), "--save", str(tmp_path / "run.npz")]
    command = [schedule if word == "when-gap-fell" else word for word in COMMAND]
    head = command.index("mmd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = cli.main([*command[:head], "--budget", "120", *files, *command[head:]])
    assert code == 0, capsys.readouterr().err
    solution = mg.Solution.load(tmp_path / "run.npz", mg.NoisyGame(rps(), 0.05))
    compare(facts(solution), stored["command line"], exact)
