"""The name that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, names: Iterable[str]) -> str | None:
    """The nearest of the names; None if none is near."""
    known, said = list(names), str(word)
    # `ema` is part of `weight_ema`, but by its letters it is too far away.
    close = difflib.get_close_matches(said, known, 1) or [n for n in known if said and said in n]
    return close[0] if close else None


def meant(word: object, names: Iterable[str]) -> str:
    """A question with the nearest of the names, or nothing if none is near."""
    name = nearest(word, names)
    return "" if name is None else f"did you mean `{name}`?"
