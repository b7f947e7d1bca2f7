"""The command line: known numbers, and the policies it prints."""

import re

import numpy as np
import pytest
from command_line import COMAL, Run, gap, refused

from mpo_games.cli import solvers, tables
from mpo_games.games import catalogue


def test_comal_reaches_the_published_accuracy_and_equilibrium(run: Run) -> None:
    code, out, err = run(*COMAL, "--budget", 3000, "--start", "0.2,0.5,0.3")
    assert (code, err) == (0, "")
    assert gap(out) < 1e-11
    assert "MPO eta=0.3 alpha=0.1 period=50" in out
    assert "support 3 of 3 actions" in out
    assert [line.split()[1] for line in out.splitlines()[-3:]] == [
        f"{p:.6f}" for p in (4 / 11, 3 / 11, 4 / 11)
    ]


def test_a_fixed_magnet_stops_at_the_published_gap(run: Run) -> None:
    code, out, _ = run(
        "solve", "comal", "mmd", "--eta", 0.3, "--alpha", 0.1, "--start", "0.2,0.5,0.3"
    )
    assert code == 0
    assert gap(out) == pytest.approx(0.0588, abs=5e-5)
    regularised = next(line for line in out.splitlines() if "regularised game" in line)
    assert float(regularised.split()[0]) < 1e-12


@pytest.mark.parametrize(
    ("solver", "limit"),
    [
        ("mpo", 1e-9),
        ("optimistic-mpo", 1e-9),
        ("mpo-rt", 1e-9),
        ("optimistic-md", 1e-9),
        ("extragradient", 1e-9),
        ("apmd", 1e-9),
        ("m2wu", 1e-9),
        ("annealed-mmd", 0.02),
        ("fictitious-play", 0.02),
    ],
)
@pytest.mark.parametrize("game", ["comal", "biased_rps", "perturbed_rps"])
def test_defaults_converge_whatever_the_unit_of_the_payoffs(
    run: Run, game: str, solver: str, limit: float
) -> None:
    code, out, _ = run("solve", game, solver)
    assert code == 0
    assert gap(out) < limit * float(np.max(catalogue.load(game).bound))


@pytest.mark.parametrize(("solver", "bias"), [("mmd", 1e-12), ("egpo", 1e-12), ("nash-md", 1e-3)])
@pytest.mark.parametrize("game", ["comal", "biased_rps", "perturbed_rps"])
def test_regularised_defaults_reach_the_regularised_equilibrium(
    run: Run, game: str, solver: str, bias: float
) -> None:
    _, out, _ = run("solve", game, solver)
    bound = float(np.max(catalogue.load(game).bound))
    regularised = next(line for line in out.splitlines() if "regularised game" in line)
    assert float(regularised.split()[0]) < bias * bound
    # Whose duality gap is at most what the two sides' KL to the uniform magnet can weigh.
    alpha = solvers.SOLVERS[solver][2]["alpha"] * bound
    assert 0 < gap(out) <= 2.0 * alpha * np.log(3) + bias * bound


@pytest.mark.parametrize("solver", ["mirror-descent", "regret-matching"])
def test_the_average_is_tracked_beside_the_circling_last_iterate(run: Run, solver: str) -> None:
    _, out, _ = run("solve", "biased_rps", solver, "--average")
    average = next(line for line in out.splitlines() if "average iterate" in line)
    assert float(average.split()[0]) < 0.1 < gap(out)
    assert "last iterate  average" in out


def test_regret_matching_flags_are_its_settings(run: Run) -> None:
    _, out, _ = run("solve", "mne", "regret-matching", "--plus", "--predictive")
    assert "plus=1 predictive=1" in out
    assert gap(out) < 1e-9


def test_the_choices_of_mmd_make_it_another_method(run: Run) -> None:
    settings = ("--eta", 0.3, "--alpha", 0.1, "--budget", 300)
    for choices, method in (
        ((), "mmd"),
        (("every", "--period", 50), "mpo"),
        (("--pull", "in_reward", "every", "--period", 50), "mpo-rt"),
        (("--feedback", "optimistic", "every", "--period", 50), "optimistic-mpo"),
    ):
        period = ("--period", 50) if "every" in choices else ()
        _, ours, _ = run("solve", "biased_rps", "mmd", *settings, *choices)
        _, other, _ = run("solve", "biased_rps", method, *settings, *period)
        assert gap(ours) == gap(other)
        assert ours.splitlines()[-9:] == other.splitlines()[-9:]  # the policies


def test_the_choices_of_mmd_are_named(run: Run) -> None:
    for schedule, said in (
        (("fixed",), "magnet=Fixed()"),
        (("ema", "--rate", 0.1), "magnet=Ema(0.1)"),
        (("when-gap-fell", "--ratio", 0.5), "magnet=WhenGapFell(0.5)"),
    ):
        code, out, _ = run("solve", "rps", "mmd", "--feedback", "popov", "--budget", 20, *schedule)
        assert code == 0
        assert f"feedback=popov pull=proximal {said}" in out


def test_no_solver_is_the_one_that_needs_no_setting(run: Run) -> None:
    _, unnamed, _ = run("solve", "comal", "--budget", 200)
    _, named, _ = run("solve", "comal", "auto", "--budget", 200)
    assert gap(unnamed) == gap(named) < 1e-12


def test_large_games_list_the_likeliest_actions(run: Run) -> None:
    _, out, _ = run("solve", "random_preferences:n=30", "mpo", "--budget", 100)
    lines = out.splitlines()
    shown = [float(line.split()[1]) for line in lines if re.match(r"  \d", line)]
    assert len(shown) == tables.LISTED
    assert shown == sorted(shown, reverse=True)
    rest = float(lines[-1].split()[3])
    assert sum(shown) + rest == pytest.approx(1.0, abs=1e-4)


def test_trees_list_their_information_states_where_these_are_few(run: Run) -> None:
    pytest.importorskip("pyspiel")
    _, out, _ = run("solve", "kuhn_poker", "--budget", 60)
    rows = out.splitlines()[-24:]
    assert all(len(row.split()) == 4 for row in rows)
    assert sum(float(row.split()[3]) for row in rows) == pytest.approx(12.0, abs=1e-4)
    _, out, _ = run("solve", "leduc_poker", "mpo", "--budget", 2)
    assert "936 information states" in out.splitlines()[-1]
    refused(run("solve", "kuhn_poker", "mpo", "--start", "0.2,0.8"), "--start", "tables")
