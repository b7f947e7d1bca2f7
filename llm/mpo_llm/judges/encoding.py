"""From texts to token ids: how a prompt and its response are encoded for a judging model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpo_games.protocol import Indices

Tokenizer = Any
"""A tokenizer of transformers, as `load_tokenizer` returns it."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the tokenizer of a model from a folder, or by name. It pads right and truncates left.

    Right padding keeps the last token of a row at its length - 1. Left truncation keeps the end of
    an exchange, which is the response.
    """
    from transformers import AutoTokenizer

    # False, because None lets transformers ask at the terminal whether to run a model's own code.
    tokenizer: Any = AutoTokenizer.from_pretrained(
        path, padding_side="right", truncation_side="left", trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        # Many causal models have no padding token. Any id will do, as masks hide it.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def encode(
    tokenizer: Tokenizer, prompts: Sequence[str], responses: Sequence[str], longest: int
) -> dict[str, list[list[int]]]:
    """N exchanges as token ids and attention masks: by name, N lists of integers, not yet padded.

    A tokenizer with a chat template encodes an exchange as one text of two messages. If it has
    more than `longest` tokens, its beginning is cut.

    A tokenizer without one encodes an exchange as a pair of texts. The beginning of the prompt is
    cut, and the end of the response only if the response alone is too long.
    """
    if tokenizer.chat_template is None:
        # `only_first` cuts nothing but the prompt, so the response must fit on its own.
        room = longest - tokenizer.num_special_tokens_to_add(pair=True)
        cut = _cut(tokenizer, responses, room)
        found = tokenizer(list(prompts), cut, truncation="only_first", max_length=longest)
    else:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": x}, {"role": "assistant", "content": y}],
                tokenize=False,
            )
            for x, y in zip(prompts, responses, strict=True)
        ]
        # The template has already written the special tokens.
        found = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=longest)
    return dict(found)


def batches(
    tokenizer: Tokenizer, rows: dict[str, list[list[int]]], batch: int, device: torch.device
) -> Iterator[tuple[Indices, dict[str, Tensor]]]:
    """Padded batches of similar length, the longest first.

    Yields the indices of the B rows in a batch, `(B,)`, and the model's arguments, each `(B, T)`.
    """
    # Similar lengths need little padding. The longest first shows at once if memory is too small.
    sizes = np.array([len(ids) for ids in rows["input_ids"]])
    order = np.argsort(-sizes, kind="stable")
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        taken = {name: [row[i] for i in chosen] for name, row in rows.items()}
        yield chosen, dict(tokenizer.pad(taken, return_tensors="pt").to(device))


def _cut(tokenizer: Tokenizer, texts: Sequence[str], room: int) -> list[str]:
    """The texts, each cut at its end to at most `room` tokens."""
    # By character offsets: decoding ids would not always give back the same text.
    ends = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return [
        text if len(spans) <= room else text[: spans[room - 1][1]]
        for text, spans in zip(texts, ends["offset_mapping"], strict=True)
    ]
