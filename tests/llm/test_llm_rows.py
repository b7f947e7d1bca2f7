"""Files of rows: formats, encodings and sizes, and what each says where it cannot be read."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

import tiny
from mpo_llm.config import PromptsConfig
from mpo_llm.judges.command import fit_preferences
from mpo_llm.judges.fit import Fit
from mpo_llm.prompts import Prompts, Room, load, records

TEXTS = ("a é\u2028b", "c, d; e")


def read(source: Path, room: Room | None = None, **settings: Any) -> Prompts:
    return load(PromptsConfig(str(source), **settings), tiny.tokenizer(), room)


def said_by(source: Path, **settings: Any) -> str:
    """The one sentence with which a source is refused."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(source, **settings)
    assert str(source) in str(error.value)
    assert "Traceback" not in str(error.value)
    return str(error.value)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


FORMATS: dict[str, Callable[[], str]] = {
    ".jsonl": lambda: "".join(json.dumps({"prompt": t}, ensure_ascii=False) + "\n" for t in TEXTS),
    ".ndjson": lambda: "\n".join(json.dumps({"prompt": t}) for t in TEXTS) + "\n\n",
    ".json": lambda: json.dumps([{"prompt": t} for t in TEXTS], indent=1, ensure_ascii=False),
    ".JSON": lambda: json.dumps(list(TEXTS)),
    "-lines.json": lambda: "".join(json.dumps({"prompt": t}) + "\r\n" for t in TEXTS),
    ".csv": lambda: "id,prompt\n" + "".join(f"1,{quoted(t)}\n" for t in TEXTS),
    "-semicolons.CSV": lambda: "id;prompt\r\n" + "".join(f"1;{quoted(t)}\r\n" for t in TEXTS),
    ".tsv": lambda: "id\tprompt\n\n" + "".join(f"1\t{t}\n" for t in TEXTS),
    ".txt": lambda: "\n".join(TEXTS) + "\n \n",
    ".TXT": lambda: "\r\n".join(TEXTS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_in_every_encoding(
    ending: str, encoding: str, packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"x{ending}{'.gz' if packed else ''}"
    content = FORMATS[ending]().encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read(path).texts == TEXTS


@pytest.mark.parametrize("packed", [False, True])
def test_parquet(packed: bool, tmp_path: Path) -> None:
    plain = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": t} for t in TEXTS]), plain)
    path = tmp_path / "y.PARQUET.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(path if packed else plain).texts == TEXTS


def test_the_ending_need_not_say_that_a_file_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(gzip.compress(FORMATS[".jsonl"]().encode()))
    assert read(path).texts == TEXTS
    other = tmp_path / "x.jsonl.gz"
    other.write_text(FORMATS[".jsonl"](), encoding="utf-8")
    assert read(other).texts == TEXTS


def test_cells_of_any_size(tmp_path: Path) -> None:
    """Python's own reader stops at 131072 characters; its limit is as before afterwards."""
    path = tmp_path / "x.csv"
    text = "a " * 200_000
    path.write_text(f"prompt\n{text}\n")
    before = csv.field_size_limit()
    (row,) = records(PromptsConfig(str(path)))
    assert row["prompt"] == text
    assert csv.field_size_limit() == before


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "Latin-1 in JSON": (".jsonl", b'{"prompt": "a"}\n{"prompt": "\xe9"}\n', "Line 2 of"),
    "Latin-1 in CSV": (".csv", b"prompt\na\n\xe9t\xe9\n", "Line 3 of"),
    "Latin-1 in text": (".txt", b"a\n\xe9\n", "byte 0xe9 at place 1. Save the file as UTF-8"),
    "UTF-16 without a mark": (".txt", "a b".encode("utf-16-le"), "holds a zero byte"),
    "half a UTF-16": (".txt", "a b\nc".encode("utf-16")[:-1], "is not UTF-16 after line 1"),
    "a broken archive": (".txt", gzip.compress(b"a\n" * 999)[:-9], "cannot be decompressed"),
    "no archive": (".txt", b"\x1f\x8b nothing", "cannot be decompressed"),
    "an open quote": (".csv", b'prompt\na\n"b\nc\n', "Row 2 of"),
    "text after a quote": (".csv", b'prompt\n"a"b\n', "is not CSV"),
    "too many cells": (".csv", b"id,prompt\n1,a\n1,a,b\n", "Row 2 of"),
    "too few cells": (".csv", b"id,prompt\n1\n", "got None"),
    "an empty cell": (".csv", b"id,prompt\n1,\n", "Row 1 of"),
    "a column twice": (".csv", b"prompt,prompt\na,b\n", "has two columns 'prompt'"),
    "another column": (".csv", b"id,question\n1,a\n", "has no column 'prompt'"),
    "a key twice": (".jsonl", b'{"prompt": "a", "prompt": "b"}', "two values of 'prompt'"),
    "JSON of one value": (".json", b'{"prompt":\n "a"}', "or, as .json, a list of objects"),
    "a list of lists": (".json", b'[{"prompt": "a"}, ["b"]]', "Row 2 of"),
    "an unfinished list": (".json", b'[\n{"prompt": "a"},\n', "line 3, column 1"),
    "deep JSON": (".jsonl", b"[" * 100_000, "is JSON that is nested too deeply"),
    "a long number": (".jsonl", b'{"prompt": ' + b"1" * 5000 + b"}", "cannot be read as JSON"),
    "a number": (".jsonl", b'{"prompt": NaN}', "got nan"),
    "a long list": (".jsonl", b'{"prompt": [' + b"1, " * 99999 + b"1]}", "content`, got 1."),
    "half a pair": (".jsonl", b'{"prompt": "a"}\n{"prompt": "\\ud800"}', "Row 2 of"),
    "half a pair in a role": (
        ".jsonl",
        b'{"prompt": [{"role": "\\udfff", "content": "a"}]}',
        "half of a surrogate pair",
    ),
    "a tool call": (
        ".jsonl",
        b'{"prompt": [{"role": "user", "content": "a", "tool_calls": [{}]}]}',
        "has `tool_calls`, which is not passed to the model",
    ),
    "parts": (
        ".jsonl",
        b'{"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}',
        "needs the texts `role` and `content`",
    ),
    "nothing": (".csv", b"", "holds no prompts"),
    "a header alone": (".csv", b"prompt\n", "holds no prompts"),
    "nothing compressed": (".txt", gzip.compress(b""), "holds no prompts"),
    "another format": (".xlsx", b"PK", "has the ending '.xlsx', but prompts are read from .jsonl"),
    "no format": ("", b"a\n", "has the ending ''"),
    "no Parquet": (".parquet.gz", gzip.compress(b"PAR1"), "is not a Parquet file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_read_is_refused_with_its_row(case: str, tmp_path: Path) -> None:
    ending, content, said = BROKEN[case]
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    found = said_by(path)
    assert said in found
    assert len(found) < 400 + len(str(path))


def test_places_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    assert "is a folder" in said_by(tmp_path / "x.jsonl")
    assert "There is no file" in said_by(tmp_path / "y.txt.gz")


def test_values_that_are_missing_in_parquet(tmp_path: Path) -> None:
    for values, said in (([1.5, float("nan")], "got 1.5"), (["a", None], "Row 2 of")):
        path = tmp_path / "x.parquet"
        parquet.write_table(pyarrow.table({"prompt": values}), path)
        assert said in said_by(path)


# ------------------------------------------------------------------------ templates and the model


def templated(template: str | None, path: Path, **settings: Any) -> Prompts:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    return load(PromptsConfig(str(path), **settings), tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.content }}", "chat template fails in its line 1"),
        ("{{ raise_exception('System role not supported') }}", "fails: System role not supported"),
        ("{{ messages[0].content }}{{ persona.name }}", "'persona' is undefined"),
        ("{{ messages[0].content + 1 }}", "chat template fails"),
        ("{{ messages[0].content }}{{ 1 / 0 }}", "chat template fails: division by zero"),
        ("{{ messages[-1].content }}", "leaves out the message of the role 'system', 'e'"),
        ("{{ messages[0].content }}", "leaves out the message of the role 'user', 'b c'"),
        ("{% for m in messages %}{{ m.text }}{% endfor %}", "leaves out the message"),
    ],
)
def test_a_template_that_does_not_suit_names_the_row(
    template: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("\nb c\n")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        templated(template, path, system="e")
    assert said in str(error.value)
    assert str(error.value).startswith(f"Row 2 of {str(path)!r} cannot be a prompt: ")
    assert "`prompts.chat: false`" in str(error.value)
    assert len(templated(template, path, system="e", chat=False)) == 1


def test_every_row_has_room_for_its_response(tmp_path: Path) -> None:
    """`<user>`, the words and `<bot>`, and then the response."""
    path = tmp_path / "x.txt"
    path.write_text("a b\na b c d\n")
    assert len(read(path, Room(11, 5, 16))) == 2
    with pytest.raises(ValueError, match=r"6 tokens and its response up to 6, .* context is 11"):
        read(path, Room(11, 6, 16))
    with pytest.raises(ValueError, match=r"^Row 1 of .* 4 tokens and its response up to 6"):
        read(path, Room(9, 6, 16))
    with pytest.raises(ValueError, match=r"^Row 2 of .* '<bot>', whose id 3 is|'d', whose id 7 is"):
        read(path, Room(None, 6, 7))
    with pytest.raises(ValueError, match="makes no token of it"):
        Room(9, 1, 9).require((), None)


# --------------------------------------------------------------------------------- other commands


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"prompt,chosen\na,b\n", "Row 1 has the columns prompt, chosen: needed are prompt"),
        (b"prompt,chosen,rejected\na,b\n", "Row 1: `rejected` must be a text or a conversation"),
        (b"prompt,chosen,rejected\na,\xe9,b\n", "Line 2 of"),
        (b"prompt,chosen,rejected\n", "There are no comparisons"),
    ],
)
def test_comparisons_are_read_in_the_same_way(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit_preferences(str(path), tmp_path / "out", Fit())
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_comparisons_of_half_a_character_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"Row 1: `rejected` holds half of a surrogate pair"):
        fit_preferences(str(path), tmp_path / "out", Fit())
    with pytest.raises(ValueError, match=r"`seed` must be a whole number, at least 0, got -1"):
        fit_preferences(str(path), tmp_path / "out", Fit(), seed=-1)
