"""A judge that looks its answers up in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.games.preference import PreferenceGame
from mpo_games.protocol import Array
from mpo_llm.judges.protocol import JudgeError


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Known preferences between Y known responses to X known prompts.

    `ValueError` for preferences of another shape or with `P + P' != 1`; `JudgeError` for a
    comparison of a text that is not in the table.
    """

    prompts: Sequence[str]
    """X texts."""
    responses: Sequence[str]
    """Y texts."""
    preferences: ArrayLike
    """`P[x, i, j]`, the probability that response i is preferred to j, `(X, Y, Y)`; or `(Y, Y)` for
    all prompts alike."""
    _game: PreferenceGame = field(init=False, repr=False)
    _places: tuple[Mapping[str, int], Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        table = np.asarray(self.preferences, dtype=np.float64)
        if table.ndim == 2:
            table = np.broadcast_to(table, (len(self.prompts), *table.shape))
        expected = (len(self.prompts), len(self.responses), len(self.responses))
        if table.shape != expected:
            raise ValueError(f"`preferences` must be {expected}, got shape {table.shape}.")
        # The game checks that the table holds probabilities and that P + P' = 1.
        object.__setattr__(self, "_game", PreferenceGame(table))
        texts = self.prompts, self.responses
        places = tuple({text: i for i, text in enumerate(each)} for each in texts)
        object.__setattr__(self, "_places", places)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """The table's probabilities `(N,)` that each `a` is preferred to its `b`."""
        asked, responses = self._places
        try:
            x = [asked[text] for text in prompts]
            i, j = ([responses[text] for text in texts] for texts in (a, b))
        except KeyError as missing:
            raise JudgeError(
                f"The table of preferences does not hold the text {missing}."
            ) from None
        return np.asarray(self._game.preferences[x, i, j])
