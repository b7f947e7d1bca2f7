"""Tables of numbers as spreadsheets and programs write them."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np

from mpo_games.protocol import Array
from mpo_games.text_file import read_text

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
LONGEST = 4000
"""Characters of a number. Python reads no whole numbers of more than 4300 digits."""
COMMENT = re.compile(r"\s*#(?!N/A\b|[\w/]+[!?])")
"""How a comment begins; `#N/A` and `#DIV/0!` are errors of a spreadsheet."""
MISSING = re.compile(r"|nan|n/?a|null|-+|\N{EN DASH}|\N{EM DASH}|\?", re.IGNORECASE)
"""What stands for a number that is not known."""
Cells = list[tuple[int, list[str]]]
"""Rows of cells, each with the number of its line."""


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers, `(n, m)`, and the names of the rows and of the columns, if there are any."""

    values: Array
    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    lines: tuple[int, ...] = ()
    """The lines of the file in which the rows stand; nothing for a table from another file."""
    cell: int = 1
    """The number of the cell in which a row's first number stands."""

    def place(self, i: int, j: int) -> str:
        """Where the number of row `i` and column `j` stands, for a sentence."""
        if not self.lines:
            return f"row {i}, column {j}"
        return f"line {self.lines[i]}, cell {self.cell + j}"


def read_csv(path: Path, missing: bool = False) -> Table:
    """The table in a file of cells between commas, semicolons, tabs or blanks.

    Names may stand in the first row and in the first column. A number is `0.5`, `1/3`, `33%`, or
    `0,5` between semicolons or tabs. Lines that begin with `#` are comments. With `missing`, a cell
    that is empty, `-`, `nan` or `n/a` is NaN. `ValueError`, with the file, the line and the cell,
    for anything else.
    """
    return _Reader(path, missing).table()


def read_cells(path: Path) -> Cells:
    """The cells of such a file as texts, without empty rows."""
    return _Reader(path, False).cells()[1]


def refuse(path: Path, line: int, cell: int | None, reason: str) -> NoReturn:
    """`ValueError` about the `cell`, counted from 0, of a line of a file."""
    place = f"line {line}" if cell is None else f"line {line}, cell {cell + 1}"
    raise ValueError(f"{str(path)!r}, {place}: {reason}")


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    missing: bool

    def table(self) -> Table:
        separator, cells = self.cells()
        columns, rows, first = None, None, 0
        # The corner of a table with names on both sides may be left out or empty.
        head = cells[0][1]
        shorter = len(cells) > 1 and len(head) == len(cells[1][1]) - 1
        if shorter and all(is_name(cell) for cell in head):
            cells[0] = (cells[0][0], head := ["", *head])
        self.require_equal(cells)
        down = [row[0] for _, row in cells[1:]]
        # An empty corner means names on both sides. Else it is a number that is missing.
        corner = not head[0] and _are_names(head[1:]) and _are_names(down)
        # A corner that is a number would be a value in a row of names.
        if corner or all(is_name(cell) for cell in head):
            columns, cells = head, cells[1:]
            if not cells:
                self.fail(1, None, "there are names of columns, and no numbers.")
        if corner or (len(head) > 1 and all(is_name(row[0]) for _, row in cells)):
            rows, first = [row[0] for _, row in cells], 1
            columns = None if columns is None else columns[1:]
        comma = self.decimal_comma(separator, cells, first)
        values = np.array(
            [
                [self.number(line, i, row[i], comma) for i in range(first, len(row))]
                for line, row in cells
            ]
        )
        for names in (rows, columns):
            if names is not None and len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                self.fail(cells[0][0], None, f"the name {twice!r} stands at two rows or columns.")
        self.require_no_counting(values, rows, columns, cells[0][0])
        told = [None if not names or _counts(names) else tuple(names) for names in (rows, columns)]
        return Table(values, told[0], told[1], tuple(line for line, _ in cells), first + 1)

    def fail(self, line: int, cell: int | None, reason: str) -> NoReturn:
        refuse(self.path, line, cell, reason)

    def cells(self) -> tuple[str, Cells]:
        """The separator, and the rows that hold anything, without what pads them."""
        lines = read_text(self.path).split("\n")
        # Comments become empty lines, so that the numbers of lines stay.
        # The errors of a spreadsheet begin like comments: they are cells without a number.
        lines = ["" if COMMENT.match(line) else line for line in lines]
        told = re.fullmatch(r"sep=(.)", lines[0].strip())
        if told:  # a spreadsheet's own line
            lines[0] = ""
        text = "\n".join(lines)
        bare = re.sub(r'"[^"]*"', "", text)
        separator = told[1] if told else next((s for s in "\t;," if s in bare), " ")
        if separator == " ":  # also several blanks
            lines = [line.strip() for line in lines]
        reader = csv.reader(
            (line + "\n" for line in lines),
            delimiter=separator,
            skipinitialspace=True,
            strict=True,
        )
        cells: Cells = []
        try:
            for row in reader:
                cells.append((reader.line_num, [cell.strip() for cell in row]))
        except csv.Error as error:
            self.fail(
                reader.line_num, None, f"the quotes do not match, or a cell is too long ({error})."
            )
        cells = [(line, row) for line, row in cells if any(row)]
        if not cells:
            raise ValueError(f"{str(self.path)!r} holds no numbers: it is empty.")
        # Every row may end in a separator.
        while len({len(row) for _, row in cells}) == 1 and not any(row[-1] for _, row in cells):
            cells = [(line, row[:-1]) for line, row in cells]
        return separator, cells

    def require_equal(self, cells: Cells) -> None:
        line, first = cells[0]
        for number, row in cells[1:]:
            if len(row) != len(first):
                self.fail(number, None, f"{len(row)} cells, and {len(first)} in line {line}.")

    def decimal_comma(self, separator: str, cells: Cells, first: int) -> bool:
        """Whether commas stand for decimal points. Then no point may."""
        numbers = [(n, i, c) for n, row in cells for i, c in enumerate(row[first:], first)]
        with_comma = [place for place in numbers if "," in place[2]]
        if not with_comma:
            return False
        line, i, cell = with_comma[0]
        if separator not in (";", "\t"):
            self.fail(line, i, f"{cell!r} is no number: write a decimal point.")
        if "." in cell:
            self.fail(line, i, f"{cell!r} has a point and a comma: write it without thousands.")
        if any("." in other for _, _, other in numbers):
            self.fail(line, i, f"{cell!r} has a decimal comma, and other cells a point.")
        if separator == "\t":
            for line, i, cell in with_comma:
                if THOUSANDS.fullmatch(cell):
                    self.fail(line, i, f"{cell!r} may be thousands or a fraction: write a point.")
        return True

    def number(self, line: int, i: int, cell: str, comma: bool) -> float:
        if self.missing and MISSING.fullmatch(cell):
            return math.nan
        if not cell:
            self.fail(
                line, i, "the cell is empty; `mpo-games rank` reads wins, whose diagonal may be."
            )
        text = cell.replace("\N{MINUS SIGN}", "-")
        text = text.replace(",", ".") if comma else text
        percent = text.endswith("%")
        above, slash, below = (part.strip() for part in text.removesuffix("%").partition("/"))
        if not NUMBER.fullmatch(above) or (slash and not NUMBER.fullmatch(below)):
            self.fail(line, i, f"{cell[:40]!r} is no number like 0.5, 1/3 or 33%.")
        if len(text) > LONGEST:
            self.fail(line, i, f"a number of {len(text)} characters is too long.")
        bottom = Fraction(below) if slash else Fraction(1)
        if not bottom:
            self.fail(line, i, f"{cell[:40]!r} divides by 0.")
        try:
            value = float(Fraction(above) / bottom / (100 if percent else 1))
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            self.fail(line, i, f"{cell[:40]!r} is too large.")
        return value

    def require_no_counting(
        self, values: Array, rows: list[str] | None, columns: list[str] | None, line: int
    ) -> None:
        """Refuse a row or column of 0, 1, 2, ... that makes a square table oblong.

        Programs write them as names, and nothing but a count tells them from numbers.
        """
        n, m = values.shape
        for what, given, counted, rest, fits in (
            ("row", columns, values[0], values[1:], n == m + 1),
            ("column", rows, values[:, 0], values[:, 1:], m == n + 1),
        ):
            counts = counted.size > 1 and (np.diff(counted) == 1.0).all() and counted[0] in (0, 1)
            if fits and given is None and counts and (rest % 1.0).any():
                self.fail(
                    line,
                    None,
                    f"the first {what} counts {counted[0]:g}, {counted[1]:g}, ...: delete it, or "
                    "write names that are no numbers.",
                )


def _are_names(cells: list[str]) -> bool:
    """Whether these are names, or the counts that programs write where there are none."""
    return bool(cells) and (all(is_name(cell) for cell in cells) or _counts(cells))


def _counts(cells: list[str]) -> bool:
    return any(cells == [str(i + begin) for i in range(len(cells))] for begin in (0, 1))


def is_name(cell: str) -> bool:
    """Whether a cell holds text that nobody would mean as a number."""
    return (
        bool(cell)
        and not re.match(r"[+\-\N{MINUS SIGN}]?[.,]?\d", cell)
        and not re.fullmatch(
            r"[+-]?(nan|inf(inity)?)|#?n/?a|null|-+|\?|#.*[!?]", cell, re.IGNORECASE
        )
    )
