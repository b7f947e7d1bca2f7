"""Wrappers for any judge: ask in both orders, remember answers, ask again after failures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from mpo_games.checks import require_callable, require_count, require_share, require_weight
from mpo_games.labelled import shown
from mpo_games.protocol import Array, Indices
from mpo_games.written import written
from mpo_llm.judges.protocol import Judge, JudgeError, ask

GRACE = 10
"""The number of failures that `Retried` accepts whatever their share."""


@dataclass(frozen=True, slots=True)
class OrderDebiased:
    r"""Asks in both orders and averages: $\tfrac12 (P(a, b) + 1 - P(b, a))$.

    The result is antisymmetric, so a judge that favours one of the two places does no harm. Each
    comparison costs two. A failure in either order is a failure.
    """

    judge: Judge

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("judge", self.judge, "`Higher(score)`")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        both = ask(self.judge, [*prompts, *prompts], [*a, *b], [*b, *a])
        return np.asarray(0.5 * (both[: len(a)] + 1.0 - both[len(a) :]))


@dataclass(frozen=True, slots=True, eq=False)
class Cached:
    """Remembers answers, so that equal comparisons are asked once. Failures are not remembered."""

    judge: Judge
    size: int = 1_000_000
    """The largest number of answers in memory; beyond it the oldest are forgotten."""
    counts: Counter[str] = field(default_factory=Counter)
    """`cached`: comparisons that were not put to the judge again."""
    _known: dict[bytes, float] = field(default_factory=dict, repr=False)

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("judge", self.judge, "`Higher(score)`")
        require_count("size", self.size, least=0)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        keys = [digest(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        # Reversed, so that of equal comparisons the first is the one that is asked.
        new = {k: i for i, k in reversed(list(enumerate(keys))) if k not in self._known}
        rows = sorted(new.values())
        found = ask(self.judge, *_select(rows, prompts, a, b))
        answers = {keys[i]: value for i, value in zip(rows, found.tolist(), strict=True)}
        # Collected before any are forgotten, because one call may ask for more than `size`.
        all_answers = [answers[k] if k in answers else self._known[k] for k in keys]
        # Only NaN differs from itself.
        self._known.update({k: v for k, v in answers.items() if v == v})
        for key in list(self._known)[: max(0, len(self._known) - self.size)]:
            del self._known[key]
        self.counts["cached"] += len(keys) - len(rows)
        return np.array(all_answers)


@dataclass(frozen=True, slots=True, eq=False)
class Retried:
    """Asks again about comparisons on which the judge failed.

    A comparison that still fails after all repetitions counts as a tie, which is worth nothing to
    either side, and is reported in `counts["failed"]`. `JudgeError` once more than
    `GRACE + most * comparisons` of them have failed: such a judge is broken.
    """

    judge: Judge
    times: int = 2
    """How often a failed comparison is asked again."""
    most: float = 0.1
    """The largest share of failed comparisons, in [0, 1], that is accepted beyond `GRACE`."""
    pause: float = 0.0
    """Seconds before the first repetition; the pause doubles with each further one."""
    errors: tuple[type[Exception], ...] = (OSError,)
    """Exceptions that count as failures, such as a lost connection or a time-out. Others are
    raised."""
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers of comparisons: `comparisons`, answered or not; `asked`, put to the judge, with all
    repetitions; `retried`, the repetitions alone; `failed`, unanswered to the end."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("judge", self.judge, "`Higher(score)`")
        require_count("times", self.times, least=0)
        require_share("most", self.most)
        require_weight("pause", self.pause)
        kinds = self.errors if isinstance(self.errors, tuple) else (self.errors,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise ValueError(f"`errors` must be types of exceptions, got {shown(self.errors)}.")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        found = np.full(len(prompts), np.nan)
        for attempt in range(self.times + 1):
            rows = np.flatnonzero(np.isnan(found))
            if not len(rows):
                break
            if attempt:
                self.counts["retried"] += len(rows)
                time.sleep(self.pause * 2.0 ** (attempt - 1))
            self.counts["asked"] += len(rows)
            found[rows] = self._ask(*_select(rows, prompts, a, b))
        failed = np.isnan(found)
        self.counts["comparisons"] += len(failed)
        self.counts["failed"] += int(failed.sum())
        # A share alone would stop a run in which the first few comparisons happen to fail.
        if self.counts["failed"] > GRACE + self.most * self.counts["comparisons"]:
            why = reason(self.judge)
            raise JudgeError(
                f"The judge failed on {self.counts['failed']} of {self.counts['comparisons']} "
                f"comparisons, in {self.times + 1} attempts each: repair it, or raise `most`."
                + (f" The last failure: {why}." if why else "")
            )
        return np.where(failed, 0.5, found)

    def _ask(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        try:
            return ask(self.judge, prompts, a, b)
        except self.errors:
            # An exception does not tell which of the comparisons caused it.
            return np.full(len(prompts), np.nan)


def tally(judge: Any) -> Counter[str]:
    """The counts of all wrappers around a judge, and around the judges of a vote, added up.

    The keys are those of `Cached.counts` and `Retried.counts`.
    """
    counts = Counter(getattr(judge, "counts", {}))
    return sum((tally(each) for each in _inner(judge)), counts)


def reason(judge: Any) -> str:
    """Why the last comparison that failed did, as far as a judge within all wrappers says so."""
    own = str(getattr(judge, "reason", ""))
    return own or next((why for each in _inner(judge) if (why := reason(each))), "")


def _inner(judge: Any) -> list[Any]:
    """The judges and the score within a judge."""
    # By attributes, not by types, so that wrappers written elsewhere are found as well.
    found = (*(getattr(judge, n, None) for n in ("judge", "score")), *getattr(judge, "judges", ()))
    return [each for each in found if each is not None]


def digest(*texts: str) -> bytes:
    """A digest of a comparison: 16 bytes in memory instead of three texts."""
    found = blake2b(digest_size=16)
    for text in texts:
        # JSON can hold lone surrogates, which plain UTF-8 refuses.
        code = text.encode("utf-8", "surrogatepass")
        # The length keeps ("ab", "c") apart from ("a", "bc").
        found.update(len(code).to_bytes(8, "big") + code)
    return found.digest()


def _select(rows: Sequence[int] | Indices, *columns: Sequence[str]) -> tuple[list[str], ...]:
    """The given rows of each column."""
    return tuple([column[i] for i in rows] for column in columns)
