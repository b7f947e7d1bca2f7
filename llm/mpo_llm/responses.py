"""Responses as token ids, and how logits become a distribution over them: the one place that knows.

A response is drawn token by token from `softmax(logits / temperature)` over the first `vocabulary`
ids, until `eos` (which belongs to it) or `max_tokens`. Rows are written left-aligned, a prompt and
its response without a gap, and every mask comes from lengths: what id pads, or whether the prompt
holds it, never matters, and positions count from 0 by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Self

import numpy as np

from mpo_games.protocol import Array, Indices, Mask

Ids = tuple[int, ...]
"""Token ids."""

PAD = 0
"""What is written where nothing is: never read."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How responses are drawn; part of what a policy *is*, so that log-probabilities agree with it.

    There is no top-k and no top-p: importance ratios would be biased.
    """

    max_tokens: int
    """The longest response, `eos` included."""
    eos: int | None = None
    """The token that ends a response; None where every response has `max_tokens` tokens."""
    temperature: float = 1.0
    """Logits are divided by it, in sampling and in every log-probability."""
    vocabulary: int | None = None
    """Ids at or above it are never produced (prompt-only tokens, padded embeddings)."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1, got {self.max_tokens}.")
        if not (isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"`temperature` must be finite and above 0, got {self.temperature}.")
        if self.vocabulary is not None and self.vocabulary < 1:
            raise ValueError(f"`vocabulary` must be at least 1, got {self.vocabulary}.")
        if self.eos is not None and not 0 <= self.eos < (self.vocabulary or self.eos + 1):
            raise ValueError(f"`eos` must be an id that can be produced, got {self.eos}.")


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """N responses to the prompts they answer. `eos`, where a response ends by it, is in it."""

    prompts: tuple[Ids, ...]
    """The prompts, each at least one token."""
    of: Indices
    """Which prompt a row answers, `(N,)`."""
    tokens: Indices
    """Token ids `(N, T)`, `PAD` from `lengths` on."""
    lengths: Indices
    """Tokens of each response, `(N,)`, at least 1."""

    def __post_init__(self) -> None:
        require_prompts(self.prompts)
        if len(self.lengths) and self.lengths.min() < 1:
            raise ValueError("Every response needs a token: an empty text is `eos` alone.")

    @classmethod
    def of_ids(
        cls, prompts: Sequence[Ids], of: Sequence[int], responses: Sequence[Ids]
    ) -> Responses:
        """The given responses as rows."""
        tokens, lengths = left_aligned(responses)
        return cls(tuple(prompts), np.asarray(of, dtype=np.int64), tokens, lengths)

    def __len__(self) -> int:
        return len(self.of)

    @property
    def mask(self) -> Mask:
        """True at the tokens of the responses, `(N, T)`."""
        return np.asarray(np.arange(self.tokens.shape[1]) < self.lengths[:, None])

    def ids(self, row: int) -> Ids:
        """The token ids of one response."""
        return tuple(self.tokens[row, : self.lengths[row]].tolist())

    def take(self, rows: Indices | Mask | slice) -> Self:
        """The given rows."""
        return type(self)(self.prompts, self.of[rows], self.tokens[rows], self.lengths[rows])

    def joined(self, other: Responses) -> Self:
        """These rows and then those of `other`, which answers the same prompts."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        tokens = [_widened(r.tokens, width) for r in (self, other)]
        return type(self)(
            self.prompts,
            np.concatenate([self.of, other.of]),
            np.concatenate(tokens),
            np.concatenate([self.lengths, other.lengths]),
        )

    def distinct(self) -> tuple[Self, Indices]:
        """Each response once, and where each row is among them, `(N,)`."""
        order, new = _sorted(np.column_stack([self.of, self.lengths, self.tokens]))
        where = np.empty(len(order), dtype=np.int64)
        where[order] = np.cumsum(new) - 1
        return self.take(order[new]), where

    def written_out(self) -> tuple[Indices, Indices, Indices, Indices]:
        """Rows of a prompt and its response but for the last token, which predicts nothing.

        Each is written once, and none that begins another. Returns the rows `(R, W)`, their lengths
        `(R,)`, the row of each response `(N,)` and the columns `(N, T)` that predict its tokens.
        """
        prompts, sizes = left_aligned(self.prompts)
        before, total = sizes[self.of], sizes[self.of] + self.lengths - 1
        width = int(max(prompts.shape[1], total.max(initial=0)))
        rows = _widened(prompts, width)[self.of]
        columns = before[:, None] + np.arange(self.tokens.shape[1])
        row, t = np.nonzero(self.mask[:, 1:])
        rows[row, columns[row, t]] = self.tokens[row, t]
        # Where -1 stands behind the end, sorting puts every row before those that it begins.
        marked = np.where(np.arange(width) < total[:, None], rows, -1)
        order, new = _sorted(marked)
        marked = marked[order[new]]
        ends = np.append(np.any((marked[:-1] != marked[1:]) & (marked[:-1] >= 0), axis=1), True)
        where = np.empty(len(order), dtype=np.int64)
        where[order] = (np.cumsum(ends) - ends)[np.cumsum(new) - 1]
        kept = marked[ends[: len(marked)]]
        return np.where(kept < 0, PAD, kept), (kept >= 0).sum(axis=1), where, columns - 1


def require_prompts(prompts: Sequence[Ids]) -> None:
    """`ValueError` unless there are prompts, each of at least one token id and no text."""
    if any(isinstance(part, str) for part in (prompts, *prompts[:1])):
        raise ValueError("Prompts are token ids: encode them, `tokenizer(text).input_ids`.")
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("Every prompt needs a token: begin it with the tokenizer's BOS.")


def left_aligned(sequences: Sequence[Ids]) -> tuple[Indices, Indices]:
    """Rows `(N, W)` of the given ids, padded on the right, and their lengths `(N,)`."""
    lengths = np.array([len(ids) for ids in sequences], dtype=np.int64)
    rows = np.full((len(sequences), lengths.max(initial=0)), PAD, dtype=np.int64)
    for row, ids in zip(rows, sequences, strict=True):
        row[: len(ids)] = ids
    return rows, lengths


def onwards(per_token: Array) -> Array:
    """The sum from each token on, itself included, `(N, T)`: what is still to come."""
    return np.asarray(np.cumsum(per_token[:, ::-1], axis=1)[:, ::-1])


def _widened(tokens: Indices, width: int) -> Indices:
    return np.pad(tokens, [(0, 0), (0, width - tokens.shape[1])], constant_values=PAD)


def _sorted(rows: Indices) -> tuple[Indices, Mask]:
    """An order in which `rows` `(N, W)` are sorted, equal ones as they stand, and which of them
    differ from the one before."""
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = np.any(rows[1:] != rows[:-1], axis=1)
    return order, new
