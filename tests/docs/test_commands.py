"""Commands in the guides run and print what the page says; the page of options has all of them."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from mpo_games import cli
from mpo_games.cli.solvers import SOLVERS

DOCS = Path(__file__).parents[2] / "docs"
JOBS = ("chatbots", "own_matrix", "liars_dice")
"""The guides that are scripts of a whole job."""


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_the_commands_of_a_guide_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page(f"guides/{name}")
    if "OpenSpiel" in text and importlib.util.find_spec("pyspiel") is None:
        pytest.skip("OpenSpiel is not installed")
    monkeypatch.chdir(tmp_path)
    for file in (DOCS / "guides").glob("*.csv"):
        shutil.copy(file, tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```(?:\n\n```\n(.*?)```)?", text, re.S)
    commands = 0
    for block, printed in blocks:
        for line in block.splitlines():
            commands += 1
            program, *words = shlex.split(line)
            assert program == "mpo-games"
            before = set(tmp_path.iterdir())
            assert cli.main(words) == 0, line
            made = {path.name for path in set(tmp_path.iterdir()) - before}
            assert made == {
                words[i + 1] for i, w in enumerate(words) if w in ("--plot", "--save", "--strategy")
            }
        out = capsys.readouterr().out
        if printed:
            assert out == printed
    assert 1 <= commands <= 3
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        assert len([line for line in code.splitlines() if line.strip()]) <= 12


def options(*words: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that a command's --help names."""
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    helped = capsys.readouterr().out
    # In a frame, of whatever characters, or without one. Examples name options, too.
    return set(re.findall(r"^(?:[│|] |  )(?:-h, )?(--[a-z-]+)", helped, re.M)) - {"--help"}


def section(title: str) -> str:
    """The part of the page below a heading, as far as the next one."""
    return re.split(r"^##+ ", page("command_line").split(f"## {title}\n", 1)[1], flags=re.M)[0]


@pytest.mark.parametrize("command", ["solve", "rank", "show", "export"])
def test_the_page_has_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours = section(f"mpo-games {command}")
    table = ours.split("| solver |")[0]
    named = {o for row in re.findall(r"^\| (`--.*?) \|", table, re.M) for o in _options(row)}
    arguments = ("comal",) if command == "solve" else ()
    assert named == options(command, *arguments, capsys=capsys)


def test_the_page_has_every_solver_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(r"^\| (`[a-z].*?) \| (.*) \|$", section("mpo-games solve"), re.M)
    listed = {name: _options(own) for names, own in rows for name in re.findall(r"`(.*?)`", names)}
    listed = {name: own for name, own in listed.items() if name in SOLVERS}
    assert listed.keys() == SOLVERS.keys()
    common = options("solve", "comal", capsys=capsys)
    for name, own in listed.items():
        schedules = {"--period", "--rate", "--ratio", "--check"} if name == "mmd" else set()
        assert own - schedules == options("solve", "comal", name, capsys=capsys) - common


def _options(text: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", text))
