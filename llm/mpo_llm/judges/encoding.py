"""From texts to token ids: how a prompt and its response are encoded for a judging model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mpo_games.protocol import Indices
from mpo_llm.networks.hugging_face import context_of
from mpo_llm.networks.loading import checked, tokenizer_of, usable

Tokenizer = Any
"""A tokenizer of transformers, as `load_tokenizer` returns it."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the tokenizer of a model from a folder, or by name. It truncates left.

    Left truncation keeps the end of an exchange, which is the response.
    """
    return tokenizer_of(str(path), truncation_side="left")


def load_encoder(path: str | Path, device: str, **settings: Any) -> Any:
    """A transformer without its head (`AutoModel`), in evaluation mode.

    `ValueError` if the folder lacks weights: transformers draws them at random, and the judgements
    would be random too.
    """
    from transformers import AutoModel

    model = checked(AutoModel, str(path), headless=True, **settings)
    return model.to(usable(device)).eval()


def context(model: nn.Module, config: Any) -> int:
    """The largest number of tokens in a row of the model, from its configuration."""
    longest = context_of(config.get_text_config())
    if longest is None:  # relative positions
        return sys.maxsize
    # RoBERTa and its relatives number positions from the padding's id on.
    first = max(
        (
            m.padding_idx + 1
            for m in model.modules()
            if isinstance(m, nn.Embedding)
            and m.num_embeddings == longest
            and m.padding_idx is not None
        ),
        default=0,
    )
    return longest - first


def encode(
    tokenizer: Tokenizer, prompts: Sequence[str], responses: Sequence[str], longest: int
) -> dict[str, list[list[int]]]:
    """N exchanges as token ids and attention masks: by name, N lists of integers, not yet padded.

    A tokenizer with a chat template encodes an exchange as one text of two messages. If it has
    more than `longest` tokens, its beginning is cut.

    A tokenizer without one encodes an exchange as a pair of texts. The beginning of the prompt is
    cut, and the end of the response only if the response alone is too long.

    `ValueError` if `longest` leaves no room for a response.
    """
    pair = tokenizer.chat_template is None
    # `only_first` cuts nothing but the prompt, so the response of a pair must fit on its own.
    room = longest - (tokenizer.num_special_tokens_to_add(pair=True) if pair else 0)
    if room < 1:
        raise ValueError(f"`longest` must leave room for a response, got {longest} tokens.")
    if pair:
        shorter = cut(tokenizer, responses, room)
        found = tokenizer(list(prompts), shorter, truncation="only_first", max_length=longest)
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
    rows: dict[str, list[list[int]]], batch: int, device: torch.device, pad: int = 0
) -> Iterator[tuple[Indices, dict[str, Tensor]]]:
    """Batches of similar length, the longest first, with `pad` after the tokens of a row.

    Yields the indices of the B rows in a batch, `(B,)`, and the model's arguments, each `(B, T)`.
    Masks hide the padding, so any id will do for a model that reads them.
    """
    # Similar lengths need little padding. The longest first shows at once if memory is too small.
    sizes = np.array([len(ids) for ids in rows["input_ids"]])
    order = np.argsort(-sizes, kind="stable")
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        yield (
            chosen,
            {
                name: pad_sequence(
                    [torch.tensor(row[i]) for i in chosen],
                    batch_first=True,
                    padding_value=pad if name == "input_ids" else 0,
                ).to(device)
                for name, row in rows.items()
            },
        )


def cut(tokenizer: Tokenizer, texts: Sequence[str], room: int, *, end: bool = True) -> list[str]:
    """The texts, each cut to at most `room` tokens, at its end or else at its beginning."""
    kept = slice(None, room) if end else slice(-room, None)
    if not tokenizer.is_fast:
        ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [
            text if len(row) <= room else tokenizer.decode(row[kept])
            for text, row in zip(texts, ids, strict=True)
        ]
    # By character offsets: decoding ids would not always give back the same text.
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return [
        text if len(spans) <= room else text[spans[kept][0][0] : spans[kept][-1][1]]
        for text, spans in zip(texts, found["offset_mapping"], strict=True)
    ]
