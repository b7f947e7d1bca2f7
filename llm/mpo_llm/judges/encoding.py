"""How a prompt and its response are written for a model that judges them."""

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
    """The tokenizer of a model folder or name. It pads on the right and cuts on the left."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        path, padding_side="right", truncation_side="left", trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def written(
    tokenizer: Tokenizer, prompts: Sequence[str], responses: Sequence[str], longest: int
) -> dict[str, list[list[int]]]:
    """The exchanges as token ids and masks: by the chat template, or as pairs of texts without one.

    Beyond `longest` tokens the beginning is cut; of a pair the prompt is, and the response, at its
    end, only where it alone is too long.
    """
    if tokenizer.chat_template is None:
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
        found = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=longest)
    return dict(found)


def batches(
    tokenizer: Tokenizer, rows: dict[str, list[list[int]]], batch: int, device: torch.device
) -> Iterator[tuple[Indices, dict[str, Tensor]]]:
    """The rows padded, in batches of similar length, the longest first: little padding, and the
    most memory at once at the beginning."""
    sizes = np.array([len(ids) for ids in rows["input_ids"]])
    order = np.argsort(-sizes, kind="stable")
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        taken = {name: [row[i] for i in chosen] for name, row in rows.items()}
        yield chosen, dict(tokenizer.pad(taken, return_tensors="pt").to(device))


def _cut(tokenizer: Tokenizer, texts: Sequence[str], room: int) -> list[str]:
    """Texts of at most `room` tokens each."""
    ends = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return [
        text if len(spans) <= room else text[: spans[room - 1][1]]
        for text, spans in zip(texts, ends["offset_mapping"], strict=True)
    ]
