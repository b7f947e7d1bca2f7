"""Checks of arguments: each raises a `ValueError` whose message is a sentence."""

from __future__ import annotations

from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.protocol import Array, Number


def require_positive(name: str, number: float) -> None:
    """`ValueError` unless `number` is finite and above 0."""
    # `not x > 0`, and not `x <= 0`: NaN fails every comparison, and must be refused.
    if not (isfinite(number) and number > 0.0):
        raise ValueError(f"`{name}` must be a finite number above 0, got {number}.")


def require_weight(name: str, number: float) -> None:
    """`ValueError` unless `number` is finite and at least 0."""
    if not (isfinite(number) and number >= 0.0):
        raise ValueError(f"`{name}` must be a finite number of at least 0, got {number}.")


def require_no_pull(alpha: Number) -> None:
    """`ValueError` unless `alpha` is 0, as it must be in a mirror step without a magnet."""
    # `np.any` takes as long as a step on a small game, so it is called for arrays only.
    if alpha if isinstance(alpha, float) else np.any(alpha):
        raise ValueError(f"`alpha` must be 0 without a magnet, got {alpha}: pass `magnet`.")


def require_ratio(ratio: float, check: int) -> None:
    """`ValueError` unless `0 < ratio < 1` and `check` is a whole number of steps, at least 1."""
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"`ratio` must lie strictly between 0 and 1, got {ratio}.")
    require_steps("check", check)


def require_steps(name: str, steps: int) -> None:
    """`ValueError` unless `steps` is a whole number of at least 1."""
    if not steps >= 1 or steps % 1:
        raise ValueError(f"`{name}` must be a whole number of steps, at least 1, got {steps}.")


def require_count(name: str, count: int) -> None:
    """`ValueError` unless `count` is at least 1."""
    if count < 1:
        raise ValueError(f"`{name}` must be at least 1, got {count}.")


def require_share(name: str, share: float) -> None:
    """`ValueError` unless `0 <= share <= 1`."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"`{name}` must lie in [0, 1], got {share}.")


def finite_numbers(values: ArrayLike, name: str) -> Array:
    """`values` as a float64 array; `ValueError`, naming `name`, unless they are finite and real."""
    try:
        raw = np.asarray(values)
        # NumPy would drop the imaginary parts with a warning only.
        array = np.asarray(raw, dtype=np.float64) if raw.dtype.kind != "c" else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ValueError(f"`{name}` must be a regular array of real numbers.")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite: it holds NaN or infinity.")
    return array


def require_shape(name: str, array: Array, like: Array) -> None:
    """`ValueError` unless `array` ends in the axes of `like`, or the other way round.

    Leading axes are those of a batch.
    """
    if any(n != m for n, m in zip(array.shape[::-1], like.shape[::-1], strict=False)):
        raise ValueError(f"`{name}` has shape {array.shape}, the game's {like.shape}.")
