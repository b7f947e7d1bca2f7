"""The command line: battles, wins and preferences are ranked; what is doubtful is refused."""

from pathlib import Path

import pytest
from command_line import Run, refused

BATTLES = "model_a,model_b,winner\n" + "x,y,model_a\n" * 7 + "y,x,y\n" * 3 + "x,z,tie\n" * 4
QUICK = ("--resamples", 5)


def same(out: str) -> list[str]:
    """The lines about the models."""
    return out.split("\n\n")[1].splitlines()


@pytest.mark.parametrize(
    "content",
    [
        BATTLES.encode(),
        BATTLES.encode("utf-8-sig"),
        BATTLES.replace(",", ";").replace("\n", "\r\n").encode(),
        BATTLES.replace(",", "\t").encode("utf-16"),
        BATTLES.replace("model_a,model_b,winner", "Model A,Model B,Winner").encode(),
        BATTLES.replace("model_a,model_b,winner", "left,right,better one").encode(),
        BATTLES.split("\n", 1)[1].encode(),
        b"id," + BATTLES.replace("\n", "\n5,").encode().removesuffix(b"5,"),
        BATTLES.replace("winner", "winner_model_a,winner_model_b,winner_tie")
        .replace(",model_a\n", ",1,0,0\n")
        .replace("y,x,y\n", "y,x,1,0,0\n")
        .replace(",tie\n", ",0,0,1\n")
        .encode(),
    ],
)
def test_every_way_to_write_battles_is_read(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.csv"
    path.write_bytes(content)
    code, out, err = run("rank", path, *QUICK)
    assert (code, err) == (0, "")
    assert f"{path}: 14 battles of 3 models, 4 of them ties" in out
    rows = {line.split()[1]: line.split() for line in same(out)[1:]}
    assert set(rows) == {"x", "y", "z"}
    assert [row[-1] for _, row in sorted(rows.items())] == ["14", "10", "4"]
    assert "y and z" in out
    assert "Fewer than 8 battles" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x,y,z\n0,7,2\n3,0,9\n8,1,0\n", "30 battles of 3 models"),
        (";x;y;z\nx;;7;2,5\ny;3;;9\nz;7,5;1;-\n", "30 battles of 3 models, 1 of them ties"),
        ("x,y,z\n.5,.7,.2\n30%,.5,9/10\n.8,.1,.5\n", "preferences between 3 models"),
        ("x,y,z\n50,70,20\n30,50,90\n80,10,50\n", "preferences between 3 models"),
        (",z,y,x\nx,.25,.7,\ny,.9,,.3\nz,,.1,.75\n", "preferences between 3 models"),
    ],
)
def test_wins_and_preferences_are_ranked(run: Run, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    code, out, _ = run("rank", path, *QUICK)
    assert code == 0
    assert said in out
    assert {line.split()[1] for line in same(out)[1:]} == {"x", "y", "z"}
    assert ("no intervals" in out) == ("preferences" in said)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model_a,model_b,winner\nx,y,x\nx,y,z\n", ["line 3, cell 3", "'z'"]),
        ("model_a,model_b,winner\nx,y,x\nx,y,\n", ["line 3, cell 3", "missing"]),
        ("winner,model_a,model_b\nx,y,x\ntie,,y\n", ["line 3, cell 2", "no name"]),
        ("model_a,model_b,winner\nx,y,x\nx,y\n", ["line 3: 2 cells"]),
        ("model_a,model_b,winner\n", ["at least two models"]),
        ("model_a,model_b,winner\nx,x,tie\n", ["at least two models"]),
        ("x,y,x\nx,y,q\n", ["line 2, cell 3", "'q'"]),
        ("llm1,llm2,outcome\nx,y,1\n", ["line 2, cell 3", "looks like battles", "'1'"]),
        ("id,llm1,llm2,outcome\n1,x,y,x\n", ["battles need the columns", "id, llm1, llm2"]),
        ("llm1,llm2,loser\nx,y,x\n", ["llm1, llm2, loser do not say", "model_a, model_b"]),
        ("result,llm1,llm2\nx,y,x\n", ["result, llm1, llm2 do not say"]),
        ("model_b,model_a,outcome\nx,y,x\n", ["model_b, model_a, outcome do not say"]),
        ("llm 2,llm 1,outcome\nx,y,a\n", ["llm 2, llm 1, outcome do not say"]),
        ("x,y\n0,-3\n2,0\n", ["line 2, cell 2", "negative"]),
        ("x,y\n.5,.7\n,.5\n", ["line 3, cell 1", "empty"]),
        ("x,y,z\n1,2,3\n", ["model_a, model_b and winner", "1 x 3"]),
        ("x,y\n.5,.7\n.31,.5\n", ["line 2, cell 2", "line 3, cell 1", "add up to 1.01"]),
        ("x,y\n0,0\n0,0\n", ["at least one win"]),
    ],
)
def test_what_cannot_be_ranked_is_refused_at_its_place(
    run: Run, tmp_path: Path, content: str, words: list[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    refused(run("rank", path, *QUICK), *words)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("llm1,llm2,outcome\n", "llm1 as model_a, llm2 as model_b, outcome as winner"),
        ("llm2,llm1,winner\n", "llm2 as model_a, llm1 as model_b, winner as winner"),
        ("", "by place: model_a, model_b, winner."),
        ("model_a,model_b,winner\n", None),
    ],
)
def test_columns_that_are_read_by_place_are_said(
    run: Run, tmp_path: Path, head: str, said: str | None
) -> None:
    path = tmp_path / "b.csv"
    path.write_text(head + "x,y,x\n")
    code, out, _ = run("rank", path, *QUICK)
    assert code == 0
    assert f"{path}: 1 battle of 2 models, 0 of them ties\n" in out
    assert ("by place" in out) is (said is not None)
    assert said is None or said in out


def test_kinds_that_are_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n.5,.7\n.31,.5\n")
    code, out, _ = run("rank", path, "--kind", "wins")
    assert code == 0
    assert "1.01 battles" in out
    refused(run("rank", path, "--kind", "battles"), "line 1", "model_a, model_b, winner")
    # Models that are called by numbers are models if the user says so.
    path.write_text("7,8,7\n8,7,7\n7,9,tie\n")
    code, out, _ = run("rank", path, "--kind", "battles", *QUICK)
    assert code == 0
    assert "3 battles of 3 models" in out
    refused(run("rank", tmp_path / "none.csv"), "No such file")
    refused(run("rank", "comal"), ".csv")


def test_the_files_of_a_ranking(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text(BATTLES)
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        picture = tmp_path / f"p{suffix}"
        code, out, _ = run("rank", path, *QUICK, "--plot", picture)
        assert code == 0
        assert str(picture) in out
        assert picture.read_bytes().startswith(begin)
    table = tmp_path / "t.csv"
    assert run("rank", path, *QUICK, "--table", table)[0] == 0
    lines = table.read_text().splitlines()
    assert lines[0].startswith("rank,model,equilibrium,equilibrium_low")
    assert len(lines) == 4
    refused(run("rank", path, "--plot", tmp_path / "p.gif"), "--plot")
    refused(run("rank", path, "--table", tmp_path / "t.txt"), "--table")
    refused(run("rank", path, "--level", 2), "`level`")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("0,7,2\n3,0,9\n8,1,0\n", ["numbers of wins"]),
        ("x,y,z\nx,1,7,2\ny,3,1,9\nz,8,1,1\n", ["numbers of wins"]),
        ("x,y,z\n1,7,2\n3,1,9\n8,1,1\n", None),
        (",x,y\nx,0,2.5\ny,1.5,0\n", ["numbers of wins"]),
        (".5,.7,.2\n.31,.5,.9\n.8,.1,.5\n", ["preferences", "line 1, cell 2", "1.01"]),
        (".5,.7\n.1,.5\n", ["preferences", "0.8"]),
        ("0,.7\n.3,0\n", ["preferences"]),
        ("50,70\n30,50\n", ["preferences in per cent"]),
        ("1,0\n0,1\n", None),
        ("0,1\n1,0\n", None),
        ("3,-1,0\n-1,1,0\n0,2,2\n", None),
        ("0,2,-1\n-2,0,1\n1,-1,0\n", None),
        (".2,.4\n.6,.9\n", None),
        ("0,7,2\n3,0,9\n", None),
    ],
)
def test_solve_reads_as_payoffs_only_what_looks_like_it(
    run: Run, tmp_path: Path, content: str, words: list[str] | None
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    found = run("solve", path, "--budget", 20)
    if words is None:
        assert found[0] == 0
        assert "payoffs" in found[1]
        return
    refused(found, "could be payoffs", "--kind payoff", *words)
    for kind in ("payoff", "matrix"):
        code, out, _ = run("solve", path, "--budget", 20, "--kind", kind)
        assert code == 0
        assert "payoffs" in out
    assert "numbers of wins" in run("solve", path, "--budget", 20, "--kind", "wins")[1]


def test_preferences_in_per_cent_are_read_if_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("50,10,80\n90,50,10\n20,90,50\n")
    code, out, _ = run("solve", path, "--kind", "preference", "--budget", 2000)
    assert code == 0
    assert "0.363636" in out
