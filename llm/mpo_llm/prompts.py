"""Prompts from files and data sets, as plain texts or conversations.

Error messages name the row of a bad prompt.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mpo_llm import conversations, rows
from mpo_llm.config import PromptsConfig
from mpo_llm.conversations import Message as Message
from mpo_llm.conversations import encodable as encodable
from mpo_llm.conversations import transcript as transcript
from mpo_llm.responses import Ids
from mpo_llm.rows import Row, Rows
from mpo_llm.templates import Template


@dataclass(frozen=True, slots=True)
class Prompts:
    """X prompts, each in two forms: for the model and for a judge."""

    ids: tuple[Ids, ...]
    """For the model: X tuples of token ids, with those of the chat template."""
    texts: tuple[str, ...]
    """For a judge: X texts, as `transcript` makes them, without the run's system message."""
    opened: str = ""
    """The mark by which the chat template opens the model's thoughts at the end of every prompt;
    empty if it does not."""

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

    The last message of a conversation is the user's, which the policy answers: an answer of the
    assistant after it is left out.

    `ValueError` for a source that cannot be read or holds no prompts, and for a row that has no
    prompt, has another form, or has more than `max_tokens` tokens. So it is for a row that the chat
    template refuses, and for one that does not fit the `room` of a model. The message gives the
    number of the row, from 1.
    """
    texts, ids = [], []
    template, opened = template_of(settings, tokenizer), ""
    for where, row in islice(numbered(settings), settings.limit):
        messages = conversations.read(where, _cell(where, row, settings.column))
        # Without the system message, which instructs the model and is no part of the question.
        texts.append(transcript(messages))
        if settings.system is not None:
            messages = [{"role": "system", "content": settings.system}, *messages]
        try:
            ids.append(template.encode(messages))
            if len(ids[-1]) > settings.max_tokens:
                raise ValueError(
                    f"it has {len(ids[-1])} tokens, but `prompts.max_tokens` is "
                    f"{settings.max_tokens}: shorten the prompt or raise the limit."
                )
            if room is not None:
                room.require(ids[-1], tokenizer)
            before, opened = opened, template.opened(ids[-1])
            if len(ids) > 1 and opened != before:
                raise ValueError(
                    "at its end the chat template opens the model's thoughts, and it does not for "
                    "the rows before, or the other way round. A run needs one of the two."
                )
        except ValueError as error:
            raise ValueError(f"{where} cannot be a prompt: {error}") from error
    if not ids:
        raise ValueError(f"{settings.source!r} holds no prompts.")
    return Prompts(tuple(ids), tuple(texts), opened)


def require(settings: PromptsConfig) -> None:
    """`ValueError` for a source that cannot be read, or whose first row has no such column.

    It needs no tokenizer, and so it can be called before a model is loaded.
    """
    for where, row in islice(numbered(settings), 1):
        _cell(where, row, settings.column)


def template_of(settings: PromptsConfig, tokenizer: Any) -> Template:
    """The chat template that the settings choose. `ValueError` if the tokenizer does not have it,
    or if it cannot be switched to think or not."""
    return Template.of(
        tokenizer, chat=settings.chat, name=settings.template, thinking=settings.thinking
    )


def suited(settings: PromptsConfig, tokenizer: Any) -> PromptsConfig:
    """The settings for another model: without a template or a switch that its tokenizer lacks."""
    found = Template.suited(
        tokenizer, chat=settings.chat, name=settings.template, thinking=settings.thinking
    )
    return replace(settings, template=found.name, thinking=found.thinking)


def encode(tokenizer: Any, messages: Sequence[Message], chat: bool) -> Ids:
    """The token ids of a conversation, up to the place where the model's answer begins.

    With `chat` the tokenizer's chat template is used. Without it the messages are joined by empty
    lines. `ValueError` if the template refuses the conversation or leaves a message out.
    """
    return Template(tokenizer, chat).encode(messages)


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
    source, subset = settings.source, settings.subset
    # A folder of several saved data sets has a folder for each.
    place = Path(source) if subset is None else Path(source, subset)
    try:
        if (place / "dataset_dict.json").exists():
            saved = datasets.load_from_disk(str(place))
            _require("split", settings.split, list(saved))
            found = saved[settings.split]
        elif (place / "state.json").exists():
            found = datasets.load_from_disk(str(place))
        elif any(Path(source, name).exists() for name in ("dataset_dict.json", "state.json")):
            raise _Unknown(f"it has no subset {subset!r}: it was saved without subsets.")
        else:
            found = datasets.load_dataset(
                source, subset, split=settings.split, revision=settings.revision
            )
    # A hub, a file system and a builder each raise exceptions of their own.
    except Exception as error:
        if not isinstance(error, _Unknown):
            _require_names(datasets, settings)
        # The library tells of some errors that there was one, and of the error itself as the cause.
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ValueError(f"Cannot load the data set {source!r}: {reason}") from error
    # Rows of Python's own values, whatever the format in which it was saved.
    plain: Iterable[Row] = found.with_format(None)
    return plain


class _Unknown(ValueError):
    """A data set has no split or subset of a name."""


def _require(kind: str, name: str, known: Sequence[str]) -> None:
    """`_Unknown` for a split or subset, the `kind`, that is not among the `known` ones."""
    if name not in known:
        raise _Unknown(
            f"it has no {kind} {name!r} (`{kind}`), but {', '.join(known)}.{_close(name, known)}"
        )


def _require_names(datasets: Any, settings: PromptsConfig) -> None:
    """`ValueError` if the data set has no such split or subset, as far as it can be asked."""
    source, subset, revision = settings.source, settings.subset, settings.revision
    try:
        subsets = datasets.get_dataset_config_names(source, revision=revision)
        if subset is not None:
            _require("subset", subset, subsets)
        elif datasets.get_dataset_default_config_name(source, revision=revision) is None:
            raise _Unknown(f"set `subset` to one of its subsets: {', '.join(subsets)}.")
        splits = datasets.get_dataset_split_names(source, subset, revision=revision)
        # `train[:100]+test` are parts of two splits.
        for name in re.sub(r"\[.*?\]", "", settings.split).split("+"):
            _require("split", name.strip(), splits)
    except _Unknown as error:
        raise ValueError(f"Cannot load the data set {source!r}: {error}") from error
    # Without a network, and where it is not there at all, only the first error is known.
    except Exception:
        return


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _cell(where: str, row: Row, column: str) -> Any:
    if column in row:
        return row[column]
    usual = [name for name in conversations.COLUMNS if name in row]
    close = usual if len(usual) == 1 else difflib.get_close_matches(column, row, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(str, row))}."
    raise ValueError(f"{where} has no column {column!r} (`prompts.column`): {hint}")
