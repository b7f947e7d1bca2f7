"""The output of the command line: policies, settings and lists, in aligned columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.table import Table
from mpo_games.written import counted, up_to

SUPPORT = 1e-6
"""An action belongs to the support if its probability is above this."""

NARROWEST = 30
"""The least width of a column of descriptions."""

LISTED = 20
"""The most actions of a row, or information states of a tree, that the final table lists."""


def strategies(policies: Mapping[str, Any], side: str = "player") -> Iterable[str]:
    """Lines with the action probabilities of each row, by the name of each policy.

    `side` says what a row is, if there are several: a player, or a context of preferences.
    If a row has more than `LISTED` actions, the likeliest are listed and the rest is summed up.
    """
    if not all(isinstance(policy, mg.TabularPolicy) for policy in policies.values()):
        return
    probs = np.stack([policy.probs for policy in policies.values()], axis=-1)
    first = next(iter(policies.values()))
    legal = first.legal
    for r, (row, mask) in enumerate(zip(probs, legal, strict=True)):
        actions = np.flatnonzero(mask)
        support = int(np.sum(row[actions, 0] > SUPPORT))
        title = f"{side} {r}" if len(probs) > 1 else "strategy"
        yield f"{title}: support {support} of {counted(len(actions), 'action')}"
        shown = actions
        if len(actions) > LISTED:
            shown = actions[np.argsort(-row[actions, 0], kind="stable")[:LISTED]]
        names = first.names(r)
        listed = ((str(names[a]), *(f"{p:.6f}" for p in row[a])) for a in shown)
        cells = [("action", *policies), *listed]
        yield from (f"  {line}" for line in aligned(cells))
        if len(shown) < len(actions):
            # A rest of 0 may be a little below 0 by rounding.
            rest = row[actions, 0].sum() - row[shown, 0].sum()
            yield f"  and {len(actions) - len(shown)} more, {max(rest, 0.0):.6f} in all"


def on_tree(policies: Mapping[str, Any]) -> Iterable[str]:
    """Lines with the action probabilities of each information state, if there are few of these."""
    tree = next(iter(policies.values())).tree
    if tree.states > LISTED:
        yield f"{tree.states} information states: too many to list; --strategy writes them"
        return
    cells = [("player", "information state", "action", *policies)]
    state_of, played = tree.state_of, [policy.probs for policy in policies.values()]
    # The first two sequences are the players' empty ones, which end in no action.
    for a in range(2, tree.sequences):
        probs = (f"{p[a]:.6f}" for p in played)
        state = tree.labels[state_of[a]]
        cells.append((str(tree.owner[a]), state, str((tree.names or tree.actions)[a]), *probs))
    yield from aligned(cells)


def value(game: Any, policy: Any, gap: float) -> list[tuple[str, str]]:
    """A row with the value of the game under `policy`; none where it is even by symmetry.

    The value of the game itself is at most the duality gap `gap` away: smaller digits say nothing.
    """
    if isinstance(game, mg.PreferenceGame):
        return []
    who = "player 0" if isinstance(game, mg.SequenceFormGame) else "player 0, who plays the rows"
    known = up_to(float(game.value(policy)), gap)
    return [("game value", f"{known:.6g} to {who}, up to the gap")]


def setting(name: str, value: object) -> str:
    """`name=value`: a number rounded, a function by its name, a schedule with its settings."""
    # A flag is an `int` too, and prints as 0 or 1.
    if isinstance(value, float | int):
        return f"{name}={value:.6g}"
    return f"{name}={getattr(value, '__name__', value)}"


def listed(table: Table) -> str:
    """A table as it prints, with the option that writes the rest."""
    return str(table).replace("to_csv(path) writes all", "--strategy FILE.csv writes all")


def listing(rows: Iterable[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Names and descriptions as lines that are not wider than the terminal."""
    rows = list(rows)
    left = max(len(name) for name, _ in rows) + 2
    wide = max(get_terminal_size().columns - left - len(indent), NARROWEST)
    lines = []
    for name, text in rows:
        first, *more = wrap(text, wide, break_on_hyphens=False)
        lines += [f"{indent}{name.ljust(left)}{first}", *(indent + " " * left + m for m in more)]
    return lines


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells begin in the same column."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
