"""The judge who looks it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.games.preference import PreferenceGame
from mpo_games.protocol import Array


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Known preferences between known responses. `ValueError` for a text that is not in it.

    `preferences` is `(Y, Y)` for all prompts, or `(X, Y, Y)`, with `P + P' = 1`.
    """

    prompts: Sequence[str]
    responses: Sequence[str]
    preferences: ArrayLike
    _game: PreferenceGame = field(init=False, repr=False)
    _of: tuple[Mapping[str, int], Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        table = np.asarray(self.preferences, dtype=np.float64)
        if table.ndim == 2:
            table = np.broadcast_to(table, (len(self.prompts), *table.shape))
        expected = (len(self.prompts), len(self.responses), len(self.responses))
        if table.shape != expected:
            raise ValueError(f"`preferences` must be {expected}, got shape {table.shape}.")
        object.__setattr__(self, "_game", PreferenceGame(table))
        rows = ({text: i for i, text in enumerate(of)} for of in (self.prompts, self.responses))
        object.__setattr__(self, "_of", tuple(rows))

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        known, responses = self._of
        try:
            x = [known[text] for text in prompts]
            i, j = ([responses[text] for text in texts] for texts in (a, b))
        except KeyError as missing:
            raise ValueError(f"The table of preferences does not have {missing}.") from None
        return np.asarray(self._game.preferences[x, i, j])
