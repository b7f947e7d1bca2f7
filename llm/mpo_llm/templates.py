"""Chat templates: the token ids of a conversation, and the answer in a response that also thinks.

Models that think write their thoughts between two marks, then the answer. Some templates open the
thoughts at the end of the prompt. What judges and readers get is the answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mpo_llm.responses import Ids
from mpo_llm.rows import short

SWITCHES = ("enable_thinking", "thinking")
"""The variables by which templates switch thinking on or off. A template ignores others."""

MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<mm:think>", "</mm:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""The marks at the beginning and the end of thoughts."""

_HEAD = 16
"""A mark at the beginning of a response has no more tokens."""


@dataclass(frozen=True, slots=True)
class Template:
    """How a model reads conversations. `Template.of` checks it."""

    tokenizer: Any
    """The model's tokenizer, which has the chat template."""
    chat: bool = True
    """Whether the chat template is used. Without it, messages are joined by empty lines."""
    name: str | None = None
    """The template's name, where the tokenizer has several; None is the default one."""
    thinking: bool | None = None
    """Whether the model thinks; None is the template's default."""

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        *,
        chat: bool = True,
        name: str | None = None,
        thinking: bool | None = None,
    ) -> Self:
        """The template of a tokenizer; without `chat`, or if it has none, plain texts are made.

        `ValueError` for a name that the tokenizer does not have, for a missing one if none of
        several templates is the default, and for `thinking` if the template cannot be switched.
        """
        found = getattr(tokenizer, "chat_template", None)
        chat = chat and found is not None
        if not chat and (name is not None or thinking is not None):
            setting = "template" if name is not None else "thinking"
            raise ValueError(
                f"`prompts.{setting}` needs a chat template, but "
                + ("the tokenizer has none." if found is None else "`prompts.chat` is false.")
            )
        names = list(found) if isinstance(found, Mapping) else []
        if chat and name is not None and name not in names:
            others = f"only {', '.join(names)}" if names else "but only one, without a name"
            raise ValueError(
                f"`prompts.template`: the tokenizer has no chat template {name!r}, {others}."
            )
        if chat and name is None and names and "default" not in names:
            raise ValueError(
                "The tokenizer has several chat templates and none of them is the default: set "
                f"`prompts.template` to one of {', '.join(names)}."
            )
        template = cls(tokenizer, chat, name, thinking)
        if thinking is not None and not template.switches():
            raise ValueError(
                f"`prompts.thinking: {str(thinking).lower()}`: the chat template cannot switch "
                f"thinking on or off (it makes the same text whatever {' and '.join(SWITCHES)} "
                "are). Leave the setting out."
            )
        return template

    @classmethod
    def suited(cls, tokenizer: Any, *, chat: bool, name: str | None, thinking: bool | None) -> Self:
        """As `of`, but what the tokenizer does not have is left out: another model is asked."""
        found = getattr(tokenizer, "chat_template", None) if chat else None
        named = isinstance(found, Mapping) and name in found
        plain = cls.of(tokenizer, chat=chat, name=name if named else None)
        return cls(tokenizer, plain.chat, plain.name, thinking if plain.switches() else None)

    def switches(self) -> bool:
        """Whether the template makes another text with thinking than without."""
        if not self.chat:
            return False
        asked = [{"role": "user", "content": "?"}]
        try:
            on, off = (
                Template(self.tokenizer, self.chat, self.name, thinking)._rendered(asked)
                for thinking in (True, False)
            )
        # A template may refuse this conversation; its error is told with the first prompt.
        except ValueError:
            return True
        return on != off

    def encode(self, messages: Sequence[Mapping[str, str]]) -> Ids:
        """The token ids of a conversation, up to the place where the model's answer begins.

        `ValueError` if the template refuses the conversation or leaves a message out.
        """
        if self.chat:
            # The template writes the special tokens itself.
            text = self._whole(messages)
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n\n".join(m["content"] for m in messages)
        found = _without_end(self.tokenizer, text, tuple(self.tokenizer(text)["input_ids"]))
        # A model needs at least one token to predict the next.
        if not found and self.tokenizer.bos_token_id is not None:
            return (self.tokenizer.bos_token_id,)
        return found

    def opened(self, prompt: Ids) -> str:
        """The mark by which a prompt, as `encode` makes it, opens the thoughts; empty if none."""
        if not self.chat:
            return ""
        text = str(self.tokenizer.decode(prompt[-_HEAD:])).rstrip()
        return next((begin for begin, _ in MARKS if text.endswith(begin)), "")

    def _whole(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of a conversation, with all its messages."""
        text = self._rendered(messages)
        for message in messages:
            # Templates drop the thoughts of earlier answers on purpose, but nothing else.
            if message["role"] != "assistant" and message["content"].strip() not in text:
                raise ValueError(
                    f"the model's chat template leaves out the message of the role "
                    f"{message['role']!r}, {short(message['content'])}. `prompts.chat: false` does "
                    "without the template."
                )
        return text

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that the chat template makes of a conversation."""
        switches = {} if self.thinking is None else dict.fromkeys(SWITCHES, self.thinking)
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=self.name,
                    tokenize=False,
                    add_generation_prompt=True,
                    **switches,
                )
            )
        # A template is a program, and fails in its own ways.
        except Exception as error:
            line = getattr(error, "lineno", None)
            place = "" if line is None else f" in its line {line}"
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"the model's chat template fails{place}: {reason}. Its roles are "
                f"{', '.join(dict.fromkeys(m['role'] for m in messages))}; `prompts.chat: false` "
                "does without the template."
            ) from error


@dataclass(frozen=True, slots=True)
class Said:
    """A response as text."""

    thoughts: str
    """The thoughts before the answer; empty if there are none."""
    answer: str
    """What judges and readers get: the rest. It is empty if the thoughts do not end."""
    ended: bool = True
    """Whether the thoughts end within the response, so that there is an answer."""


def said(tokenizer: Any, ids: Ids, opened: str = "") -> Said:
    """Thoughts and answer in a response, given without its end.

    A response thinks if its prompt has opened the thoughts, by the mark `opened`, or if it begins
    with a mark. The thoughts end at the first mark for their end, so that nothing that is said
    later is hidden. Special tokens are left out of the answer.
    """

    def decoded(part: Ids, plain: bool = True) -> str:
        return str(tokenizer.decode(part, skip_special_tokens=plain))

    head = decoded(ids[:_HEAD], plain=False).lstrip()
    # A model may open thoughts again that its prompt has opened, or close them at once.
    found = next((m for m in MARKS if head.startswith(m) or m[0] == opened), None)
    if found is None:
        return Said("", decoded(ids))
    begin, end = found
    # A mark may be a special token, or several tokens, so the text is searched: for the fewest
    # tokens that hold the end.
    count = bisect_left(range(len(ids) + 1), True, key=lambda n: end in decoded(ids[:n], False))
    thoughts, _, rest = decoded(ids[:count], plain=False).partition(end)
    thoughts = thoughts.strip().removeprefix(begin).strip()
    if count > len(ids):
        return Said(thoughts, "", ended=False)
    # The token that completes the mark may hold the beginning of the answer.
    return Said(thoughts, (rest + decoded(ids[count:])).lstrip())


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
