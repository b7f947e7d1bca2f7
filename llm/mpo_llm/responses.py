"""Responses as token ids, and the settings that turn logits into a distribution over responses.

A response is drawn token by token from `softmax(logits / temperature)` over the first `vocabulary`
ids. It ends with `eos`, which belongs to it, or after `max_tokens` tokens. Token ids are
left-aligned in rows: a prompt, its response right after it, then padding. All masks come from
lengths, so any id can pad, even one that occurs in a prompt, and positions always count from 0.
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
"""Fills the places of a row that hold no token. Its value is never looked at."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How responses are drawn. It is part of a policy, and enters every log-probability.

    There is no top-k and no top-p: importance ratios would be biased. `ValueError` for settings out
    of range.
    """

    max_tokens: int
    """Tokens of the longest response, `eos` included."""
    eos: int | None = None
    """The token that ends a response. If None, every response has `max_tokens` tokens."""
    temperature: float = 1.0
    """Logits are divided by it, in sampling and in every log-probability."""
    vocabulary: int | None = None
    """Only ids below it are drawn. Ids above it stand in prompts alone, or pad embeddings."""

    def __post_init__(self) -> None:
        if not self.max_tokens >= 1:
            raise ValueError(f"`max_tokens` must be at least 1, got {self.max_tokens}.")
        if not (isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"`temperature` must be finite and above 0, got {self.temperature}.")
        if self.vocabulary is not None and not self.vocabulary >= 1:
            raise ValueError(f"`vocabulary` must be at least 1, got {self.vocabulary}.")
        # Without a vocabulary every id can be drawn, so only its sign is checked.
        if self.eos is not None and not 0 <= self.eos < (self.vocabulary or self.eos + 1):
            raise ValueError(f"`eos` must be an id that can be produced, got {self.eos}.")


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """N responses, and the prompts that they answer.

    `ValueError` for a prompt or a response without a token.
    """

    prompts: tuple[Ids, ...]
    """The prompts, each at least one token. A prompt may have no response."""
    prompt_of: Indices
    """The index of the prompt that each response answers, `(N,)`."""
    tokens: Indices
    """Token ids `(N, T)`, with `PAD` from `lengths` on."""
    lengths: Indices
    """Tokens of each response, `(N,)`, at least 1; `eos` counts, if the response ends with it."""

    def __post_init__(self) -> None:
        require_prompts(self.prompts)
        if len(self.lengths) and self.lengths.min() < 1:
            raise ValueError("Every response needs a token: an empty text is `eos` alone.")

    @classmethod
    def of_ids(
        cls, prompts: Sequence[Ids], prompt_of: Sequence[int], responses: Sequence[Ids]
    ) -> Responses:
        """N responses from their token ids; `prompt_of` has the index of each one's prompt."""
        tokens, lengths = left_aligned(responses)
        return cls(tuple(prompts), np.asarray(prompt_of, dtype=np.int64), tokens, lengths)

    def __len__(self) -> int:
        return len(self.prompt_of)

    @property
    def mask(self) -> Mask:
        """True at the tokens of the responses and False at padding, `(N, T)`."""
        return np.asarray(np.arange(self.tokens.shape[1]) < self.lengths[:, None])

    def ids(self, row: int) -> Ids:
        """The token ids of one response."""
        return tuple(self.tokens[row, : self.lengths[row]].tolist())

    def take(self, rows: Indices | Mask | slice) -> Self:
        """The responses of the given rows, with all prompts."""
        return type(self)(self.prompts, self.prompt_of[rows], self.tokens[rows], self.lengths[rows])

    def joined(self, other: Responses) -> Self:
        """These responses, then those of `other`, which must have the same prompts."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        tokens = [_widened(r.tokens, width) for r in (self, other)]
        return type(self)(
            self.prompts,
            np.concatenate([self.prompt_of, other.prompt_of]),
            np.concatenate(tokens),
            np.concatenate([self.lengths, other.lengths]),
        )

    def distinct(self) -> tuple[Self, Indices]:
        """The distinct responses to each prompt, and the index of each row among them `(N,)`."""
        # The length is a key too: a response that ends with the id `PAD` is not the shorter one.
        order, new = _sorted(np.column_stack([self.prompt_of, self.lengths, self.tokens]))
        where = np.empty(len(order), dtype=np.int64)
        where[order] = np.cumsum(new) - 1
        return self.take(order[new]), where

    def input_rows(self) -> tuple[Indices, Indices, Indices, Indices]:
        """The fewest rows whose states predict every token: R rows of prompt and response.

        A causal network computes the states of a row's beginning as if nothing followed, so a row
        is left out if it equals another row, or if another row begins with it. The last token of a
        response predicts nothing and is left out as well.

        Returns the rows `(R, W)`, their lengths `(R,)`, the row of each response `(N,)`, and the
        columns `(N, T)` whose states predict its tokens.
        """
        prompts, sizes = left_aligned(self.prompts)
        before, total = sizes[self.prompt_of], sizes[self.prompt_of] + self.lengths - 1
        width = int(max(prompts.shape[1], total.max(initial=0)))
        rows = _widened(prompts, width)[self.prompt_of]
        columns = before[:, None] + np.arange(self.tokens.shape[1])
        row, t = np.nonzero(self.mask[:, 1:])
        rows[row, columns[row, t]] = self.tokens[row, t]
        # With -1 after its end, a row is sorted right before the rows that begin with it.
        marked = np.where(np.arange(width) < total[:, None], rows, -1)
        order, new = _sorted(marked)
        marked = marked[order[new]]
        # A row is kept if it differs from its successor at one of its own tokens.
        ends = np.append(np.any((marked[:-1] != marked[1:]) & (marked[:-1] >= 0), axis=1), True)
        where = np.empty(len(order), dtype=np.int64)
        where[order] = (np.cumsum(ends) - ends)[np.cumsum(new) - 1]
        # Without a response there is no row, but `ends` has its one True.
        kept = marked[ends[: len(marked)]]
        return np.where(kept < 0, PAD, kept), (kept >= 0).sum(axis=1), where, columns - 1


def require_prompts(prompts: Sequence[Ids]) -> None:
    """`ValueError` unless there are prompts, each with at least one token id, and no texts."""
    # A text is a sequence too, and would fail much later, within the network.
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
    """The sum over each token and all later ones, `(N, T)`: the reward to go."""
    return np.asarray(np.cumsum(per_token[:, ::-1], axis=1)[:, ::-1])


def _widened(tokens: Indices, width: int) -> Indices:
    return np.pad(tokens, [(0, 0), (0, width - tokens.shape[1])], constant_values=PAD)


def _sorted(rows: Indices) -> tuple[Indices, Mask]:
    """The order `(N,)` that sorts `rows` `(N, W)`, and True for sorted rows that are new `(N,)`."""
    # `lexsort` takes its last key first. It is stable, so the first of equal rows stays the first.
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = np.any(rows[1:] != rows[:-1], axis=1)
    return order, new
