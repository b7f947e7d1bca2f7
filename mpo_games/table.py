"""Tables for people: strategies, summaries and records as rows with named columns."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from mpo_games.atomic import write_bytes
from mpo_games.written import counted

LISTED = 20
"""The most rows that a table prints."""

WIDEST = 60
"""The most characters of a cell that a table prints; the middle of a longer text is left out."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with named columns. It prints aligned and rounded, and a notebook shows it as a table.

    Iterating gives a mapping for each row; `table["probability"]` is one column, with all digits;
    `len(table)` counts the rows. Prints show at most 20 rows; `to_csv` and `to_pandas` have all.

    >>> print(Table(("action", "probability"), (("rock", 0.25), ("paper", 0.75))))
    action  probability
    rock           0.25
    paper          0.75
    """

    columns: tuple[str, ...]
    """The names of the columns."""
    rows: tuple[tuple[Any, ...], ...]
    """The cells of each row, not rounded."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """How numbers of a column are printed, as in f-strings; `.4g` where nothing is said."""
    notes: tuple[str, ...] = ()
    """Sentences that are printed below the table."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> tuple[Any, ...]:
        if column not in self.columns:
            raise KeyError(f"The table has no column {column!r}; it has {', '.join(self.columns)}.")
        return tuple(row[self.columns.index(column)] for row in self.rows)

    def __str__(self) -> str:
        cells = [self.columns, *self._printed()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        right = [self._is_number(c) for c in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, *self._rest()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        right = [self._is_number(c) for c in range(len(self.columns))]
        aligns = [' style="text-align: right"' if number else "" for number in right]

        def line(tag: str, row: Sequence[str]) -> str:
            cells = zip(aligns, row, strict=True)
            return "".join(f"<{tag}{align}>{escape(cell)}</{tag}>" for align, cell in cells)

        head = f"<thead><tr>{line('th', self.columns)}</tr></thead>"
        body = "".join(f"<tr>{line('td', row)}</tr>" for row in self._printed())
        rest = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._rest())
        return f"<table>{head}<tbody>{body}</tbody></table>{rest}"

    def to_pandas(self) -> Any:
        """The table as a `DataFrame`; `ImportError` if pandas is not installed."""
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError(
                "pandas is not installed: run `pip install pandas`, or write `table.to_csv(path)`."
            ) from error
        return pandas.DataFrame(list(self), columns=list(self.columns))

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows, with all digits, to a CSV file, whole or not at all; returns its path.

        `OSError` if the file cannot be written; an earlier file is then kept.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        target = Path(path).expanduser()
        write_bytes(target, text.getvalue().encode())
        return target

    def _is_number(self, column: int) -> bool:
        return bool(self.rows) and all(isinstance(row[column], float | int) for row in self.rows)

    def _printed(self) -> list[tuple[str, ...]]:
        """The cells of the rows that are printed, as text."""
        return [
            tuple(
                _text(cell, self.formats.get(c, ".4g"))
                for c, cell in zip(self.columns, row, strict=True)
            )
            for row in self.rows[:LISTED]
        ]

    def _rest(self) -> list[str]:
        """How many rows are not printed, if any, and the notes."""
        left = len(self.rows) - LISTED
        cut = [f"... and {counted(left, 'more row')}; to_csv(path) writes all"] if left > 0 else []
        return [*cut, *self.notes]


def _text(cell: object, form: str) -> str:
    if isinstance(cell, bool) or not isinstance(cell, float | int):
        text = " ".join(str(cell).split())
        half = (WIDEST - 3) // 2
        return text if len(text) <= WIDEST else f"{text[:half]}...{text[-half:]}"
    return format(cell, form) if isinstance(cell, float) else str(cell)
