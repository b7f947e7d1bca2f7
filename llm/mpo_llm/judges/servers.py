"""Judges and scores behind HTTP: chat models with a rubric, and reward models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mpo_games.checks import require_kind
from mpo_games.protocol import Array
from mpo_llm.judges import verdicts
from mpo_llm.judges.endpoint import Body, Endpoint
from mpo_llm.judges.language_model import QUESTION, RUBRIC

SETTINGS: Body = {"temperature": 0, "max_tokens": 16, "logprobs": True, "top_logprobs": 20}
"""What is sent beside the model and the question. Among five alternatives the other letter is often
missing where a small model judges; some servers give no more than five."""


@dataclass(frozen=True, slots=True, eq=False)
class ChatJudge:
    """A chat model behind an OpenAI-compatible server, asked which of two responses is better.

    The preference comes from the log-probabilities of the verdict where the server gives them, and
    from the verdict alone elsewhere; see `verdicts`. A comparison has failed (NaN) if the request
    has, or if the answer holds no verdict. Each comparison is one request, in one order: wrap this
    judge in `OrderDebiased`, because chat models favour one of the two places.

    `ValueError` for a question without the fields of both responses.
    """

    endpoint: Endpoint
    """The address of `chat/completions`."""
    model: str
    """The name of the model, as the server knows it."""
    rubric: str = RUBRIC
    """The criterion, a sentence that the question begins with."""
    question: str = QUESTION
    """The whole question, with the fields `{rubric}`, `{prompt}`, `{a}` and `{b}`. Other braces,
    such as those of JSON, are written twice."""
    settings: Body = field(default_factory=dict)
    """Fields of the request, over `SETTINGS`; a field that is None is left out."""

    def __post_init__(self) -> None:
        require_kind("model", self.model, str, "`Qwen/Qwen3-8B`")
        require_kind("settings", self.settings, Mapping, "`{'max_tokens': 16}`")
        try:
            asked = self._asked("", "\0a", "\0b")
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"`question` has the fields {{rubric}}, {{prompt}}, {{a}} and {{b}}, and other "
                f"braces twice: {error!r}."
            ) from None
        if "\0a" not in asked or "\0b" not in asked:
            raise ValueError("`question` must have the fields {a} and {b}, the two responses.")

    @property
    def counts(self) -> Counter[str]:
        """The counts of the endpoint."""
        return self.endpoint.counts

    @property
    def reason(self) -> str:
        """Why the last comparison that failed did, or nothing."""
        return self.endpoint.reason

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """The preferences `(N,)` for each `a` over its `b`; NaN where there is no verdict."""
        bodies = [self._body(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        return self.endpoint.numbers("verdict 1", bodies, _verdict)

    def _body(self, prompt: str, a: str, b: str) -> Body:
        messages = [{"role": "user", "content": self._asked(prompt, a, b)}]
        found = {"model": self.model, "messages": messages, **SETTINGS, **self.settings}
        return {name: value for name, value in found.items() if value is not None}

    def _asked(self, prompt: str, a: str, b: str) -> str:
        return self.question.format(rubric=self.rubric, prompt=prompt, a=a, b=b)


def _verdict(answer: Any) -> float | None:
    """The preference in a chat completion, None without a verdict."""
    choice = answer["choices"][0]
    text = choice["message"].get("content") or ""
    # Some servers answer in parts, of which thoughts are no text.
    if isinstance(text, list):
        text = "".join(part.get("text", "") for part in text)
    cut = choice.get("finish_reason") == "length"
    return verdicts.preference(text, choice.get("logprobs"), cut=cut)


class Form(Protocol):
    """The form of the requests and answers of a server of scores."""

    @property
    def kind(self) -> str:
        """What is read from an answer."""
        ...

    def body(self, prompt: str, response: str) -> Body:
        """The request for the score of a response."""
        ...

    def read(self, answer: Any) -> float | None:
        """The score in an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """The form `{"prompt": text, "response": text}`, answered by `{"score": number}`."""

    kind: str = field(default="score 1", init=False)

    def body(self, prompt: str, response: str) -> Body:
        """Both texts."""
        return {"prompt": prompt, "response": response}

    def read(self, answer: Any) -> float | None:
        """The field `score`."""
        return _number(answer["score"])


@dataclass(frozen=True, slots=True)
class Classified:
    """The form of `/classify` of vLLM, for reward models with a single output.

    Prompt and response are sent as a conversation, which the server puts into the model's chat
    template. The score is the output itself, without its activation.
    """

    model: str
    kind: str = field(default="classify 1", init=False)

    def body(self, prompt: str, response: str) -> Body:
        """A conversation of the two."""
        turns = (("user", prompt), ("assistant", response))
        messages = [{"role": role, "content": text} for role, text in turns]
        return {"model": self.model, "messages": messages, "use_activation": False}

    def read(self, answer: Any) -> float | None:
        """The only output; `ValueError` for a model with several."""
        (output,) = answer["data"][0]["probs"]
        return _number(output)


@dataclass(frozen=True, slots=True, eq=False)
class ServedScore:
    """A score behind HTTP: a number for each prompt and response; NaN where the server fails."""

    endpoint: Endpoint
    form: Form = Plain()

    @property
    def counts(self) -> Counter[str]:
        """The counts of the endpoint."""
        return self.endpoint.counts

    @property
    def reason(self) -> str:
        """Why the last score that failed did, or nothing."""
        return self.endpoint.reason

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The scores `(N,)`."""
        bodies = [self.form.body(*row) for row in zip(prompts, responses, strict=True)]
        return self.endpoint.numbers(self.form.kind, bodies, self.form.read)


def _number(value: object) -> float:
    """A number that is no text and no flag."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)
