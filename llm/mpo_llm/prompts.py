"""Prompts from files and data sets, as plain texts or conversations.

Error messages name the row of a bad prompt.
"""

from __future__ import annotations

import csv
import difflib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mpo_llm.config import PromptsConfig
from mpo_llm.responses import Ids

Message = Mapping[str, str]
"""A message of a conversation: `{"role": ..., "content": ...}`."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """X prompts, each in two forms: for the model and for a judge."""

    ids: tuple[Ids, ...]
    """For the model: X tuples of token ids, with those of the chat template."""
    texts: tuple[str, ...]
    """For a judge: X texts, as `transcript` makes them, without the run's system message."""

    def __len__(self) -> int:
        return len(self.ids)


def load(settings: PromptsConfig, tokenizer: Any) -> Prompts:
    """Read the prompts of a run and encode them by the model's tokenizer.

    `ValueError` for a source that cannot be read or holds no prompts, and for a row that has no
    prompt, has another form, or has more than `max_tokens` tokens. The message gives the number of
    the row, from 1.
    """
    texts, ids = [], []
    chat = settings.chat and getattr(tokenizer, "chat_template", None) is not None
    for number, row in enumerate(islice(records(settings), settings.limit), 1):
        where = f"Row {number} of {settings.source!r}"
        messages = _messages(where, _cell(where, row, settings.column))
        # Without the system message, which instructs the model and is no part of the question.
        texts.append(transcript(messages))
        if settings.system is not None:
            messages = [{"role": "system", "content": settings.system}, *messages]
        ids.append(encode(tokenizer, messages, chat))
        if len(ids[-1]) > settings.max_tokens:
            raise ValueError(
                f"{where} has {len(ids[-1])} tokens, but `prompts.max_tokens` is "
                f"{settings.max_tokens}: shorten the prompt or raise the limit."
            )
    if not ids:
        raise ValueError(f"{settings.source!r} holds no prompts.")
    return Prompts(tuple(ids), tuple(texts))


def encode(tokenizer: Any, messages: Sequence[Message], chat: bool) -> Ids:
    """The token ids of a conversation, up to the place where the model's answer begins.

    With `chat` the tokenizer's chat template is used. Without it the messages are joined by empty
    lines.
    """
    if chat:
        # The template writes the special tokens itself.
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    found = tuple(tokenizer("\n\n".join(m["content"] for m in messages))["input_ids"])
    # A model needs at least one token to predict the next.
    if not found and tokenizer.bos_token_id is not None:
        return (tokenizer.bos_token_id,)
    return found


def transcript(messages: Sequence[Message]) -> str:
    """The text of a conversation for a judge.

    A single message is given as it is; several messages are given with their roles.
    """
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def records(settings: PromptsConfig) -> Iterator[Mapping[str, Any]]:
    """The rows of the source, as mappings from column names to values.

    The source is a .jsonl, .csv or .parquet file, or a data set by its folder or name. `ValueError`
    if it cannot be read.
    """
    if not settings.source:
        raise ValueError("A run needs prompts: set `prompts.source`.")
    path = Path(settings.source)
    formats = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix in formats:
        if not path.is_file():
            raise ValueError(f"There is no file {settings.source!r}.")
        yield from formats[path.suffix](path)
    else:
        yield from _dataset(settings)


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"Row {number} of {str(path)!r} is not JSON: {error.msg} at column "
                    f"{error.colno}."
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"Row {number} of {str(path)!r} must be an object, got {row!r}.")
            yield row


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{str(path)!r} is not a Parquet file: {error}.") from error


def _dataset(settings: PromptsConfig) -> Iterable[Mapping[str, Any]]:
    # Imported here, because it takes long and most runs read files.
    datasets: Any = importlib.import_module("datasets")
    found: Iterable[Mapping[str, Any]]
    try:
        if Path(settings.source, "dataset_dict.json").exists():
            found = datasets.load_from_disk(settings.source)[settings.split]
        elif Path(settings.source, "state.json").exists():
            found = datasets.load_from_disk(settings.source)
        else:
            found = datasets.load_dataset(settings.source, split=settings.split)
    # A hub, a file system and a builder each raise exceptions of their own.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"Cannot load the data set {settings.source!r}: {reason}") from error
    return found


def _cell(where: str, row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    close = difflib.get_close_matches(column, row, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(str, row))}."
    raise ValueError(f"{where} has no column {column!r} (`prompts.column`): {hint}")


def _messages(where: str, cell: Any) -> list[Message]:
    """The conversation in a cell, checked. A plain text becomes one message of the user."""
    if isinstance(cell, str):
        cell = [{"role": "user", "content": cell}]
    if not isinstance(cell, list) or not cell:
        raise ValueError(f"{where} must hold a text or a list of messages, got {cell!r}.")
    for message in cell:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(part), str) for part in ("role", "content")
        ):
            raise ValueError(
                f"{where}: a message needs the texts `role` and `content`, got {message!r}."
            )
        if not message["content"].strip():
            raise ValueError(f"{where} holds an empty message.")
    if cell[-1]["role"] == "assistant":
        raise ValueError(
            f"{where} ends with a message of the assistant: there is nothing to answer."
        )
    return [{"role": m["role"], "content": m["content"]} for m in cell]
