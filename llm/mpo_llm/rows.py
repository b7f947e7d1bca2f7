"""Rows of files: JSON, JSON Lines, CSV, plain lines and Parquet, each also compressed by gzip.

A row is a mapping from column names to values. Each comes with the words that name it in an error
message. Text is UTF-8, or UTF-16 or UTF-32 with its mark at the beginning; a mark of UTF-8 is
skipped. Lines end at a line feed alone: other characters that Python takes for the end of a line,
such as U+2028 and U+0085, may stand within a text.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from mpo_games.text_file import marked

Row = Mapping[str, Any]
"""The values of a row, by the names of the columns."""

Rows = Iterator[tuple[str, Row]]
"""Rows with their names in messages, `Row 3 of 'prompts.csv'`."""

Found = Iterator[tuple[str, Any]]
"""What stands in the rows of a file, with their names. A text is a row without columns."""

LARGEST_CELL = 2**31 - 1
"""Characters of the largest cell of a CSV file; Python's own limit is 131072."""


def ending(source: str) -> str:
    """The ending that tells a file's format, in lower case, without `.gz`."""
    return PurePath(source.lower().removesuffix(".gz")).suffix


def read(path: Path, column: str) -> Rows:
    """The rows of a file; `column` names the texts of a file that has no names of columns.

    `ValueError`, in a sentence, for a file that cannot be read and for a row that is no row.
    """
    said = repr(str(path))
    if path.is_dir():
        raise ValueError(f"{said} is a folder, not a file.")
    if not path.is_file():
        raise ValueError(f"There is no file {said}.")
    for where, found in FORMATS[ending(path.name)](path):
        if isinstance(found, str):
            found = {column: found}
        if not isinstance(found, dict):
            raise ValueError(f"{where} must be an object, got {short(found)}.")
        yield where, found


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that is written line by line, without a last one that is not complete."""
    # Bytes, because texts would be split at U+2028 and its like as well.
    return path.read_bytes().split(b"\n")[:-1]


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """A file's bytes, decompressed if they are compressed."""
    said = repr(str(path))
    try:
        with path.open("rb") as file:
            # Its first bytes tell, whatever the file is called.
            if file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.open(file) as inner:
                    yield io.BufferedReader(cast(Any, inner))
            else:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{said} cannot be decompressed: {error}.") from error
    except OSError as error:
        raise ValueError(f"Cannot read {said}: {error.strerror or error}.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbers, from 1, and the texts of a file's lines, each with its line feed."""
    said, number = repr(str(path)), 0
    with _opened(path) as file:
        encoding = marked(file.peek(4)[:4])
        if encoding in ("utf-16", "utf-32"):
            # Reading stops at the first character that is wrong, within a block of many lines.
            with io.TextIOWrapper(cast(BinaryIO, file), encoding, newline="\n") as text:
                try:
                    for number, line in enumerate(text, 1):
                        yield number, line
                except UnicodeError as error:
                    raise ValueError(
                        f"{said} is not {encoding.upper()} after line {number}: {error}."
                    ) from error
            return
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"Line {number} of {said} is not UTF-8: there is the byte "
                    f"0x{raw[error.start]:02x} at place {error.start + 1}. Save the file as UTF-8."
                ) from error
            if "\0" in line:
                raise ValueError(
                    f"Line {number} of {said} holds a zero byte, so the file is not UTF-8, or no "
                    "text. Save it as UTF-8."
                )
            yield number, line


def _json_lines(path: Path) -> Found:
    for number, line in _lines(path):
        # A blank line is no row, but it counts, so that an editor shows the same number.
        if line.strip():
            where = f"Row {number} of {str(path)!r}"
            yield where, _parsed(where, line)


def _json(path: Path) -> Found:
    whole = "".join(line for _, line in _lines(path))
    # Files of JSON Lines are called .json as well.
    if not whole.lstrip().startswith("["):
        yield from _json_lines(path)
        return
    for number, found in enumerate(_parsed(repr(str(path)), whole), 1):
        yield f"Row {number} of {str(path)!r}", found


def _plain(path: Path) -> Found:
    for number, line in _lines(path):
        if line.strip():
            yield f"Row {number} of {str(path)!r}", line.rstrip("\r\n")


def _csv(path: Path) -> Found:
    said, number = repr(str(path)), 0
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        lines = (line for _, line in _lines(path))
        first = next(lines, "")
        # Spreadsheets write semicolons where a comma is the decimal mark.
        separator = max(",;\t", key=first.count)
        rows = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        head = next(rows, [])
        twice = next((name for name in head if head.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{said} has two columns {twice!r}.")
        # An empty list is a blank line.
        for number, cells in enumerate(filter(None, rows), 1):
            where = f"Row {number} of {said}"
            if len(cells) > len(head):
                raise ValueError(
                    f"{where} has {len(cells)} cells, but the first line names {len(head)} columns."
                )
            yield where, dict.fromkeys(head) | dict(zip(head, cells, strict=False))
    except csv.Error as error:
        raise ValueError(f"Row {number + 1} of {said} is not CSV: {error}.") from error
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path) -> Found:
    import pyarrow
    from pyarrow import parquet

    said = repr(str(path))
    with _opened(path) as file:
        source = io.BytesIO(file.read()) if isinstance(file.raw, gzip.GzipFile) else path
    try:
        with parquet.ParquetFile(source) as table:
            numbers = iter(range(1, table.metadata.num_rows + 1))
            # Rows of long conversations take memory, and most runs read only the first ones.
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield f"Row {next(numbers)} of {said}", row
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{said} is not a Parquet file: {reason}.") from error


FORMATS: Mapping[str, Callable[[Path], Found]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _plain,
    ".parquet": _parquet,
}
"""The formats by the endings of files."""


def _parsed(where: str, text: str) -> Any:
    """A value from JSON text."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"there are two values of {twice!r}.")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(
            f"{where} is not JSON: {error.msg} at {line}column {error.colno}. A file holds an "
            "object a line, or, as .json, a list of objects."
        ) from error
    except RecursionError as error:
        raise ValueError(f"{where} is JSON that is nested too deeply.") from error
    # Python refuses very long integers so.
    except ValueError as error:
        raise ValueError(f"{where} cannot be read as JSON: {error}") from error


def short(value: Any) -> str:
    """The beginning of a value's spelling."""
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:80]} ..."
