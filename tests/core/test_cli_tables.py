"""The command line: tables as spreadsheets and programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run, refused

import mpo_games as mg
from mpo_games.cli import inputs
from mpo_games.cli.csv_table import read_csv

WANTED = np.array([[0.5, 0.1, 1 / 3], [0.9, 0.5, 0.25], [2 / 3, 0.75, 0.5]])
NAMES = ("kind", "short", "exact")

PLAIN = "0.5,10%,1/3\n.9,5e-1,0.25\n2/3,75 %,0.5\n"
HEADED = "kind,short,exact\n" + PLAIN
BOTH = "winner,kind,short,exact\nkind,0.5,0.1,1/3\nshort,0.9,0.5,0.25\nexact,2/3,0.75,0.5\n"
GERMAN = "kind;short;exact\n0,5;0,1;1/3\n0,9;0,5;0,25\n2/3;75%;0,5\n"


@pytest.mark.parametrize(
    ("content", "rows", "columns"),
    [
        (PLAIN.encode(), None, None),
        (PLAIN.encode("utf-8-sig"), None, None),
        (PLAIN.encode("utf-16"), None, None),
        (PLAIN.encode("utf-32"), None, None),
        (PLAIN.replace("\n", "\r\n").encode(), None, None),
        (PLAIN.replace("\n", "\r").encode(), None, None),
        (PLAIN.replace("\n", ",\n").encode() + b"\n ,,\n\n,,,\n", None, None),
        (b'# a comment, "and a quote\n' + PLAIN.encode() + b"  # the end\n", None, None),
        (PLAIN.replace(",", "\t").encode(), None, None),
        (PLAIN.replace("75 %", "75%").replace(",", "   ").encode(), None, None),
        (b"sep=;\r\n" + PLAIN.replace(",", ";").encode(), None, None),
        (HEADED.encode(), None, NAMES),
        (HEADED.replace("kind", '"kind"').encode(), None, NAMES),
        (BOTH.encode(), NAMES, NAMES),
        (BOTH.replace("winner", "").encode(), NAMES, NAMES),
        (BOTH.replace("winner,", "").encode(), NAMES, NAMES),
        (BOTH.split("\n", 1)[1].encode(), NAMES, None),
        (GERMAN.encode(), None, NAMES),
        (GERMAN.replace(";", "\t").encode(), None, NAMES),
        (b",0,1,2\n0,0.5,0.1,1/3\n1,0.9,0.5,0.25\n2,2/3,0.75,0.5\n", None, None),
        (b'"","1","2","3"\n"1",0.5,0.1,1/3\n"2",0.9,0.5,0.25\n"3",2/3,0.75,0.5\n', None, None),
        ("größe,b,c\n".encode("cp1252") + PLAIN.encode(), None, ("größe", "b", "c")),
        (b'"a\nb","c,d",e\n' + PLAIN.encode(), None, ("a\nb", "c,d", "e")),
    ],
)
def test_every_way_to_write_a_table_is_read(
    tmp_path: Path, content: bytes, rows: tuple[str, ...] | None, columns: tuple[str, ...] | None
) -> None:
    for name in ("p.csv", "P.CSV"):
        path = tmp_path / name
        path.write_bytes(content)
        table = read_csv(path)
        assert np.allclose(table.values, WANTED, rtol=0, atol=1e-15)
        assert (table.rows, table.columns) == (rows, columns)
        description, game = inputs.load(str(path), "auto")
        assert "3 x 3 preferences" in description
        assert isinstance(game, mg.PreferenceGame)
        assert game.responses == (rows or columns or ())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"\n , \n# only\n", ["empty"]),
        (b"a,b\n", ["names of columns"]),
        (b"1,2\n3\n", ["line 2", "1 cells", "2 in line 1"]),
        (b"1,2\n\n3,x\n", ["line 3, cell 2", "'x'"]),
        (b"a,b\n1,2\n3,\n", ["line 3, cell 2", "empty"]),
        (b"0.5,0.5,a\n1,2,3\n", ["line 1, cell 3", "'a'"]),
        (b",0.5\n0.5,0.25\n", ["line 1, cell 1", "empty"]),
        (b"1,nan\n2,3\n", ["line 1, cell 2", "'nan'"]),
        (b"a,n/a\n2,3\n", ["line 1, cell 1"]),
        (b"1,-\n2,3\n", ["line 1, cell 2", "'-'"]),
        (b"1,1e999\n2,3\n", ["line 1, cell 2", "too large"]),
        (b"1,1/0\n2,3\n", ["line 1, cell 2", "divides by 0"]),
        (b"1,1_000\n2,3\n", ["line 1, cell 2", "1_000"]),
        (b"1,1+2j\n2,3\n", ["line 1, cell 2"]),
        (b"1,12:30\n2,2026-01-01\n", ["line 1, cell 2"]),
        (b'"0,5","0,5"\n"0,5","0,5"\n', ["line 1, cell 1", "decimal point"]),
        (b"0,5;0.5\n0,5;0,5\n", ["line 1, cell 1", "decimal comma"]),
        (b"1,234\t0\n0\t5\n", ["line 1, cell 1", "thousands"]),
        (b"1.234,5;0\n0;5\n", ["line 1, cell 1"]),
        (b"a,b,a\n1,2,3\n", ["'a'", "two"]),
        (b"0,1\n0.5,0.25\n0.75,0.5\n", ["first row counts 0, 1"]),
        (b"0,0.5,0.25\n1,0.75,0.5\n", ["first column counts 0, 1"]),
        (b'1,"2\n3,4\n', ["quotes"]),
        (b"\x00\x01\x02\x03", ["no text"]),
        (b"\xff\xfe\x00", ["no text"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line_and_cell(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        inputs.load(str(path), "auto")
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")


def test_columns_in_another_order_than_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("x,b,a\na,0.2,0.5\nb,0.5,0.8\n", encoding="utf-8")
    _, game = inputs.load(str(path), "auto")
    assert isinstance(game, mg.PreferenceGame)
    assert np.allclose(game.preferences[0], [[0.5, 0.2], [0.8, 0.5]], rtol=0, atol=1e-15)
    assert game.responses == ("a", "b")
    path.write_text("x,b,a\na,3,0\nb,0,1\n", encoding="utf-8")
    _, wins = inputs.load(str(path), "wins")
    assert isinstance(wins, mg.PreferenceGame)
    assert np.array_equal(wins.preferences[0], [[0.5, 0.75], [0.25, 0.5]])
    with pytest.raises(ValueError, match="looks like numbers of wins"):
        inputs.load(str(path), "auto")
    _, payoffs = inputs.load(str(path), "payoff")
    assert isinstance(payoffs, mg.MatrixGame)
    assert payoffs.actions == (("a", "b"), ("b", "a"))
    assert payoffs.payoff.tolist() == [[3, 0], [0, 1]]
    path.write_text("x,b,c\na,0.2,0.5\nb,0.5,0.8\n", encoding="utf-8")
    with pytest.raises(ValueError, match="names of the columns"):
        inputs.load(str(path), "preference")


def test_arrays_of_numpy(tmp_path: Path) -> None:
    for dtype in (np.float32, np.float64, np.float16):
        path = tmp_path / "P.NPY"
        with path.open("wb") as file:
            np.save(file, WANTED.astype(dtype))
        description, game = inputs.load(str(path), "auto")
        assert "preferences" in description
        assert isinstance(game, mg.PreferenceGame)
    refusals = {
        "vector": (np.zeros(3), "(3,)"),
        "empty": (np.zeros((0, 3)), "(0, 3)"),
        "deep": (np.zeros((2, 3, 4)), "(2, 3, 4)"),
        "complex": (np.eye(2) * 1j, "complex128"),
        "words": (np.array([["a"]]), "real numbers"),
        "nan": (np.array([[np.nan, 1.0]]), "finite"),
    }
    for name, (array, word) in refusals.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        with pytest.raises(ValueError, match=f"{name}.npy") as caught:
            inputs.load(str(path), "auto")
        assert word in str(caught.value)
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", a=np.eye(2))
    (tmp_path / "archive.npz").rename(tmp_path / "renamed.npy")
    np.savez(tmp_path / "archive.npz", a=np.eye(2))
    for name, word in (("objects.npy", "pickled"), ("renamed.npy", "archive")):
        with pytest.raises(ValueError, match=word):
            inputs.load(str(tmp_path / name), "auto")
    with pytest.raises(ValueError, match=r"a file that ends in \.csv"):
        inputs.load(str(tmp_path / "archive.npz"), "auto")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("#N/A,1\n2,3\n", ("line 1, cell 1", "#N/A")),
        ("1,2\n#DIV/0!,3\n", ("line 2, cell 1", "#DIV/0!")),
        ("#REF!,#NAME?\n1,2\n", ("line 1, cell 1",)),
        ("null,NULL\n1,2\n", ("line 1, cell 1",)),
        ("5%%,1\n2,3\n", ("line 1, cell 1", "5%%")),
        ("1/" + "9" * 5000 + ",1\n2,3\n", ("line 1, cell 1", "too long")),
        ("1," + "9" * 200_000 + "\n2,3\n", ("line 1", "too long")),
    ],
)
def test_a_missing_number_is_neither_a_comment_nor_a_name(
    run: Run, tmp_path: Path, content: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    refused(run("solve", path, "mpo"), *words)
