"""A list of battles in a file: two models and the winner in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import NoReturn

from mpo_games.cli.csv_table import Cells, is_name, read_cells, refuse
from mpo_games.games.battles import COLUMNS, FIRST, SECOND, Battles, Misread, verdict

FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
"""Three columns of 0 and 1 in place of the winner, as some data sets have it."""

WINNERS = ("model_a", "model_b", "tie")


LOSERS = ("loser", "lost", "loses", "worse", "worst", "rejected")
"""Names of a column that holds the model that did not win."""

OUTCOMES = ("winner", "won", "wins", "outcome", "result", "verdict", "preferred", "better", *LOSERS)
"""Names of a column that holds how a battle ended."""


def read(path: Path, told: bool) -> tuple[Battles, str] | None:
    """The battles in the file, and a sentence on its columns if they were read by place.

    None if the file holds something else, unless it was `told` to be battles. The columns are
    `model_a`, `model_b` and `winner`, among others, or `FLAGS` for the winner. Without these names
    a file of exactly three columns is read in this order. `ValueError`, with the line and the cell,
    for what is no battle, and for names of columns that contradict this order.
    """
    cells = read_cells(path)
    head = _plain(cells[0][1])
    wanted = next((w for w in (COLUMNS, (*COLUMNS[:2], *FLAGS)) if set(w) <= set(head)), None)
    if wanted is not None:
        return _counted(path, cells[1:], [head.index(name) for name in wanted]), ""
    # A header of other names is no battle, but the next row is one.
    first = next((i for i, (_, row) in enumerate(cells[:2]) if _is_battle(row, told)), None)
    if first is None:
        # No table of numbers has two names in a row.
        if told or (len(cells) > 1 and sum(map(is_name, cells[1][1])) > 1):
            _refuse_names(path, cells)
        return None
    if first == 0:
        said = f"No name of a column is known, so they were read by place: {', '.join(COLUMNS)}."
    else:
        _require_order(path, cells, head)
        names = [f"{name} as {role}" for name, role in zip(cells[0][1], COLUMNS, strict=True)]
        said = f"The columns were read by place: {', '.join(names)}."
    return _counted(path, cells[first:], [0, 1, 2]), said


def _plain(names: list[str]) -> list[str]:
    """Names of columns in one spelling."""
    return [name.lower().replace(" ", "_").replace("-", "_") for name in names]


def _require_order(path: Path, cells: Cells, head: list[str]) -> None:
    """Refuse three names of columns that say something else than their places."""
    words = [set(name.split("_")) for name in head]
    # `llm2, llm1, winner`: whether "a" is the first column or the first model is not known.
    by_place = any(row[-1].lower().replace(" ", "_") in (*FIRST, *SECOND) for _, row in cells[1:])
    a, b = head[:2]
    swapped = by_place and a[:-1] == b[:-1] and a[-1:] > b[-1:]
    elsewhere = any(
        name in COLUMNS and name != role for name, role in zip(head, COLUMNS, strict=True)
    )
    outcome_early = any(word & set(OUTCOMES) for word in words[:2])
    if swapped or elsewhere or outcome_early or words[2] & set(LOSERS):
        refuse(
            path,
            cells[0][0],
            None,
            f"the columns {', '.join(cells[0][1])} do not say which two hold the models, and which "
            f"one the winner: name them {', '.join(COLUMNS)}.",
        )


def _refuse_names(path: Path, cells: Cells) -> NoReturn:
    """Refuse battles whose columns are not known, or whose first winner is none."""
    line, row = cells[1] if len(cells) > 1 else cells[0]
    if len(row) == 3 and len(cells) > 1:
        try:
            verdict(*row)
        except Misread as error:
            refuse(path, line, error.field, f"the file looks like battles, but {error}")
    refuse(
        path,
        cells[0][0],
        None,
        f"battles need the columns {', '.join(COLUMNS)}, got {', '.join(cells[0][1])}."[:300],
    )


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
