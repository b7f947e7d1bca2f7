"""What games show in a notebook: a small matrix as a table, a larger one as a line."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mpo_games.labelled import Labels
from mpo_games.policies.tables import batch as batch
from mpo_games.protocol import Array
from mpo_games.table import Table

LARGEST_SHOWN = 12
"""The most rows or columns of a matrix that a notebook shows."""


def html(game: object, matrix: Array, names: Sequence[Labels]) -> str:
    """The line of the game, and below it the matrix with its names, if it is a small one."""
    line = f"<p>{escape(repr(game))}</p>"
    if matrix.ndim != 2 or max(matrix.shape) > LARGEST_SHOWN:
        return line
    rows, columns = names if names else (range(matrix.shape[0]), range(matrix.shape[1]))
    cells = zip(rows, matrix.tolist(), strict=True)
    table = Table(
        ("", *map(str, columns)), tuple((str(row), *row_cells) for row, row_cells in cells)
    )
    return line + table._repr_html_()
