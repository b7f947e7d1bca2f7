"""Preference oracles: who judges two responses to a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.protocol import Array

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str]], ArrayLike]
"""`judge(prompts, responses_a, responses_b)`: for each, how probably a is preferred to b."""


def judged(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """What the judge says, checked: `ValueError` unless a probability for each comparison.

    A failure (None, NaN, -1) is never taken for a win of either side.
    """
    if not prompts:
        return np.zeros(0)
    said = judge(prompts, a, b)
    try:
        found = np.asarray(said, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("The judge must return a number for each comparison.") from None
    if found.shape != (len(prompts),):
        raise ValueError(
            f"The judge must return one number for each of {len(prompts)} comparisons, "
            f"got shape {found.shape}."
        )
    bad = ~((found >= 0.0) & (found <= 1.0))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"The judge must return probabilities in [0, 1], got {found[i]} for comparison {i} "
            f"of {len(prompts)}, {a[i]!r} against {b[i]!r}."
        )
    return found
