"""Policies as tables for people: a line for each action, in the names of the game."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpo_games.labelled import Labels
from mpo_games.policies.tree import Tree
from mpo_games.protocol import Array, Mask
from mpo_games.table import Table

FEW = 12
"""The most probabilities that a policy prints on its line."""

ROUNDED = {"probability": ".4f", "reach": ".4f"}
"""Four decimals of a probability are what people read."""


def batch(shape: Sequence[int]) -> str:
    """The beginning of a print of many at once: their number; nothing for one."""
    return f"a batch of {' x '.join(map(str, shape))}, each with " if len(shape) else ""


def in_words(table: Callable[[], Table], shape: tuple[int, ...]) -> str:
    """A policy on one line: its probabilities, if these are few, else how many there are."""
    *many, rows, actions = shape
    if many or rows * actions > FEW:
        return f"{batch(many)}{rows} x {actions} probabilities"
    parts: dict[object, list[str]] = {}
    for line in table():
        parts.setdefault(line.get("row"), []).append(f"{line['action']} {line['probability']:.3g}")
    return "; ".join(
        f"{row}: {', '.join(p)}" if row is not None else ", ".join(p) for row, p in parts.items()
    )


def of_rows(probs: Array, legal: Mask, names: Callable[[int], Labels], rows: Labels) -> Table:
    """The table of `(..., rows, actions)`: run, row, action, probability.

    The column of the run is there for a batch only, and that of the row where there are several
    rows, or one with a name.
    """
    *lead, count, _ = probs.shape
    named = rows if rows else tuple(range(count))
    columns: tuple[str, ...] = ("action", "probability")
    if count > 1 or rows:
        columns = ("row", *columns)
    if lead:
        columns = ("run", *columns)
    found = []
    for run in np.ndindex(*lead):
        for r in range(count):
            # As plain as possible: the number of a run, or its place along several axes.
            where = {"run": run[0] if len(run) == 1 else run, "row": named[r]}
            for a, name in enumerate(names(r)):
                if legal[(*run, r, a)]:
                    cell = where | {"action": name, "probability": float(probs[(*run, r, a)])}
                    found.append(tuple(cell[c] for c in columns))
    return Table(columns, tuple(found), ROUNDED)


def of_tree(tree: Tree, probs: Array, plan: Array) -> Table:
    """The table of `(..., sequences)`: run, player, state, action, probability, reach."""
    lead = probs.shape[:-1]
    columns = ("player", "state", "action", "probability", "reach")
    state_of = tree.state_of
    labels: Labels = tree.labels or tuple(range(tree.states))
    actions: Labels = tree.names or tree.actions or tuple(range(tree.sequences))
    found = []
    for run in np.ndindex(*lead):
        p, reach = probs[run].tolist(), plan[run].tolist()
        for a in range(2, tree.sequences):
            j = state_of[a]
            row = (int(tree.owner[a]), labels[j], actions[a], p[a], reach[tree.parent[j]])
            found.append((run[0] if len(run) == 1 else run, *row) if lead else row)
    return Table(("run", *columns) if lead else columns, tuple(found), ROUNDED)
