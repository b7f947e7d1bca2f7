"""The words of the command line: options and players, widths, plurals, warnings."""

import re
import sys
import warnings
from pathlib import Path

import pytest
from command_line import Run, refused

import mpo_games as mg
from mpo_games.cli import commands
from mpo_games.games.memory import GIB, size
from mpo_games.written import counted, up_to


@pytest.mark.parametrize("start", ["0.2,0.5", "0.2,0.3,0.6", "1,1,-1", "nan,0.5,0.5"])
def test_a_wrong_start_names_its_option(run: Run, start: str) -> None:
    for game in ("comal", "biased_rps"):
        found = run("solve", game, "--start", start)
        refused(found, "`--start` must have 3 probabilities in a row", repr(start))
        assert "probs" not in found[2]


def test_a_game_that_is_too_large_is_refused_in_the_words_of_options(run: Run) -> None:
    found = run("solve", "condorcet:n=20000")
    refused(found, "`--max-memory`", "GiB")
    assert "max_memory" not in found[2]


def test_chess_fits_no_machine(run: Run) -> None:
    pytest.importorskip("pyspiel")
    refused(run("solve", "chess"), "about 10^", "No machine has as much", "`--max-memory`")


@pytest.mark.parametrize(
    ("number", "said"),
    [(1.5, "about 1.5 GiB"), (2e24, "about 10^24 GiB"), (999.0, "about 999 GiB")],
)
def test_a_number_of_bytes_that_nobody_has_is_a_power_of_ten(number: float, said: str) -> None:
    assert size(number * GIB) == said


def test_rows_are_players_or_contexts(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("solve", "biased_rps", "--budget", 10)
    assert re.findall(r"^(\w+ \d): support 3 of 3 actions$", out, re.M) == ["player 0", "player 1"]
    table = tmp_path / "a.csv"
    table.write_text("3\n1\n")
    _, out, _ = run("solve", table, "--kind", "payoff")
    assert "player 1: support 1 of 1 action\n" in out


@pytest.mark.parametrize("columns", [60, 100])
def test_the_list_is_as_wide_as_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = run("list")
    narrowest = columns if columns > 70 else 70
    assert max(map(len, out.splitlines())) <= narrowest
    words = " ".join(out.split())
    for text in mg.catalogue.describe().values():
        assert " ".join(text.split()) in words
    assert " ".join(commands.ELSEWHERE.split()) in words


def test_no_option_has_the_default_none(run: Run) -> None:
    for command in ("solve", "rank", "show"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "(optional)" in out
        assert "default: None" not in " ".join(out.split())


def test_one_thing_is_not_many() -> None:
    assert [counted(n, "battle") for n in (0, 1, 2, 1200)] == [
        "0 battles",
        "1 battle",
        "2 battles",
        "1,200 battles",
    ]
    assert counted(3, "category", "categories") == "3 categories"


def test_digits_below_the_gap_are_not_said() -> None:
    assert str(up_to(-2.3e-18, 1e-16)) == "0.0"
    assert up_to(0.123456789, 1e-3) == 0.123
    solution = mg.solve(mg.load("biased_rps"), mg.AutoMPO(), 2000)
    told = {row["fact"]: row["value"] for row in solution.summary()}
    assert told["value"] == 0.0


def test_a_warning_is_a_line_without_a_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warns(self: commands.List) -> str:
        warnings.warn("the disk is\nnearly full.", UserWarning, stacklevel=1)
        return "done"

    before = warnings.formatwarning
    monkeypatch.setattr(commands.List, "run", warns)
    # Warnings are errors here, and `pytest` records the others: this is what a user has.
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(
            warnings,
            "showwarning",
            lambda *told: sys.stderr.write(warnings.formatwarning(*told[:4])),
        )
        assert run("list") == (0, "done\n", "mpo-games: warning: the disk is nearly full.\n")
    assert warnings.formatwarning is before


def test_a_saved_run_finds_its_game_where_both_were_moved(run: Run, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "runs").mkdir(parents=True)
    (old / "a.csv").write_text("3,-1\n-1,1\n")
    saved = old / "runs" / "a.npz"
    assert run("solve", old / "a.csv", "--save", saved)[0] == 0
    before = run("show", saved)[1]
    old.rename(new)
    code, out, _ = run("show", new / "runs" / "a.npz")
    assert code == 0
    assert out.splitlines()[3:] == before.splitlines()[3:]
    (new / "a.csv").unlink()
    refused(run("show", new / "runs" / "a.npz"), "a.csv")


def test_payoffs_that_differ_in_the_last_digit_are_said_to(tmp_path: Path) -> None:
    payoff = [[3.0, -1.0], [-1.0, 0.3]]
    path = mg.solve(mg.MatrixGame(payoff), mg.AutoMPO(), 10).save(tmp_path / "a.npz")
    payoff[1][1] = 0.1 + 0.2
    with pytest.raises(ValueError, match="differ in one last digit"):
        mg.Solution.load(path, mg.MatrixGame(payoff))
    with pytest.raises(ValueError, match="not of") as caught:
        mg.Solution.load(path, mg.MatrixGame([[3.0, -1.0, 0.0], [-1.0, 0.3, 0.0]]))
    assert "digit" not in str(caught.value)
