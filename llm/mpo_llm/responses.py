"""Responses as token ids, and the settings that turn logits into a distribution over responses.

A response is drawn token by token from `softmax(logits / temperature)` over the first `vocabulary`
ids. It ends with one of the `ends`, which belongs to it, or after `max_tokens` tokens.

Token ids are left-aligned in rows: a prompt, its response right after it, then padding. All masks
come from lengths, so any id can pad, even one that occurs in a prompt, and positions always count
from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np

from mpo_games.checks import indices, require_count, require_positive
from mpo_games.labelled import ordered, shown
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
    """Tokens of the longest response, its end included."""
    eos: int | tuple[int, ...] | None = None
    """The token that ends a response, or several such tokens. If None, every response has
    `max_tokens` tokens."""
    temperature: float = 1.0
    """Logits are divided by it, in sampling and in every log-probability."""
    vocabulary: int | None = None
    """Only ids below it are drawn. Ids above it stand in prompts alone, or pad embeddings."""
    unused: tuple[int, ...] = ()
    """Ids below `vocabulary` that are never drawn, because they stand for no token."""

    def __post_init__(self) -> None:
        require_count("max_tokens", self.max_tokens)
        require_positive("temperature", self.temperature)
        if self.vocabulary is not None:
            require_count("vocabulary", self.vocabulary)
        object.__setattr__(self, "unused", tuple(require_ids("unused", self.unused)))
        several = isinstance(self.eos, Sequence) and not isinstance(self.eos, str)
        several |= isinstance(self.eos, np.ndarray) and self.eos.ndim > 0
        given: Any = self.eos if several else () if self.eos is None else (self.eos,)
        ids = []
        for end in given:
            if isinstance(end, bool) or not isinstance(end, int | np.integer):
                raise ValueError(
                    f"`eos` must be the id of a token, or several ids, got {shown(end)}: "
                    "`tokenizer.convert_tokens_to_ids(token)` gives the id of a token."
                )
            # Without a vocabulary every id can be drawn, so only its sign is checked.
            if not 0 <= end < (self.vocabulary or end + 1) or end in self.unused:
                raise ValueError(f"`eos` must be an id that can be produced, got {end}.")
            ids.append(int(end))
        # Tokenizers and models give lists. Equal decodings compare as equal.
        ends = tuple(dict.fromkeys(ids))
        object.__setattr__(self, "eos", ends if len(ends) > 1 else ends[0] if ends else None)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a response; none if every response has `max_tokens` tokens."""
        return self.eos if isinstance(self.eos, tuple) else () if self.eos is None else (self.eos,)

    def content(self, ids: Ids) -> Ids:
        """The tokens of a response without its end. A response that was cut off stays as it is."""
        return ids[:-1] if ids and ids[-1] in self.ends else ids


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
    """Tokens of each response, `(N,)`, at least 1; its end counts, if it has one."""

    def __post_init__(self) -> None:
        require_prompts(self.prompts)
        for name in ("prompt_of", "tokens", "lengths"):
            object.__setattr__(self, name, indices(name, getattr(self, name)))
        count = len(self.lengths) if self.lengths.ndim == 1 else -1
        if self.tokens.ndim != 2 or len(self.tokens) != count or self.prompt_of.shape != (count,):
            raise ValueError(
                "`tokens` must be (N, T), and `lengths` and `prompt_of` (N,), got shapes "
                f"{self.tokens.shape}, {self.lengths.shape} and {self.prompt_of.shape}."
            )
        if count and self.lengths.min() < 1:
            raise ValueError("Every response needs a token: an empty text is an end alone.")
        if count and self.lengths.max() > self.tokens.shape[1]:
            raise ValueError("`lengths` must not exceed the width of `tokens`.")
        if count and not (self.prompt_of.min() >= 0 and self.prompt_of.max() < len(self.prompts)):
            raise ValueError(f"`prompt_of` must name one of the {len(self.prompts)} prompts.")

    @classmethod
    def of_ids(
        cls, prompts: Sequence[Ids], prompt_of: Sequence[int], responses: Sequence[Ids]
    ) -> Responses:
        """N responses from their token ids; `prompt_of` has the index of each one's prompt."""
        require_prompts(prompts)
        rows, _ = ordered(responses, "responses")
        tokens, lengths = left_aligned([require_ids("responses", ids) for ids in rows])
        return cls(tuple(prompts), indices("prompt_of", prompt_of), tokens, lengths)

    def __len__(self) -> int:
        return len(self.prompt_of)

    @property
    def mask(self) -> Mask:
        """True at the tokens of the responses and False at padding, `(N, T)`."""
        return np.asarray(np.arange(self.tokens.shape[1]) < self.lengths[:, None])

    def equals(self, other: Responses) -> bool:
        """Whether these are the same responses to the same prompts, in the same order."""
        names = ("prompt_of", "tokens", "lengths")
        same = (np.array_equal(getattr(self, name), getattr(other, name)) for name in names)
        return self.prompts == other.prompts and all(same)

    def ids(self, row: int) -> Ids:
        """The token ids of one response."""
        return tuple(self.tokens[row, : self.lengths[row]].tolist())

    def take(self, rows: Indices | Mask | slice) -> Self:
        """The responses of the given rows, with all prompts."""
        return type(self)(self.prompts, self.prompt_of[rows], self.tokens[rows], self.lengths[rows])

    def tokens_of(self, rows: Indices | Mask | slice) -> Indices:
        """The indices of the tokens of `rows` among all tokens, response after response."""
        token = np.full(self.mask.shape, -1)
        token[self.mask] = np.arange(self.mask.sum())
        found: Indices = token[rows][self.mask[rows]]
        return found

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


def require_ids(name: str, ids: object) -> Ids:
    """Token ids; `ValueError`, naming `name`, unless they are whole numbers of at least 0."""
    found = indices(name, ids)
    if found.ndim != 1 or (found < 0).any():
        raise ValueError(f"`{name}` must be token ids, whole numbers of at least 0.")
    return tuple(found.tolist())


def require_prompts(prompts: Sequence[Ids]) -> None:
    """`ValueError` unless there are prompts, each with at least one token id, and no texts."""
    # A text is a sequence too, and would fail much later, within the network.
    several = isinstance(prompts, Sequence) and not isinstance(prompts, str | bytes)
    if not several or any(not isinstance(p, Sequence | np.ndarray) for p in prompts):
        raise ValueError("Prompts are token ids: encode them, `tokenizer(text).input_ids`.")
    if any(isinstance(part, str | bytes) for part in prompts):
        raise ValueError("Prompts are token ids: encode them, `tokenizer(text).input_ids`.")
    if not prompts:
        raise ValueError("There is no prompt: pass at least one, as token ids.")
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("Every prompt needs a token: begin it with the tokenizer's BOS.")
    if any(isinstance(prompt[0], str | None) for prompt in prompts):
        raise ValueError("Prompts are token ids: encode them, `tokenizer(text).input_ids`.")


def require_known(prompts: Sequence[Ids], vocabulary: int | None) -> None:
    """`ValueError` unless all prompts are whole numbers from 0 on, below `vocabulary` if given."""
    # Passes over all tokens, which may be millions: without a step of Python for each.
    kinds = set(map(type, chain.from_iterable(prompts)))
    wrong = next((k for k in kinds if k is bool or not issubclass(k, int | np.integer)), None)
    if wrong is not None:
        raise ValueError(
            f"Prompts are token ids, whole numbers of at least 0, and one holds a {wrong.__name__}."
        )
    for number, prompt in enumerate(prompts):
        least, largest = min(prompt), max(prompt)
        if least < 0 or (vocabulary is not None and largest >= vocabulary):
            ids = "from 0 on" if vocabulary is None else f"0 to {vocabulary - 1}"
            raise ValueError(
                f"Prompt {number} holds the token id {least if least < 0 else largest}, and the "
                f"network knows the ids {ids}: encode prompts by the model's own tokenizer."
            )


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
