"""The protocol of preference oracles: who judges two responses to a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.protocol import Array, Mask

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str]], ArrayLike]
"""`judge(prompts, responses_a, responses_b)`: for each, how probably a is preferred to b."""


def heard(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """What the judge says, NaN where it failed (None, NaN).

    `ValueError` unless there is a number for each comparison, and for numbers outside [0, 1].
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
    _refuse((found < 0.0) | (found > 1.0), found, a, b)
    return found


def judged(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """What the judge says, checked: `ValueError` unless a probability for each comparison.

    A failure (None, NaN, -1) is never taken for a win of either side.
    """
    found = heard(judge, prompts, a, b)
    _refuse(np.isnan(found), found, a, b)
    return found


def _refuse(bad: Mask, found: Array, a: Sequence[str], b: Sequence[str]) -> None:
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"The judge must return probabilities in [0, 1], got {found[i]} for comparison {i} "
            f"of {len(found)}, {a[i]!r} against {b[i]!r}."
        )
