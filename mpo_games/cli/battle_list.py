"""A list of battles in a file: two models and the winner in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path

from mpo_games.cli.csv_table import Cells, is_name, read_cells, refuse
from mpo_games.games.battles import COLUMNS, Battles, Misread, verdict

FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
"""Three columns of 0 and 1 in place of the winner, as some data sets have it."""

WINNERS = ("model_a", "model_b", "tie")


def read(path: Path, told: bool) -> Battles | None:
    """The battles in the file; None if it holds something else, unless it was `told` to be battles.

    The columns are `model_a`, `model_b` and `winner`, among others, or `FLAGS` for the winner.
    Without these names a file of exactly three columns is read in this order. `ValueError`, with
    the line and the cell, for what is no battle.
    """
    cells = read_cells(path)
    head = [cell.lower().replace(" ", "_").replace("-", "_") for cell in cells[0][1]]
    wanted = next((w for w in (COLUMNS, (*COLUMNS[:2], *FLAGS)) if set(w) <= set(head)), None)
    if wanted is not None:
        return _counted(path, cells[1:], [head.index(name) for name in wanted])
    # A header of other names is no battle, but the next row is one.
    first = next((i for i, (_, row) in enumerate(cells[:2]) if _is_battle(row, told)), None)
    if first is not None:
        return _counted(path, cells[first:], [0, 1, 2])
    if told:
        line, row = cells[0]
        refuse(
            path,
            line,
            None,
            f"battles need the columns {', '.join(COLUMNS)}, got {', '.join(row)}."[:300],
        )
    return None


def _is_battle(row: list[str], told: bool) -> bool:
    """Whether three cells are two names and a winner. Numbers are names only if `told` so."""
    if len(row) != 3 or not (told or all(map(is_name, row[:2]))):
        return False
    try:
        verdict(*row)
    except Misread:
        return False
    return True


def _counted(path: Path, cells: Cells, columns: list[int]) -> Battles:
    """The battles in the rows, whose models and winner stand in `columns`."""
    counted: Counter[tuple[Hashable, Hashable, float]] = Counter()
    for line, row in cells:
        if len(row) <= max(columns):
            refuse(path, line, None, f"{len(row)} cells, and a battle needs {max(columns) + 1}.")
        a, b, *said = (row[column] for column in columns)
        if len(said) > 1:
            flags = [flag in ("1", "1.0", "true", "True") for flag in said]
            if sum(flags) != 1:
                refuse(path, line, columns[2], f"one of {', '.join(FLAGS)} must be 1.")
            said = [WINNERS[flags.index(True)]]
        try:
            counted[verdict(a, b, said[0])] += 1
        except Misread as error:
            refuse(path, line, columns[error.field], str(error))
    try:
        return Battles.from_verdicts(counted)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
