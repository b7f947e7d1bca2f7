"""Prompts from files and data sets, as plain texts or conversations.

Error messages name the row of a bad prompt.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mpo_llm import rows
from mpo_llm.config import PromptsConfig
from mpo_llm.responses import Ids
from mpo_llm.rows import Row, Rows, short

Message = Mapping[str, str]
"""A message of a conversation: `{"role": ..., "content": ...}`."""

CALLS = ("tool_calls", "function_call", "tool_call_id", "images", "audio")
"""Parts of a message that change its meaning, and that no conversation here can have."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """X prompts, each in two forms: for the model and for a judge."""

    ids: tuple[Ids, ...]
    """For the model: X tuples of token ids, with those of the chat template."""
    texts: tuple[str, ...]
    """For a judge: X texts, as `transcript` makes them, without the run's system message."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Room:
    """What a model leaves for a prompt."""

    context: int | None
    """The most tokens of a prompt and its response; None if there is no limit."""
    response: int
    """The most tokens of a response."""
    embeddings: int
    """Token ids below it have an embedding."""

    def require(self, ids: Ids, tokenizer: Any) -> None:
        """`ValueError` for a prompt that the model cannot read, or not answer at full length."""
        if not ids:
            raise ValueError("the tokenizer makes no token of it.")
        if self.context is not None and len(ids) + self.response > self.context:
            raise ValueError(
                f"it has {len(ids)} tokens and its response up to {self.response}, but the "
                f"model's context is {self.context}: shorten the prompt, or lower "
                "`generation.max_tokens`."
            )
        if max(ids) >= self.embeddings:
            token = tokenizer.convert_ids_to_tokens(max(ids))
            raise ValueError(
                f"it holds {token!r}, whose id {max(ids)} is beyond the model's {self.embeddings} "
                "embeddings: use the model's own tokenizer, or resize the embeddings, "
                "`model.resize_token_embeddings(len(tokenizer))`."
            )


def load(settings: PromptsConfig, tokenizer: Any, room: Room | None = None) -> Prompts:
    """Read the prompts of a run and encode them by the model's tokenizer.

    `ValueError` for a source that cannot be read or holds no prompts, and for a row that has no
    prompt, has another form, or has more than `max_tokens` tokens. So it is for a row that the chat
    template refuses, and for one that does not fit the `room` of a model. The message gives the
    number of the row, from 1.
    """
    texts, ids = [], []
    chat = settings.chat and getattr(tokenizer, "chat_template", None) is not None
    for where, row in islice(numbered(settings), settings.limit):
        messages = _messages(where, _cell(where, row, settings.column))
        # Without the system message, which instructs the model and is no part of the question.
        texts.append(transcript(messages))
        if settings.system is not None:
            messages = [{"role": "system", "content": settings.system}, *messages]
        try:
            ids.append(encode(tokenizer, messages, chat))
            if len(ids[-1]) > settings.max_tokens:
                raise ValueError(
                    f"it has {len(ids[-1])} tokens, but `prompts.max_tokens` is "
                    f"{settings.max_tokens}: shorten the prompt or raise the limit."
                )
            if room is not None:
                room.require(ids[-1], tokenizer)
        except ValueError as error:
            raise ValueError(f"{where} cannot be a prompt: {error}") from error
    if not ids:
        raise ValueError(f"{settings.source!r} holds no prompts.")
    return Prompts(tuple(ids), tuple(texts))


def encode(tokenizer: Any, messages: Sequence[Message], chat: bool) -> Ids:
    """The token ids of a conversation, up to the place where the model's answer begins.

    With `chat` the tokenizer's chat template is used. Without it the messages are joined by empty
    lines. `ValueError` if the template refuses the conversation or leaves a message out.
    """
    if chat:
        # The template writes the special tokens itself.
        text = _templated(tokenizer, messages)
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = "\n\n".join(m["content"] for m in messages)
    found = _without_end(tokenizer, text, tuple(tokenizer(text)["input_ids"]))
    # A model needs at least one token to predict the next.
    if not found and tokenizer.bos_token_id is not None:
        return (tokenizer.bos_token_id,)
    return found


def _templated(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text that the chat template makes of a conversation."""
    try:
        text = str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        )
    # A template is a program, and fails in its own ways.
    except Exception as error:
        line = getattr(error, "lineno", None)
        place = "" if line is None else f" in its line {line}"
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"the model's chat template fails{place}: {reason}. Its roles are "
            f"{', '.join(dict.fromkeys(m['role'] for m in messages))}; `prompts.chat: false` does "
            "without the template."
        ) from error
    for message in messages:
        # Templates drop the thoughts of earlier answers on purpose, but nothing else.
        if message["role"] != "assistant" and message["content"].strip() not in text:
            raise ValueError(
                f"the model's chat template leaves out the message of the role "
                f"{message['role']!r}, {short(message['content'])}. `prompts.chat: false` does "
                "without the template."
            )
    return text


def _without_end(tokenizer: Any, text: str, ids: Ids) -> Ids:
    """The ids of a text without the tokens that would end it, or begin it twice.

    Some tokenizers append an end-of-sequence token, after which a model has nothing to say. They
    also prepend a BOS to a text that begins with one.
    """
    ends = {tokenizer.eos_token_id, getattr(tokenizer, "sep_token_id", None)} - {None}
    bos = tokenizer.bos_token_id
    doubled = bos is not None and ids[:2] == (bos, bos)
    if not doubled and (not ids or ids[-1] not in ends):
        return ids
    bare = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    def ended(found: Ids) -> int:
        """How many tokens of an end stand at the end."""
        return next((n for n, i in enumerate(reversed(found)) if i not in ends), len(found))

    # An end that the text itself has stays.
    ids = ids[: len(ids) - max(0, ended(ids) - ended(bare))]
    return ids[1:] if doubled and bare[:1] == (bos,) else ids


def transcript(messages: Sequence[Message]) -> str:
    """The text of a conversation for a judge.

    A single message is given as it is; several messages are given with their roles.
    """
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def records(settings: PromptsConfig) -> Iterator[Row]:
    """The rows of the source, as mappings from column names to values.

    The source is a file of a format that `rows` reads, or a data set by its folder or name.
    `ValueError` if it cannot be read.
    """
    return (row for _, row in numbered(settings))


def numbered(settings: PromptsConfig) -> Rows:
    """The rows of the source, each with the words that name it in messages."""
    source = settings.source
    if not source:
        raise ValueError("A run needs prompts: set `prompts.source`.")
    path, ending = Path(source), rows.ending(source)
    if ending in rows.FORMATS:
        yield from rows.read(path, settings.column)
    elif path.is_file():
        known = ", ".join(rows.FORMATS)
        raise ValueError(
            f"{source!r} has the ending {ending!r}, but prompts are read from {known} (each also "
            "with .gz) and from data sets."
        )
    else:
        for number, row in enumerate(_dataset(settings), 1):
            yield f"Row {number} of {source!r}", row


def _dataset(settings: PromptsConfig) -> Iterable[Row]:
    # Imported here, because it takes long and most runs read files.
    datasets: Any = importlib.import_module("datasets")
    found: Iterable[Row]
    try:
        if Path(settings.source, "dataset_dict.json").exists():
            found = datasets.load_from_disk(settings.source)[settings.split]
        elif Path(settings.source, "state.json").exists():
            found = datasets.load_from_disk(settings.source)
        else:
            found = datasets.load_dataset(settings.source, split=settings.split)
    # A hub, a file system and a builder each raise exceptions of their own.
    except Exception as error:
        # The library tells of some errors that there was one, and of the error itself as the cause.
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ValueError(f"Cannot load the data set {settings.source!r}: {reason}") from error
    return found


def _cell(where: str, row: Row, column: str) -> Any:
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
        raise ValueError(f"{where} must hold a text or a list of messages, got {short(cell)}.")
    for message in cell:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(part), str) for part in ("role", "content")
        ):
            raise ValueError(
                f"{where}: a message needs the texts `role` and `content`, got {short(message)}."
            )
        # Data sets write None where a message has no such part.
        more = next((part for part in CALLS if message.get(part)), None)
        if more is not None:
            raise ValueError(f"{where}: a message has `{more}`, which is not passed to the model.")
        if not message["content"].strip():
            raise ValueError(f"{where} holds an empty message.")
        if not encodable(message["role"] + message["content"]):
            raise ValueError(
                f"{where} holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                f"character: {short(message['content'])}."
            )
    if cell[-1]["role"] == "assistant":
        raise ValueError(
            f"{where} ends with a message of the assistant: there is nothing to answer."
        )
    return [{"role": m["role"], "content": m["content"]} for m in cell]


def encodable(text: str) -> bool:
    """Whether a text is one: JSON can spell halves of surrogate pairs, which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
