"""The protocol of judges: a judge compares two responses to the same prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.labelled import shown
from mpo_games.protocol import Array, Mask

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str]], ArrayLike]
"""`judge(prompts, a, b)`: the probability that each response in `a` is preferred to that in `b`.

The arguments are three sequences of N texts. The answer is N numbers in [0, 1], 1/2 for a tie. None
or NaN says that the judge failed on a comparison. Arrays and tensors of any precision are read, on
any device, with or without a gradient.
"""

ROUND_OFF = 1e-6
"""A number that lies outside [0, 1] by at most this much is rounded to 0 or 1."""


class JudgeError(ValueError):
    """A judge raised an error, or its answers cannot be used."""


def ask(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """The judge's answers `(N,)`, checked; NaN where the judge failed.

    `JudgeError` unless the judge returns one number, None or NaN for each comparison, and if a
    number lies outside [0, 1] by more than `ROUND_OFF`. The judge's own errors pass.
    """
    # No judge needs to handle an empty batch.
    if not prompts:
        return np.zeros(0)
    found = numbers(judge(prompts, a, b), len(prompts), "The judge", "comparison")
    # A failure passes here, because every comparison with NaN is false.
    _refuse((found < -ROUND_OFF) | (found > 1.0 + ROUND_OFF), found, a, b)
    return np.clip(found, 0.0, 1.0)


def judged(judge: Judge, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
    """The judge's answers `(N,)`, all of them probabilities.

    `JudgeError` as in `ask`; if the judge failed on a comparison, because a failure (None, NaN, -1)
    must not count as a win of either side; and for every error that the judge raised.
    """
    try:
        found = ask(judge, prompts, a, b)
    except Exception as error:
        raise raised(error) from error
    _refuse(np.isnan(found), found, a, b)
    return found


def raised(error: Exception) -> JudgeError:
    """The error of a judge in a sentence that says where it came from."""
    if isinstance(error, JudgeError):
        return error
    # Some errors have no message.
    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
    return JudgeError(f"The judge raised {reason}.")


def numbers(answers: object, count: int, who: str, what: str) -> Array:
    """The answers of a judge or a score as `(count,)` floats; None becomes NaN.

    `JudgeError`, which names `who` answered and `what` was asked about, for answers of another
    number or kind: texts, complex numbers, and sets and dictionaries, whose order means nothing.
    """
    needed = f"{who} must return one number for each of {count} {what}s"
    if isinstance(answers, str | bytes | Set | Mapping):
        raise JudgeError(f"{needed}, got a {type(answers).__name__}.")
    plain = _plain(answers)
    if not isinstance(plain, np.ndarray):
        try:
            plain = [_plain(each) for each in plain]
        except TypeError:
            raise JudgeError(f"{needed}, got {shown(answers)}.") from None
    try:
        raw = np.asarray(plain)
    except ValueError:  # rows of unlike lengths
        raise JudgeError(f"{needed}, got unlike numbers of them.") from None
    if raw.shape != (count,):
        raise JudgeError(f"{needed}, got shape {raw.shape}.")
    # NumPy would read the text "0.5" as a number, and drop imaginary parts.
    strange = [x for x in raw.tolist() if isinstance(x, str | bytes | complex)]
    if not strange:
        try:
            return np.asarray(raw, dtype=np.float64)
        except (TypeError, ValueError):
            strange = [x for x in raw.tolist() if not isinstance(x, int | float | None)]
    raise JudgeError(f"{needed}, got {shown(strange[0])}.")


def _plain(value: Any) -> Any:
    """A tensor as an array, without its gradient; the failures of a masked array as NaN."""
    # By a method, not by a type: a judge may live without torch.
    if hasattr(value, "detach"):
        # NumPy has no bfloat16, and reads neither gradients nor the memory of an accelerator.
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    return value


def _refuse(bad: Mask, found: Array, a: Sequence[str], b: Sequence[str]) -> None:
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise JudgeError(
            f"The judge must return probabilities in [0, 1], got {found[i]} for comparison {i} "
            f"of {len(found)}, {shown(a[i])} against {shown(b[i])}."
        )
