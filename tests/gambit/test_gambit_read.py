"""Gambit's files: what they say, the values that Gambit finds, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.cli import main

HERE = Path(__file__).parent

VALUES = {
    "poker.efg": 1 / 3,
    "cycle.efg": 0.0,
    "share.efg": 26 / 7,
    "late.efg": 5 / 22,
    "table.nfg": 1.0,
    "outcomes.nfg": 1 / 3,
    "sizes.nfg": 85 / 31,
}
"""Player 1's payoff in the equilibria that pygambit 17.0.0b2 finds: `lp_solve` and `lcp_solve` in
rational numbers agree, and `enumpoly_solve` where it answers."""

HEAD = 'EFG 2 R "t" { "A" "B" }\n'
CHOICE = HEAD + 'p "" 1 1 "s" { "l" "r" } 0\n'


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_values_are_gambits(name: str, value: float, tmp_path: Path) -> None:
    game = mg.load(str(HERE / name))
    assert mg.exact.nash(game).value == pytest.approx(value, abs=1e-14)
    capitals = tmp_path / name.upper()
    shutil.copy(HERE / name, capitals)
    assert mg.exact.nash(mg.load(str(capitals))).value == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("name", ["poker.efg", "share.efg", "outcomes.nfg"])
def test_they_are_solved(name: str) -> None:
    assert mg.solve(mg.load(str(HERE / name)), mg.AutoMPO(), budget=2000).gap < 1e-6


def test_what_a_file_keeps() -> None:
    poker = mg.load(str(HERE / "poker.efg"))
    assert isinstance(poker, mg.SequenceFormGame)
    names = "Ann holds an ace", "Ann holds a king", "Bob sees a raise"
    assert poker.tree.labels == names
    assert poker.tree.actions[2:] == ("Raise", "Fold", "Raise", "Fold", "Meet", "Pass")
    # Ann's ante of 1 at the inner nodes counts in every payoff below.
    leaves = sorted((poker.payoff / poker.chance).tolist())
    assert leaves == [-2.0, -1.0, -1.0, 1.0, 1.0, 2.0]
    share = mg.load(str(HERE / "share.efg"))
    assert isinstance(share, mg.SequenceFormGame)
    assert share.utility_sum == 10.0
    late = mg.load(str(HERE / "late.efg"))
    assert isinstance(late, mg.SequenceFormGame)
    assert sorted(late.tree.labels) == ["1", "1", "2", "2", "3"]
    table = mg.load(str(HERE / "table.nfg"))
    assert isinstance(table, mg.MatrixGame)
    assert table.payoff.tolist() == [[3, -2], [-1, 4], [0, 0.5]]
    assert table.actions == (("top", "middle", "bottom"), ("left", "right"))
    sizes = mg.load(str(HERE / "sizes.nfg"))
    assert isinstance(sizes, mg.MatrixGame)
    # Read column by column: player 1's strategy changes fastest.
    assert sizes.payoff.tolist() == [[5, 2.5, 0], [1.5, 3, 4.25]]
    assert sizes.actions == ()


@pytest.mark.parametrize("suffix", [".efg", ".EFG"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = CHOICE.replace('"s"', '"größe"') + 't "" 1 "" { 1 -1 } t "" 2 "" { 2 -2 }'
    path = tmp_path / f"g{suffix}"
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    game = mg.load(str(path))
    assert isinstance(game, mg.SequenceFormGame)
    assert game.tree.labels == ("größe",)
    assert mg.exact.nash(game).value == pytest.approx(2.0, abs=1e-14)


REFUSED: dict[str, tuple[str, str]] = {
    "first version": ('EFG 1 R "t" { "A" "B" }', "line 1: only EFG 2 can be read, got EFG 1"),
    "other file": ("hello", "line 1: expected EFG"),
    "empty": ("", "line 1: the file ends before"),
    "three players": ('EFG 2 R "t" { "A" "B" "C" }', "two players, it has 3: A, B, C"),
    "one player": ('EFG 2 R "t" { "A" }', "two players, it has 1: A"),
    "no tree": (HEAD, "the file ends before all nodes"),
    "cut off": (CHOICE + 't "" 1 "" { 1 -1 }\n', "the file ends before all nodes of the tree"),
    "too long": (CHOICE + 't "" 1 "" { 1 -1 }\nt "" 1\nt "" 1\n', "line 5: the tree is complete"),
    "no node": (HEAD + "\nx 1 2\n", "line 3: a node begins with c, p or t, got x"),
    "text over lines": (
        HEAD + '"comment" "a\nb" 1\n',
        'line 2: a node begins with c, p or t, got "a b".',
    ),
    "open quote": (HEAD + 'p "" 1 1 "s { l r } 0', "closing quote"),
    "not constant": (
        CHOICE + 't "" 1 "" { 1 -1 }\nt "" 2 "" { 2 -1 }\n',
        "line 4: the game must have a constant sum: both players receive 1 together here "
        "(outcome 2), and 0 at the first end",
    ),
    "chance below 1": (
        HEAD + 'c "" 1 "s" { "l" .333 "r" .666 } 0\nt "" 0\nt "" 0\n',
        "line 2: the probabilities of information set 1 of chance must sum to 1, got 0.999",
    ),
    "chance negative": (
        HEAD + 'c "" 1 "s" { "l" 1.5 "r" -1/2 } 0\nt "" 0\nt "" 0\n',
        "line 2: information set 1 of chance has a negative probability",
    ),
    "chance nan": (HEAD + 'c "" 1 "s" { "l" nan "r" 1 } 0\nt "" 0\nt "" 0\n', "a number, got nan"),
    "other moves": (
        CHOICE.replace("p", 'p "" 2 1 "z" { "m" } 0\np', 1)
        + 'p "" 2 1 "z" { "n" } 0\nt "" 0\nt "" 0\n',
        "line 4: information set 1 of 'B' has other actions here than before",
    ),
    "unknown set": (HEAD + 'p "" 1 4 0\n', "line 2: information set 4 of 'A' has no actions"),
    "imperfect recall": (
        CHOICE + 'p "" 1 2 "again" { "x" "y" } 0\nt "" 0\nt "" 0\np "" 1 2 0\nt "" 0\nt "" 0\n',
        "line 6: 'A' has imperfect recall at information set 2 ('again')",
    ),
    "absent-minded": (
        CHOICE + 'p "" 1 1 0\nt "" 0\nt "" 0\nt "" 0\n',
        "line 3: 'A' has imperfect recall at information set 1 ('s')",
    ),
    "unknown outcome": (CHOICE + 't "" 7\nt "" 0\n', "line 3: outcome 7 has no payoffs yet"),
    "two meanings": (
        CHOICE + 't "" 1 "" { 1 -1 }\nt "" 1 "" { 2 -2 }\n',
        "line 4: outcome 1 has other payoffs here",
    ),
    "three payoffs": (CHOICE + 't "" 1 "" { 1 -1 0 }\nt "" 1\n', "the end of the two payoffs"),
    "one payoff": (CHOICE + 't "" 1 "" { 1 }\nt "" 1\n', "player 2's payoff, a number, got }"),
    "infinite": (CHOICE + 't "" 1 "" { 1e999 0 }\nt "" 1\n', "must be finite, got 1e999"),
    "division": (CHOICE + 't "" 1 "" { 1/0 0 }\nt "" 1\n', "divides by 0"),
    "third mover": (HEAD + 'p "" 3 1 "s" { "l" } 0\nt "" 0\n', "must be 1 or 2, got 3"),
    "payoffs of 0": (CHOICE + 't "" 0 "" { 1 -1 }\nt "" 0\n', "outcome 0 stands for no payoffs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_trees_are_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    text, words = REFUSED[name]
    path = tmp_path / "bad.efg"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.efg") as caught:
        mg.load(str(path))
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


TABLE = 'NFG 1 R "t" { "A" "B" }\n{ 2 2 }\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('NFG 1 R "t" { "A" "B" "C" }\n{ 2 2 2 }\n', "two players, it has 3"),
        ('NFG 2 R "t" { "A" "B" }\n{ 2 2 }\n', "only NFG 1"),
        (TABLE + "1 -1 0 0 0 0 1", "ends before player 2's payoff"),
        (TABLE + "1 -1 0 0 0 0 1 -1 3", "line 3: expected the end of the file after 4 pairs"),
        (
            TABLE + "1 -1\n2 -1\n0 0 0 0",
            "line 4: the game must have a constant sum: A by '2' and B by '1' receive 1",
        ),
        (TABLE + '{ { "a" 1 -1 } }\n1 1 2 0', "there are 1 outcomes, got number 2"),
        (TABLE.replace("{ 2 2 }", '{ { "a" } }') + "0 0", "two players, got 1 lists"),
        (TABLE.replace("2 2", "2 0"), "at least one strategy"),
        (TABLE.replace("2 2", "999999999 1"), "ends before 999999999 times 1 pairs"),
        (TABLE.replace("2 2", "2 2 2"), "one per player"),
        (TABLE + "1 -x 0 0", "player 2's payoff, a number, got -x"),
    ],
)
def test_bad_tables_are_refused_with_file_and_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.nfg"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.nfg.*line \d") as caught:
        mg.load(str(path))
    assert words in str(caught.value)


def test_files_that_are_not_there_and_parameters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        mg.load(str(tmp_path / "none.efg"))
    with pytest.raises(ValueError, match="no parameters, got n"):
        mg.load(str(HERE / "poker.efg"), n=3)
    (tmp_path / "b.efg").write_bytes(b"\x00\x01")
    with pytest.raises(ValueError, match="no text"):
        mg.load(str(tmp_path / "b.efg"))


def test_a_branch_that_chance_never_takes_is_read_and_not_played(tmp_path: Path) -> None:
    path = tmp_path / "g.efg"
    never = 'p "" 1 2 "never" { "x" } 0\nt "" 2 "" { 9 -9 }\n'
    text = HEAD + 'c "" 1 "" { "no" 0 "yes" 1 } 0\n' + never + CHOICE[len(HEAD) :]
    path.write_text(text + 't "" 1 "" { 1 -1 }\nt "" 3 "" { 2 -2 }\n', encoding="utf-8")
    game = mg.load(str(path))
    assert isinstance(game, mg.SequenceFormGame)
    assert game.tree.labels == ("s",)
    assert np.array_equal(game.payoff, [1.0, 2.0])


def test_the_command_line_takes_files_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[..., int] = lambda *words: main([str(word) for word in words])  # noqa: E731
    assert run("solve", HERE / "share.efg", "--budget", 500) == 0
    out = capsys.readouterr().out
    assert "both players receive 10 together" in out
    assert "search" in out
    assert run("solve", HERE / "table.nfg", "--budget", 500) == 0
    assert "top" in capsys.readouterr().out
    assert run("export", HERE / "table.nfg", tmp_path / "t.efg") == 0
    assert "written to" in capsys.readouterr().out
    assert mg.exact.nash(mg.load(str(tmp_path / "t.efg"))).value == pytest.approx(1.0, abs=1e-14)
    assert run("export", "rps", tmp_path / "r.nfg") == 0
    assert run("export", HERE / "poker.efg", tmp_path / "p.nfg") == 2
    assert run("export", "rps", tmp_path / "r.txt") == 2
    assert run("solve", tmp_path / "none.nfg") == 2
    err = capsys.readouterr().err
    assert "a tree, which is written to a file .efg" in err
    assert "`FILE` must end in .efg or .nfg" in err
    assert "No such file" in err
