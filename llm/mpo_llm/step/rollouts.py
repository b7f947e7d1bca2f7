"""Judged responses: what a token-level policy learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from mpo_games.protocol import Array, Indices
from mpo_llm.responses import Responses
from mpo_llm.step.scoring import Reading


@dataclass(frozen=True, slots=True, eq=False)
class Rollouts:
    """Responses with what they are worth: the feedback `q` of a language game.

    Stands for `<q, p> = sum_i weights[i] p(y_i) / b(y_i) advantage_i`, b the policy that drew them.
    """

    responses: Responses
    """Each distinct response once."""
    weights: Array
    """Each response's share, `(N,)`: of the draws, or its exact probability. Together they make 1,
    each prompt the same."""
    advantages: Array
    """What was gained from each token on, in units of preference, `(N, T)`."""
    behaviour: Array
    """Log-probability of each token under the policy that drew it, `(N, T)`; 0 at padding."""
    pairs: Array | None = None
    """`P(y_i > y_j) - 1/2` among the responses to one prompt, `(N, N)`, 0 across prompts; None
    where they did not meet."""
    mismatch: float = 0.0
    """How far the engine that drew the responses was from this, in nats a response: the mean
    absolute difference."""
    reading: Reading | None = None
    """What the policy that drew the responses knows before each token, where it is at hand: it need
    not read them again."""

    def take(self, rows: Indices | slice) -> Self:
        """Some of the rows, with their weights as they are."""
        reading, mask = self.reading, self.responses.mask
        if reading is not None:
            token = np.full(mask.shape, -1)
            token[mask] = np.arange(mask.sum())
            taken = torch.from_numpy(token[rows][mask[rows]])
            reading = reading.take(taken.to(reading.states[0].device))
        return type(self)(
            self.responses.take(rows),
            self.weights[rows],
            self.advantages[rows],
            self.behaviour[rows],
            None if self.pairs is None else self.pairs[rows][:, rows],
            self.mismatch,
            reading,
        )

    def parts(self, rows: int | None) -> tuple[Self, ...]:
        """Consecutive parts of at most `rows` rows, whose sum is the whole; one when None."""
        count = len(self.weights)
        if rows is None or rows >= count:
            return (self,)
        return tuple(self.take(slice(i, i + rows)) for i in range(0, count, rows))

    def minibatches(self, count: int) -> tuple[Self, ...]:
        """`count` parts of about equal size, each an estimate of the whole: their mean is it.

        Every `count`-th row goes to the same part, so that each sees all prompts.
        """
        if count == 1:
            return (self,)
        parts = (self.take(np.arange(i, len(self.weights), count)) for i in range(count))
        return tuple(replace(p, weights=count * p.weights) for p in parts if len(p.weights))
