"""A method that others are compared with, and all of them by name."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import Any, NoReturn

from mpo_games.checks import WrongKind
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.labelled import closest, shown
from mpo_games.method import Method
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Solver
from mpo_games.table import Table
from mpo_games.written import counted

LISTED = 20
"""The most baselines that have a line of their own where all are printed."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rival by name: how it plays tables, and how it plays trees.

    `compare` takes it as it is; `solver(game)` is its plain solver.

    >>> baselines()["CFR+"]
    CFR+: a baseline on trees
    """

    name: str
    """Its name in tables and figures."""
    tables: Method | None
    """How it plays matrices and preferences; None if it is made for trees."""
    trees: Method | None
    """How it plays trees; None if it is made for tables."""

    def __repr__(self) -> str:
        return f"{self.name}: a baseline on {self.made_for}"

    @property
    def made_for(self) -> str:
        """The games that it plays, in words."""
        kinds = {"tables": self.tables, "trees": self.trees}
        return " and ".join(kind for kind, method in kinds.items() if method is not None)

    def plays(self, game: Any) -> bool:
        """Whether it is made for games of this kind."""
        if isinstance(game, SequenceFormGame):
            return self.trees is not None
        return self.tables is not None and isinstance(game.initial_policy(), TabularPolicy)

    def method(self, game: Any) -> Method:
        """How it plays `game`; `ValueError` where it is made for games of another kind."""
        found = self.trees if isinstance(game, SequenceFormGame) else self.tables
        if found is None or not self.plays(game):
            raise WrongKind(
                f"{self.name} is a baseline on {self.made_for}, not on a {type(game).__name__}."
            )
        return found

    def solver(self, game: Any) -> Solver:
        """Its solver for `game`, untuned; `ValueError` as for `method`.

        On trees a method may move in another geometry than the game's own: then `compare` plays
        `method(game).view(game)`.
        """
        method = self.method(game)
        return method.solver(method.default, method.unit(game))


class Baselines(dict[str, Baseline]):
    """The rivals by name, as `baselines()` gives them: a dictionary that prints as a table.

    >>> print(baselines().table().rows[0])
    ('AutoMPO', 'tables and trees', '', '')
    """

    def table(self) -> Table:
        """A row for each: its name, the games that it is made for, its settings on both.

        Settings on tables are in units of the largest payoff.
        """
        rows = tuple(
            (name, one.made_for, _settings(one.tables), _settings(one.trees))
            for name, one in self.items()
        )
        return Table(("name", "games", "settings on tables", "settings on trees"), rows)

    def __missing__(self, name: object) -> NoReturn:
        close = closest(str(name), self)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else ".table() has all."
        raise KeyError(f"There is no baseline {shown(name)}: {hint}")

    def _parts(self) -> tuple[str, Table, str]:
        """The head, the first rows, and the names of the others."""
        whole, names = self.table(), list(self)
        rest = f"and {'; '.join(names[LISTED:])}; .table() has all." if names[LISTED:] else ""
        return counted(len(self), "baseline"), Table(whole.columns, whole.rows[:LISTED]), rest

    def __repr__(self) -> str:
        head, table, rest = self._parts()
        return "\n".join(filter(None, [head, str(table), fill(rest, 100)]))

    def _repr_html_(self) -> str:
        head, table, rest = self._parts()
        return f"<p>{head}</p>{table._repr_html_()}" + (f"<p>{escape(rest)}</p>" if rest else "")


def _settings(method: Method | None) -> str:
    chosen = {} if method is None else method.default
    return ", ".join(f"{name}={value:g}" for name, value in chosen.items())
