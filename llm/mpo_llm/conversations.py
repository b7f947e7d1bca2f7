"""Conversations: lists of messages, read from the forms in which files and data sets hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpo_llm.rows import short

Message = Mapping[str, str]
"""A message of a conversation: `{"role": ..., "content": ...}`."""

FORMS = (("role", "content"), ("from", "value"))
"""How data sets name the two parts of a message. The second form is ShareGPT's."""

SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
"""The roles of those who speak in ShareGPT."""

CALLS = ("tool_calls", "function_call", "tool_call_id", "images", "audio")
"""Parts of a message that change its meaning, and that no conversation here can have."""

COLUMNS = (
    "prompt",
    "messages",
    "conversation",
    "conversations",
    "chosen",
    "question",
    "instruction",
    "query",
)
"""The usual names of the column that holds the prompts."""

_SPELLED = re.compile(r"""\s*\[\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
"""How a list of messages begins, as JSON or Python spells it."""


def read(where: str, cell: Any) -> list[Message]:
    """The conversation in a cell, up to the message that the policy answers.

    A cell holds a text, which is one message of the user; a list of messages; or such a list as
    JSON. A final answer of the assistant is left out. `ValueError`, beginning with `where`, for
    anything else, and where nothing is left to answer.
    """
    found = parsed(where, cell)
    said: Message = {"role": "user", "content": str(found)}
    messages = [said] if isinstance(found, str) else found
    kept = len(messages)
    while kept and messages[kept - 1]["role"] == "assistant":
        kept -= 1
    if kept < len(messages) and (not kept or messages[kept - 1]["role"] == "system"):
        raise ValueError(
            f"{where} ends with a message of the assistant and has none of a user before it: there "
            "is nothing to answer."
        )
    for message in messages[:kept]:
        if not message["content"].strip():
            raise ValueError(f"{where} holds an empty message.")
        if not encodable(message["role"] + message["content"]):
            raise ValueError(
                f"{where} holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                f"character: {short(message['content'])}."
            )
    return messages[:kept]


def parsed(where: str, cell: Any) -> str | list[Message]:
    """What a cell holds: a text, or the messages of a conversation in any of the forms.

    `ValueError`, beginning with `where`, for anything else.
    """
    found = _listed(where, cell)
    if isinstance(found, str):
        return found
    if not isinstance(found, list) or not found:
        raise ValueError(f"{where} must hold a text or a list of messages, got {short(found)}.")
    return [_message(where, message) for message in found]


def transcript(messages: Sequence[Message]) -> str:
    """The text of a conversation for a judge.

    A single message is given as it is; several messages are given with their roles.
    """
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def encodable(text: str) -> bool:
    """Whether a text is one: JSON can spell halves of surrogate pairs, which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(where: str, cell: Any) -> Any:
    """A cell, as a list if it holds one in another form."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, str) and _SPELLED.match(cell):
        # Files without nested columns, such as CSV, hold conversations as texts.
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{where} begins like a list of messages but is not JSON: {short(cell)}. "
                "Write it by `json.dumps`."
            ) from error
    if isinstance(cell, Mapping):
        for form in FORMS:
            columns = [_plain_list(cell.get(part)) for part in form]
            # Some data sets keep a list of each part instead of a list of messages.
            if all(columns) and len(columns[0]) == len(columns[1]):
                return [dict(zip(form, parts, strict=True)) for parts in zip(*columns, strict=True)]
    return _plain_list(cell) or cell


def _plain_list(value: Any) -> list[Any]:
    """A list, tuple or array as a list; empty for anything else."""
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value.tolist())
    return list(value) if isinstance(value, list | tuple) else []


def _message(where: str, found: Any) -> Message:
    """A message in the form of `Message`."""
    # Arrow's maps are lists of pairs.
    if isinstance(found, list) and all(isinstance(p, tuple) and len(p) == 2 for p in found):
        found = dict(found)
    parts = found if isinstance(found, Mapping) else {}
    form = next((f for f in FORMS if all(isinstance(parts.get(p), str) for p in f)), None)
    if form is None:
        raise ValueError(
            f"{where}: a message needs the texts `role` and `content`, got {short(found)}."
        )
    # Data sets write None where a message has no such part.
    more = next((part for part in CALLS if parts.get(part)), None)
    if more is not None:
        raise ValueError(f"{where}: a message has `{more}`, which is not passed to the model.")
    role, content = (parts[part] for part in form)
    # A chat template knows roles of its own, but ShareGPT's other speakers are tools.
    if form == FORMS[1] and role not in SPEAKERS:
        raise ValueError(
            f"{where}: a message is from {short(role)}, but only messages from "
            f"{', '.join(SPEAKERS)} are passed to the model."
        )
    return {"role": SPEAKERS.get(role, role), "content": content}
