"""What the judge has said in a run: checkpoints hold it, so that a resumed run asks nothing twice.

Some solvers learn from the same responses at several steps, and compare them again each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mpo_games.protocol import Array
from mpo_llm.judges.protocol import Judge, ask
from mpo_llm.judges.wrappers import digest

WIDTH = 16
"""Bytes of the digest of a comparison."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """A judge that is asked each comparison once. A tie for want of an answer is not remembered."""

    judge: Judge
    failed: Callable[[], int]
    """The number of comparisons so far on which the judge failed, and which count as ties."""
    size: int = 1_000_000
    """The largest number of answers that are kept; beyond it the oldest are forgotten."""
    known: dict[bytes, float] = field(default_factory=dict, repr=False)
    """The answers by the digests of their comparisons, the oldest first."""

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        keys = [digest(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        # Reversed, so that of equal comparisons the first is the one that is asked.
        new = {k: i for i, k in reversed(list(enumerate(keys))) if k not in self.known}
        rows = sorted(new.values())
        answers: dict[bytes, float] = {}
        kept: dict[bytes, float] = {}
        if rows:
            before = self.failed()
            said = ask(self.judge, *([column[i] for i in rows] for column in (prompts, a, b)))
            unsure = self.failed() > before
            answers = {keys[i]: value for i, value in zip(rows, said.tolist(), strict=True)}
            # Only NaN differs from itself.
            kept = {k: v for k, v in answers.items() if v == v and not (unsure and v == 0.5)}
        found = [answers[k] if k in answers else self.known[k] for k in keys]
        self.known.update(kept)
        for key in list(self.known)[: max(0, len(self.known) - self.size)]:
            del self.known[key]
        return np.array(found)


def as_arrays(known: Mapping[bytes, float]) -> dict[str, np.ndarray]:
    """The answers for a checkpoint: `keys` `(K, WIDTH)` in bytes, `values` `(K,)`."""
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(-1, WIDTH)
    return {"keys": keys, "values": np.array(list(known.values()), dtype=np.float64)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[bytes, float]:
    """The inverse of `as_arrays`."""
    values = arrays["values"].tolist()
    return {key.tobytes(): value for key, value in zip(arrays["keys"], values, strict=True)}
