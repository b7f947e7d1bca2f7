"""A judge that looks its answers up in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import WrongKind, require_kind
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import ordered, places, shown
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
    all prompts alike. The names of a DataFrame or mapping are the texts, in any order."""
    _rates: Array = field(init=False, repr=False)
    _places: tuple[Mapping[str, int], Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("prompts", "responses"):
            # A text is a sequence of texts, too: of its characters.
            if isinstance(getattr(self, name), str):
                raise WrongKind(
                    f"`{name}` must be a list of texts, got {shown(getattr(self, name))}."
                )
        prompts, _ = ordered(self.prompts, "prompts")
        responses, _ = ordered(self.responses, "responses")
        # The game checks that the table holds probabilities and that P + P' = 1.
        game = PreferenceGame(self.preferences)
        for name, texts in (("prompts", prompts), ("responses", responses)):
            for text in texts:
                require_kind(name, text, str, "texts")
        rates, x, y = game.preferences, len(prompts), len(responses)
        if rates.shape not in ((1, y, y), (x, y, y)):
            raise ValueError(f"`preferences` must be {(x, y, y)}, got shape {rates.shape}.")
        # If the table has names, they are texts: it is brought into their order.
        for axis, names, texts in (
            (0, game.contexts, prompts),
            (1, game.responses, responses),
            (2, game.responses, responses),
        ):
            order = places(names, tuple(texts)) if names else range(rates.shape[axis])
            if order is None:
                raise ValueError("`preferences` must be named by the `prompts` and `responses`.")
            rates = np.take(rates, order, axis)
        object.__setattr__(self, "_rates", np.broadcast_to(rates, (x, y, y)))
        known = tuple({text: i for i, text in enumerate(each)} for each in (prompts, responses))
        object.__setattr__(self, "_places", known)

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
        return np.asarray(self._rates[x, i, j])
