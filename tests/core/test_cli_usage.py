"""The command line: what is wrong with it is said in one sentence, in the user's own words."""

import pytest
from command_line import Run, refused

from mpo_games.cli.usage import sentence

CASES = [
    ("solve comal mpo --etta 1", ["`--etta` is no option there: did you mean `--eta`?"]),
    ("solve comal --budgett 3", ["did you mean `--budget`?"]),
    ("solve comal mpo --period 2.5", ["`--period` must be a whole number, got '2.5'."]),
    ("solve comal mpo --eta x", ["`--eta` must be a number, got 'x'."]),
    ("solve comal mpo --tol=x", ["`--tol` must be a number, got 'x'."]),
    ("solve comal --seed 1.5", ["`--seed` must be a whole number, got '1.5'."]),
    ("solve comal mmd every --period x", ["`--period` must be a whole number, got 'x'."]),
    ("solve comal mmd --feedback past", ["`--feedback` must be one of current,", "'past'"]),
    ("solve comal --kind x", ["`--kind` must be one of auto, payoff, preference, wins;"]),
    ("list nothing", ["WHAT must be one of games, solvers, all; got 'nothing'."]),
    ("solve comal mpo --plot", ["`--plot` needs a value."]),
    ("solve --budget", ["`--budget` needs a value."]),
    ("solve", ["`mpo-games solve` needs GAME;"]),
    ("export", ["`mpo-games export` needs GAME and FILE;"]),
    ("rank", ["`mpo-games rank` needs FILE;"]),
    ("show", ["`mpo-games show` needs FILE.npz;"]),
    ("solve comal mpo extra", ["`extra` is not expected there; see `mpo-games solve --help`."]),
    ("solve comal mpo --average 3", ["`3` is not expected there"]),
    ("solve comal --eta 1", ["`--eta` stands behind the name of", "apmd"]),
    ("solve comal --period 5", ["behind the name of what it belongs to, such as apmd"]),
    ("nothing", ["there is no command 'nothing': the commands are solve, rank, show, export,"]),
    ("compare --help", ["there is no command 'compare': the commands are"]),
    ("slove comal", ["there is no command 'slove': did you mean solve?"]),
    ("solve comal mppo", ["there is no solver 'mppo': did you mean mpo"]),
]


@pytest.mark.parametrize(("words", "said"), CASES, ids=[words for words, _ in CASES])
def test_wrong_usage_is_told_in_a_sentence(run: Run, words: str, said: list[str]) -> None:
    outcome = run(*words.split())
    refused(outcome, *said)
    for inner in ("NoneType", "instantiated", "literal", "class", "│", "helptext", "tyro"):
        assert inner not in outcome[2]


def test_what_tyro_may_say_one_day_is_still_a_sentence() -> None:
    said = "╭─ New error ─╮\n│ Something new. │\n│ ───── │\n│ For full helptext, run x │\n╰─╯\n"
    assert sentence(said, ["solve"], "mpo-games") == "Something new."


def test_the_earlier_spellings_of_kinds_and_schedules(run: Run, tmp_path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("0,2\n1,0\n")
    code, out, _ = run("solve", table, "--kind", "matrix", "--budget", 20)
    assert code == 0
    assert "payoffs" in out
    code, out, _ = run("solve", "rps", "mmd", "--budget", 20, "when-solved", "--ratio", 0.5)
    assert code == 0
    assert "WhenGapFell" in out
