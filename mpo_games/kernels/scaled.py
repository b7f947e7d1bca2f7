"""Roots of sums of squares, of numbers whose squares may overflow or vanish."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mpo_games.protocol import Array

SAFE = 1e200
"""Squares up to this, and down to its reciprocal, are computed as they are."""


def root_of_squares(squares: Callable[[Array], float], q: Array) -> float:
    """`sqrt(squares(q))`, where `squares(c q) = c^2 squares(q)`.

    If the squares overflow or vanish, `q` is scaled by a power of two first. That rounds nothing,
    so the result for `2^k q` is `2^k` times the result for `q`, bit for bit.
    """
    total = squares(q)
    if 1.0 / SAFE < total < SAFE:
        return math.sqrt(total)
    top = float(np.abs(q).max(initial=0.0))
    if not 0.0 < top < math.inf:  # True for NaN as well
        return math.sqrt(total)
    unit = math.ldexp(1.0, math.frexp(top)[1] - 1)
    return unit * math.sqrt(squares(q / unit))
