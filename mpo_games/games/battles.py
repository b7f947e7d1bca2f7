"""Battles of models, two at a time, as arenas record them: how often each beat each other one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import finite
from mpo_games.games.builders import from_wins
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import Labels, read, shown
from mpo_games.protocol import Array

COLUMNS = ("model_a", "model_b", "winner")
"""What a battle says, in the names of Chatbot Arena."""

FIRST = ("model_a", "a")
SECOND = ("model_b", "b")
TIE = ("tie", "tie (bothbad)", "both", "both bad", "bothbad", "draw", "neither", "even")
"""The words for a winner, beside the name of the model; in capitals too."""


class Misread(ValueError):
    """A battle that cannot be read: `field` is the index of the cell among `COLUMNS`."""

    def __init__(self, field: int, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, eq=False, repr=False)
class Battles:
    """How often each of Y models beat each other one, and how often they tied.

    `Battles.of` reads battles, one by one, `Battles.of_wins` a table of numbers of wins, and
    `Battles.of_shares` one of win rates. A battle of a model with itself says nothing and is left
    out.

    >>> Battles.of([("tea", "milk", "tea"), ("milk", "tea", "tie")])
    Battles(2 of 2 models, 1 of them ties)
    """

    models: Labels
    """The names of the models, `(Y,)`."""
    wins: Array
    """`wins[i, j]`: how often `i` beat `j`, `(Y, Y)`."""
    ties: Array
    """How often `i` and `j` tied, `(Y, Y)`, symmetric."""
    left_out: int = 0
    """Battles of a model with itself, which are not counted."""
    counted: bool = True
    """False for shares, whose number of battles is not known: then each pair that met weighs 1."""

    @classmethod
    def of(cls, battles: Any) -> Self:
        """Read a table with the columns `model_a`, `model_b`, `winner`, or an iterable of battles.

        A battle is `(model_a, model_b, winner)` or a mapping with these keys. The winner is
        `model_a`, `model_b`, `tie` or `tie (bothbad)`, as Chatbot Arena writes it; `a` or `b`; or
        the name of the model. Other columns are not read. `ValueError`, with the number of the
        battle, for what is no battle.

        >>> Battles.of([("tea", "milk", "tea"), ("milk", "tea", "tie")]).scores
        array([[0. , 0.5],
               [1.5, 0. ]])
        """
        counted: dict[tuple[Hashable, Hashable, float], int] = {}
        for number, battle in enumerate(_rows(battles), 1):
            try:
                key = verdict(*_cells(battle))
            except Misread as error:
                raise ValueError(f"Battle {number}: {error}") from error
            counted[key] = counted.get(key, 0) + 1
        return cls.from_verdicts(counted)

    @classmethod
    def from_verdicts(cls, counted: Mapping[tuple[Hashable, Hashable, float], float]) -> Self:
        """From the number of battles of each verdict, `(a, b, score of a)`; `ValueError` for none.

        The models are sorted by name, so that the order of the battles changes nothing.
        """
        seen = {name for a, b, _ in counted for name in (a, b)}
        if len(seen) < 2:
            raise ValueError("There must be battles of at least two models to rank.")
        models = tuple(sorted(seen, key=lambda name: (str(name), str(type(name)))))
        place = {name: i for i, name in enumerate(models)}
        wins, ties = np.zeros((2, len(models), len(models)))
        left_out = 0.0
        for (a, b, score), number in counted.items():
            i, j = place[a], place[b]
            if i == j:
                left_out += number
            elif score == 0.5:
                ties[i, j] += number
                ties[j, i] += number
            else:
                wins[(i, j) if score else (j, i)] += number
        if not (wins.any() or ties.any()):
            raise ValueError("There must be a battle of two different models to rank.")
        return cls(models, wins, ties, int(left_out))

    @classmethod
    def of_wins(cls, counts: ArrayLike) -> Self:
        """From a table of numbers of wins, `counts[i, j]`: how often `i` beat `j`.

        The rows of a table with names are the winners and its columns the losers. A tie may count
        half for both: it is recognised where both counts of a pair end in one half. `ValueError`
        for counts that are not square, finite and non-negative.
        """
        found = read(counts, "counts").squared("counts")
        game = from_wins(found.values)
        if game.preferences.shape[0] != 1 or found.values.ndim != 2:
            raise ValueError(
                f"`counts` must be one table (Y, Y), got shape {found.values.shape}: "
                "rank the contexts one by one."
            )
        wins = np.where(np.eye(len(found.values), dtype=bool), 0.0, finite(found, "counts"))
        if len(wins) < 2:
            raise ValueError("There must be battles of at least two models to rank.")
        if not wins.any():
            raise ValueError("`counts` must hold at least one win.")
        halves = (wins % 1.0 == 0.5) & (wins.T % 1.0 == 0.5)
        models = found.labels[-1] or tuple(range(len(wins)))
        return cls(models, wins - 0.5 * halves, halves.astype(np.float64))

    @classmethod
    def of_shares(cls, shares: ArrayLike) -> Self:
        """From a table of win rates, `shares[i, j]` of `i` against `j`; NaN where they never met.

        The diagonal is not read. `ValueError` unless the two orders of each pair add up to 1.
        """
        found = read(shares, "shares").squared("shares")
        table = found.values
        if table.ndim == 2 and table.shape[0] == table.shape[1]:
            unknown = np.isnan(table) | np.eye(len(table), dtype=bool)
            found = replace(found, values=np.where(unknown & unknown.T, 0.5, table))
        # Bad values are refused in the words of a preference game.
        game = PreferenceGame(found.values, found.labels[-1])
        if game.preferences.shape[0] != 1 or len(table) < 2:
            raise ValueError("`shares` must be one table of at least two models, (Y, Y).")
        wins = np.where(unknown, 0.0, game.preferences[0])
        models = game.responses or tuple(range(len(table)))
        return cls(models, wins, np.zeros(wins.shape), counted=False)

    def __repr__(self) -> str:
        if not self.counted:
            return f"Battles(shares of {len(self.models)} models)"
        battles, ties = (float(np.triu(table).sum()) for table in (self.played, self.ties))
        return f"Battles({battles:,g} of {len(self.models)} models, {ties:,g} of them ties)"

    @property
    def scores(self) -> Array:
        """The wins, where a tie is half a win for both, `(Y, Y)`."""
        return np.asarray(self.wins + 0.5 * self.ties)

    @property
    def played(self) -> Array:
        """The number of battles of each pair, `(Y, Y)`."""
        return np.asarray(self.wins + self.wins.T + self.ties)

    @property
    def whole(self) -> bool:
        """Whether these are whole numbers of battles, from which samples can be drawn."""
        return self.counted and not bool((self.wins % 1.0).any())

    def game(self, prior: float = 0.0) -> PreferenceGame:
        """The preference game of the win rates; 1/2 where two models never met. See `from_wins`."""
        return PreferenceGame(from_wins(self.scores, prior=prior).preferences[0], self.models)

    def resampled(self, rng: np.random.Generator) -> Self:
        """As many battles, drawn from these with replacement; `ValueError` unless all are whole."""
        if not self.whole:
            raise ValueError("Numbers of wins that are not whole cannot be drawn from.")
        # The numbers of each result of a drawn sample have a multinomial distribution.
        kinds = np.stack([self.wins, np.triu(self.ties)]).astype(np.int64)
        total = int(kinds.sum())
        drawn = rng.multinomial(total, kinds.ravel() / total).reshape(kinds.shape)
        wins, ties = drawn.astype(np.float64)
        return replace(self, wins=wins, ties=ties + ties.T)


def verdict(a: Any, b: Any, winner: Any) -> tuple[Hashable, Hashable, float]:
    """The models of a battle, and the score of `a`: 1, 0, or 1/2 for a tie.

    `Misread` for a model without a name, or a winner that is none of them.
    """
    for field, name in enumerate((a, b)):
        if not isinstance(name, Hashable):
            raise Misread(field, f"a model must have a name, got {shown(name)}.")
        if _missing(name):
            raise Misread(field, "a model has no name.")
    if _missing(winner):
        raise Misread(2, "the winner is missing: a tie is written `tie`.")
    word = " ".join(str(winner).lower().replace("_", " ").split()).replace("model ", "model_")
    by_name = {score for name, score in ((a, 1.0), (b, 0.0)) if _same(name, winner)}
    by_place = {
        score for words, score in ((FIRST, 1.0), (SECOND, 0.0), (TIE, 0.5)) if word in words
    }
    if len(by_name) == 2:
        return a, b, 0.5
    if by_name and by_place and by_name != by_place:
        raise Misread(2, f"{shown(winner)} is both a place and the name of a model: rename it.")
    if not (found := by_name or by_place):
        raise Misread(
            2,
            f"the winner {shown(winner)} is neither model_a, model_b or tie, nor "
            f"{shown(a)} or {shown(b)}.",
        )
    return a, b, found.pop()


def _missing(value: Any) -> bool:
    """Whether a cell is empty: None, "", NaN, or the missing value of pandas."""
    try:
        return value is None or bool(value == "") or bool(value != value)
    except (TypeError, ValueError):
        return True


def _same(name: Any, winner: Any) -> bool:
    return bool(name == winner) or str(name) == str(winner)


def _rows(battles: Any) -> Iterable[Any]:
    """The battles of a table of pandas or polars, or of an iterable."""
    columns = getattr(battles, "columns", None)
    if columns is not None:
        missing = [name for name in COLUMNS if name not in list(columns)]
        if missing:
            raise ValueError(
                f"A table of battles needs the columns {', '.join(COLUMNS)}; "
                f"it has no {' and no '.join(missing)}."
            )
        return zip(*(list(battles[name]) for name in COLUMNS), strict=True)
    if isinstance(battles, (str, bytes, Mapping)) or not isinstance(battles, Iterable):
        raise ValueError(
            "Battles must be a table or a list of (model_a, model_b, winner), got "
            f"{shown(battles)}. `mpo-games rank FILE` reads a file, and so does pandas."
        )
    return battles


def _cells(battle: Any) -> tuple[Any, Any, Any]:
    """The two models and the winner of one battle; `Misread` for anything else."""
    if isinstance(battle, Mapping):
        for field, name in enumerate(COLUMNS):
            if name not in battle:
                raise Misread(field, f"it has no {name!r}.")
        a, b, winner = (battle[name] for name in COLUMNS)
        return a, b, winner
    if isinstance(battle, (tuple, list)) and len(battle) == 3:
        a, b, winner = battle
        return a, b, winner
    raise Misread(0, f"a battle is (model_a, model_b, winner), got {shown(battle)}.")
