"""The protocol of judges: a judge compares two responses to the same prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.protocol import Array, Mask

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str]], ArrayLike]
"""`judge(prompts, a, b)`: the probability that each response in `a` is preferred to that in `b`.

The arguments are three sequences of N texts. The answer is N numbers in [0, 1], 1/2 for a tie. None
or NaN says that the judge failed on a comparison.
"""


def ask(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """The judge's answers `(N,)`, checked; NaN where the judge failed.

    `ValueError` unless the judge returns one number, None or NaN for each comparison, and if a
    number lies outside [0, 1].
    """
    # No judge needs to handle an empty batch.
    if not prompts:
        return np.zeros(0)
    answers = judge(prompts, a, b)
    try:
        # As float64, None becomes NaN.
        found = np.asarray(answers, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("The judge must return a number for each comparison.") from None
    if found.shape != (len(prompts),):
        raise ValueError(
            f"The judge must return one number for each of {len(prompts)} comparisons, "
            f"got shape {found.shape}."
        )
    # A failure passes here, because every comparison with NaN is false.
    _refuse((found < 0.0) | (found > 1.0), found, a, b)
    return found


def judged(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """The judge's answers `(N,)`, all of them probabilities.

    `ValueError` as in `ask`, and if the judge failed on a comparison, because a failure (None, NaN,
    -1) must not count as a win of either side.
    """
    found = ask(judge, prompts, a, b)
    _refuse(np.isnan(found), found, a, b)
    return found


def _refuse(bad: Mask, found: Array, a: Sequence[str], b: Sequence[str]) -> None:
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"The judge must return probabilities in [0, 1], got {found[i]} for comparison {i} "
            f"of {len(found)}, {a[i]!r} against {b[i]!r}."
        )
