"""The command line: when a run stops, what it answers with, and what is written and shown."""

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import COMAL, Run, gap, refused

import mpo_games as mg
from mpo_games.cli import commands, progress
from mpo_games.games import catalogue


@pytest.mark.parametrize("game", ["comal", "biased_rps", "condorcet:n=5"])
def test_a_run_stops_by_itself_at_a_gap_of_rounding_size(run: Run, game: str) -> None:
    _, out, _ = run("solve", game, "mpo", "--budget", 1e9)
    name, _, tail = game.partition(":")
    exact = catalogue.load(name, **({"n": 5} if tail else {}))
    assert gap(out) <= commands.ROUNDING * float(np.max(exact.bound))
    assert "stopped at a gap of rounding size" in out
    _, out, _ = run("solve", game, "mpo", "--budget", 6000, "--tol", 0)
    assert "evaluations  6,000" in out
    assert "tolerance" not in out


def test_payoffs_in_another_unit_stop_at_the_same_step(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    steps = []
    for unit in (1e-6, 1.0, 1e6):
        np.savetxt(table, unit * np.array([[3.0, -1.0], [-2.0, 4.0]]), delimiter=",")
        _, out, _ = run("solve", table, "mpo", "--budget", 1e6)
        assert "rounding size" in out
        steps.append(next(line for line in out.splitlines() if "evaluations" in line))
    assert len(set(steps)) == 1


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("cfr", mg.CFR()),
        ("cfr-plus", mg.CFRPlus()),
        ("dcfr", mg.DCFR()),
        ("pcfr-plus", mg.PCFRPlus()),
    ],
)
def test_averaging_solvers_answer_with_the_average(run: Run, name: str, solver: object) -> None:
    _, out, _ = run("solve", "biased_rps", name, "--budget", 200)
    solution = mg.solve(mg.load("biased_rps"), solver, 200)
    assert gap(out) == pytest.approx(solution.gap, rel=1e-2)
    assert f"duality gap  {solution.gap:.3g} of the average" in out
    last = mg.load("biased_rps").duality_gap(solution.iterate)
    assert f"{float(last):.3g} of the last iterate" in out
    probs = [f"{p:.6f}" for row in solution.policy.probs for p in row]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  ") and "." in line][
        -6:
    ] == probs


def test_restarts_restart(run: Run) -> None:
    _, out, _ = run("solve", "biased_rps", "pcfr-plus", "--restarts", "--budget", 500)
    game = mg.load("biased_rps")
    tol = commands.ROUNDING * float(game.bound)
    solution = mg.solve(game, mg.Restarted(mg.PCFRPlus()), 500, tol=tol)
    assert f"{solution.gap:.3g} of the better of average and last iterate" in out
    assert "PCFR+ restarted" in out


def test_the_value_is_that_of_the_row_player_and_has_no_digits_below_the_gap(
    run: Run, tmp_path: Path
) -> None:
    table = tmp_path / "a.csv"
    table.write_text("3,-1,0\n-1,1,0.5\n")
    exact = mg.exact.nash(mg.MatrixGame([[3, -1, 0], [-1, 1, 0.5]])).value
    _, out, _ = run("solve", table)
    assert f"game value   {exact:.6g} to player 0, who plays the rows" in out
    _, out, _ = run("solve", "biased_rps", "cfr-plus", "--budget", 300)
    assert "game value   0 to player 0, who plays the rows" in out
    assert "game value" not in run("solve", "comal")[1]


def test_a_strategy_is_a_row_for_each_action_with_its_name(run: Run, tmp_path: Path) -> None:
    table, written = tmp_path / "a.csv", tmp_path / "s.csv"
    table.write_text(",left,right\nup,3,-1\ndown,-1,1\n")
    assert run("solve", table, "--strategy", written)[0] == 0
    rows = list(csv.DictReader(io.StringIO(written.read_text())))
    assert [row["action"] for row in rows] == ["up", "down", "left", "right"]
    found = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1 / 3, 2 / 3], atol=1e-9)
    refused(run("solve", table, "--strategy", tmp_path / "s.txt"), "--strategy", ".csv")


def test_a_strategy_of_a_tree_has_its_information_states(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyspiel")
    written, saved = tmp_path / "s.csv", tmp_path / "k.npz"
    arguments = ("kuhn_poker", "cfr-plus", "--budget", 300)
    code, out, _ = run("solve", *arguments, "--strategy", written, "--save", saved)
    assert code == 0
    assert "to player 0" in out
    rows = list(csv.DictReader(io.StringIO(written.read_text())))
    assert len(rows) == 24
    assert {row["action"] for row in rows} == {"Pass", "Bet"}
    again = tmp_path / "again.csv"
    code, out, _ = run("show", saved, "--strategy", again)
    assert code == 0
    assert again.read_bytes() == written.read_bytes()
    assert "kuhn_poker" in out
    assert "`--noise` is for tables" in run("solve", "kuhn_poker", "--noise", 0.1)[2]


@pytest.mark.parametrize("extra", [[], ["--average"], ["--noise", "0.1"], ["--restarts"]])
def test_a_saved_solution_is_shown(run: Run, tmp_path: Path, extra: list[str]) -> None:
    saved, picture = tmp_path / "run.npz", tmp_path / "p.png"
    assert run(*COMAL, "--budget", 100, "--save", saved, *extra)[0] == 0
    solution = mg.Solution.load(saved, mg.load("comal"))
    code, out, err = run("show", saved, "--plot", picture)
    assert (code, err) == (0, "")
    assert str(solution.table()) in out
    assert "comal" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(*COMAL, "--budget", 150, "--resume", saved, *extra)[0] == 0


@pytest.mark.parametrize("extra", [["regret-matching"], ["regret-matching", "--restarts"], ["cfr"]])
def test_a_saved_average_has_the_gap_that_it_says(
    run: Run, tmp_path: Path, extra: list[str]
) -> None:
    saved, game = tmp_path / "run.npz", mg.load("biased_rps")
    name, *more = extra
    _, out, _ = run(
        "solve", "biased_rps", name, "--average", "--budget", 90, "--save", saved, *more
    )
    solution = mg.Solution.load(saved, game)
    assert game.duality_gap(solution.policy) == solution.gap
    assert game.duality_gap(solution.best) == solution.best_gap
    assert gap(out) == pytest.approx(solution.gap, rel=1e-2)


def test_a_file_from_before_answers_were_declared_shows_its_average(
    run: Run, tmp_path: Path
) -> None:
    saved, game = tmp_path / "run.npz", mg.load("biased_rps")
    metrics = {"gap": mg.metrics.iterate_gap, "average_gap": mg.metrics.average_gap}
    solver = mg.Averaged(mg.RegretMatching())
    replace(mg.solve(game, solver, 50, metrics=metrics), answer=None).save(saved)
    arguments = ["solve", "biased_rps", "regret-matching", "--average", "--resume", saved]
    code, out, _ = run(*arguments, "--budget", 90)
    assert code == 0
    average = mg.solve(game, solver, 90).policy.probs[0, 0]
    first = next(line for line in out.splitlines() if line.startswith("  0"))
    assert first.split()[2] == f"{average:.6f}"


def test_a_saved_solution_of_a_file_is_shown_from_elsewhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.csv").write_text("x,y\n0,7\n3,0\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run("solve", "w.csv", "--kind", "wins", "--save", "r.npz", "--budget", 50)[0] == 0
    monkeypatch.chdir(tmp_path / "sub")
    code, out, _ = run("show", "../r.npz")
    assert code == 0
    assert "numbers of wins" in out
    (tmp_path / "w.csv").unlink()
    refused(run("show", "../r.npz"), "w.csv")


def test_what_cannot_be_shown(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    assert run(*COMAL, "--budget", 10, "--checkpoint", kept)[0] == 0
    refused(run("show", kept), "does not say which game", f"mpo-games show {kept} GAME")
    assert run("show", kept, "comal")[0] == 0
    refused(run("show", kept, "condorcet:n=5"), "kept.npz")
    refused(run("show", tmp_path / "none.npz"), "no file")
    junk = tmp_path / "junk.npz"
    junk.write_bytes(b"junk")
    refused(run("show", junk), "not a saved solution")


def test_off_a_terminal_a_line_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "LATER", 0.0)
    code, _, err = run(*COMAL, "--budget", 1000)
    assert code == 0
    lines = err.splitlines()
    assert lines[-1].startswith("1,000 of 1,000 evaluations, gap ")
    assert all(line.isprintable() for line in lines)
    monkeypatch.setattr(progress, "FIRST", 1e9)
    assert run(*COMAL, "--budget", 1000)[2] == ""


def test_on_a_terminal_a_bar_and_no_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "FIRST", 0.0)
    for arguments in (("mpo",), ("extragradient",), ("auto",), ("mpo", "--budget", 0.3)):
        code, _, err = run("solve", "comal", *arguments)
        assert code == 0
        assert "evaluation" in err
        assert "arning" not in err
        assert " of " not in err
