"""A ranking, as `rank` returns it: numbers, tables, sentences, a picture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from html import escape
from math import comb
from typing import Any

import numpy as np

from mpo_games import cyclicity
from mpo_games.exact import SUPPORT
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import Labels
from mpo_games.protocol import Array, Indices
from mpo_games.ranking.evidence import listed
from mpo_games.table import Table

NEAR = 1e-9
"""Win rates against the equilibrium this close to 1/2 are ties with it."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """One number for each model, `(Y,)`, and its interval, if there are battles to draw from."""

    value: Array
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ranking:
    """What `rank` found. Arrays are in the order of `models`; `order` lists the models by rank.

    >>> rank([("tea", "milk", "tea"), ("milk", "water", "tie"), ("water", "tea", "tea")])
    Ranking of 3 models: tea first
    """

    models: Labels
    order: Indices
    """The indices of the models, best first: by their probability in the equilibrium, and outside
    of it by their win rate against it."""
    equilibrium: Estimates
    """The probability of each model in the maximal lottery."""
    against: Estimates
    """The win rate of each model against the equilibrium: 1/2 where it plays a model, and at most
    1/2 elsewhere."""
    elo: Estimates
    """Bradley-Terry's scores in Elo points, with mean 1000."""
    win_rate: Estimates
    """The share of its battles that a model won; a tie is half a win."""
    battles: Array | None
    """The number of battles of each model, or None for a table of preferences."""
    game: PreferenceGame
    """The preferences `P[i, j]`; 1/2 where two models never met."""
    cyclicity: cyclicity.ContextReport
    """Cycles, Condorcet winner, and the misfit of Bradley-Terry to the preferences."""
    reward_gap: float
    """The duality gap of always choosing the model that Bradley-Terry ranks first."""
    cycle: Labels
    """Three models of which each beats the next one, and the last the first; else nothing."""
    unplayed: tuple[tuple[Hashable, Hashable], ...]
    """The pairs of models that never met."""
    notes: tuple[str, ...]
    """What a reader should know about the numbers, in sentences."""

    @property
    def best(self) -> Hashable:
        """The model that is ranked first."""
        found: Hashable = self.models[self.order[0]]
        return found

    def table(self) -> Table:
        """The models, best first, a line each: every number with the ends of its interval."""
        numbers = {
            "equilibrium": self.equilibrium,
            "against": self.against,
            "elo": self.elo,
            "win_rate": self.win_rate,
        }
        columns: dict[str, Sequence[Any]] = {"model": [self.models[i] for i in self.order]}
        for name, found in numbers.items():
            ends = ((name, found.value), (f"{name}_low", found.low), (f"{name}_high", found.high))
            columns |= {n: array[self.order].tolist() for n, array in ends if array is not None}
        if self.battles is not None:
            counts = self.battles[self.order].tolist()
            columns["battles"] = [int(n) if n == int(n) else n for n in counts]
        ranks = range(1, 1 + len(self.models))
        return Table(("rank", *columns), tuple(zip(ranks, *columns.values(), strict=True)))

    def overview(self) -> Table:
        """The same for reading: in per cent, intervals in brackets; `2:` is the second-best."""
        columns = {
            "equilibrium, %": _texts(self.equilibrium, 100.0),
            "against it, %": [f"{100.0 * rate:.1f}" for rate in self.against.value],
            "Bradley-Terry, Elo": _placed(self.elo, 1.0),
            "win rate, %": _placed(self.win_rate, 100.0),
        }
        if self.battles is not None:
            columns["battles"] = [f"{count:,g}" for count in self.battles]
        rows = (
            (place, str(self.models[i]), *(column[i] for column in columns.values()))
            for place, i in enumerate(self.order, 1)
        )
        return Table(("rank", "model", *columns), tuple(rows))

    def findings(self) -> list[str]:
        """What the table does not say: cycles, the best model of each kind, and the notes."""
        triples, names = comb(len(self.models), 3), self.models
        cyclic = round(self.cyclicity.cyclic_share * triples)
        found = []
        if self.cycle:
            a, b, c = self.cycle
            found.append(
                f"Cycles: {cyclic:,} of {triples:,} triples of models; "
                f"{a} beats {b} beats {c} beats {a}."
            )
        elif triples:
            found.append(f"Cycles: none among {triples:,} triples of models.")
        winner = self.cyclicity.condorcet_winner
        if winner is not None:
            found.append(f"{names[winner]} beats every other model.")
        else:
            support = [str(names[i]) for i in self.order if self.equilibrium.value[i] > SUPPORT]
            found.append(
                f"No model beats every other one; the equilibrium mixes {listed(support)}."
            )
        first, *level = np.flatnonzero(self.elo.value > self.elo.value.max() - NEAR).tolist()
        rates = self.game.preferences[0][:, first]
        rival = int(np.argmax(rates))
        if level:
            tied = listed([str(names[i]) for i in (first, *level)], 20)
            found.append(f"Bradley-Terry ranks no model first: {tied} are level.")
        elif rates[rival] > 0.5 + NEAR:
            left = self.cyclicity.equilibrium_gap
            found.append(
                f"Bradley-Terry ranks {names[first]} first, which loses to {names[rival]}: "
                f"{rates[rival]:.1%} prefer {names[rival]}. Duality gap {self.reward_gap:.3g}; the "
                f"equilibrium has {'0' if left < NEAR else f'{left:.0e}'}."
            )
        return [*found, *self.notes]

    def __str__(self) -> str:
        return "\n".join([str(self.overview()), "", *self.findings()])

    def __repr__(self) -> str:
        return f"Ranking of {len(self.models)} models: {self.best} first"

    def _repr_html_(self) -> str:
        found = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.findings())
        return f"{self.overview()._repr_html_()}{found}"

    def plot(self, **options: Any) -> Any:
        """Draw the win rates of each pair and the three rankings; returns the figure."""
        # Matplotlib takes longer to import than most rankings take.
        from mpo_games.plot.ranking import ranking

        return ranking(self, **options)


def _texts(numbers: Estimates, unit: float) -> list[str]:
    """Each number in parts of `unit`, with its interval."""
    value = [f"{unit * v:.{int(unit > 1.0)}f}" for v in numbers.value]
    if numbers.low is None or numbers.high is None:
        return value
    ends = zip(value, unit * numbers.low, unit * numbers.high, strict=True)
    return [f"{text} ({low:.0f} to {high:.0f})" for text, low, high in ends]


def _placed(numbers: Estimates, unit: float) -> list[str]:
    """Each number after its rank; equal numbers share the better rank, and NaN has none."""
    better = numbers.value > numbers.value[:, None] + NEAR
    texts = zip(numbers.value, better.sum(axis=1), _texts(numbers, unit), strict=True)
    return ["-" if np.isnan(value) else f"{1 + ahead}: {text}" for value, ahead, text in texts]
