"""What can be put around any judge: both orders, a memory, patience with failures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from mpo_games.protocol import Array, Indices
from mpo_llm.judges.protocol import Judge, heard

GRACE = 10
"""Failures that do not make a judge a broken one, however few it has answered."""


@dataclass(frozen=True, slots=True)
class OrderDebiased:
    r"""Asks in both orders: $\tfrac12 (P(a, b) + 1 - P(b, a))$, antisymmetric by construction.

    A failure in either order is a failure.
    """

    judge: Judge

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        said = heard(self.judge, [*prompts, *prompts], [*a, *b], [*b, *a])
        return np.asarray(0.5 * (said[: len(a)] + 1.0 - said[len(a) :]))


@dataclass(frozen=True, slots=True, eq=False)
class Cached:
    """Asks once about equal comparisons, and remembers; failures are not remembered."""

    judge: Judge
    size: int = 1_000_000
    """Comparisons remembered; beyond it the oldest are forgotten."""
    counts: Counter[str] = field(default_factory=Counter)
    """`cached`: the comparisons answered from memory."""
    _known: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        keys = [_key(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        new = {k: i for i, k in reversed(list(enumerate(keys))) if k not in self._known}
        rows = sorted(new.values())
        found = heard(self.judge, *_taken(rows, prompts, a, b))
        answers = {keys[i]: value for i, value in zip(rows, found.tolist(), strict=True)}
        said = [answers[k] if k in answers else self._known[k] for k in keys]
        self._known.update({k: v for k, v in answers.items() if v == v})
        for key in list(self._known)[: max(0, len(self._known) - self.size)]:
            del self._known[key]
        self.counts["cached"] += len(keys) - len(rows)
        return np.array(said)


@dataclass(frozen=True, slots=True, eq=False)
class Retried:
    """Asks again where the judge failed. What fails to the end is a tie, and counted.

    A tie is worth nothing to either side. `ValueError` once more than `GRACE` comparisons and the
    share `most` of all so far have failed to the end: such a judge is broken.
    """

    judge: Judge
    times: int = 2
    """How often a failed comparison is asked again."""
    most: float = 0.1
    pause: float = 0.0
    """Seconds before the first repetition; doubled each time."""
    errors: tuple[type[Exception], ...] = (OSError,)
    """Exceptions that are failures of all comparisons asked (a lost connection, a time-out)."""
    counts: Counter[str] = field(default_factory=Counter)
    """`comparisons`; `asked`, those put to the judge, repetitions included; `retried`; `failed`."""

    def __post_init__(self) -> None:
        if self.times < 0 or not 0.0 <= self.most <= 1.0 or self.pause < 0.0:
            raise ValueError("`times` and `pause` must not be negative, `most` a share.")

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
            found[rows] = self._ask(*_taken(rows, prompts, a, b))
        failed = np.isnan(found)
        self.counts["comparisons"] += len(failed)
        self.counts["failed"] += int(failed.sum())
        if self.counts["failed"] > GRACE + self.most * self.counts["comparisons"]:
            raise ValueError(
                f"The judge failed on {self.counts['failed']} of {self.counts['comparisons']} "
                f"comparisons, {self.times + 1} times each: see to it, or raise `most`."
            )
        return np.where(failed, 0.5, found)

    def _ask(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        try:
            return heard(self.judge, prompts, a, b)
        except self.errors:
            return np.full(len(prompts), np.nan)


def tally(judge: Any) -> Counter[str]:
    """What the decorators around a judge, and around the judges of a vote, have counted."""
    inner = (getattr(judge, "judge", None), *getattr(judge, "judges", ()))
    counts = Counter(getattr(judge, "counts", {}))
    return sum((tally(each) for each in inner if each is not None), counts)


def _key(*texts: str) -> bytes:
    digest = blake2b(digest_size=16)
    for text in texts:
        coded = text.encode("utf-8", "surrogatepass")
        digest.update(len(coded).to_bytes(8, "big") + coded)
    return digest.digest()


def _taken(rows: Sequence[int] | Indices, *columns: Sequence[str]) -> tuple[list[str], ...]:
    return tuple([column[i] for i in rows] for column in columns)
