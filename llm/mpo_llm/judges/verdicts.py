r"""Verdicts: which response a chat model prefers, from its text and its log-probabilities.

The preference is $P = (p_A + p_{tie}/2) / (p_A + p_B + p_{tie})$, from the probabilities of the
tokens that could stand where the verdict stands; or 1, 0 and 1/2, where the server gives none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

A, B, TIE = "A", "B", "tie"

PREFERENCES: Mapping[str, float] = {A: 1.0, B: 0.0, TIE: 0.5}
"""The preference for the first response that each verdict stands for."""

_WORDS = {"A": A, "B": B, "C": TIE, "TIE": TIE, "DRAW": TIE, "EQUAL": TIE, "BOTH": TIE}
_WORDS |= {"NEITHER": TIE, "NONE": TIE, "SAME": TIE}

_FIELDS = "verdict|winner|preferred|preference|better|best|choice|answer|decision|result|judge?ment"
_NOUN = "(?i:response|answer|option|assistant|choice|candidate|completion)"

_THOUGHT = re.compile(r".*</(?:think|thinking|thought|reasoning)>", re.S | re.I)
_THINKING = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.I)
_FIELD = re.compile(rf"[\"'](?:{_FIELDS})[\"']\s*:\s*[\"']?(?P<value>[^\"',}}\n]*)", re.I)
_MARKED = re.compile(r"(?:\[\[|\\boxed\{(?:\\text\{)?)\s*(?P<letter>A|B|C|tie)\s*(?:\]\]|\})", re.I)
_WHOLE = re.compile(rf"(?:{_NOUN} )?(?P<letter>(?i:A|B|C|tie|draw|equal|both|neither|none|same))")
# "A" is an article where another word follows than these.
_LETTER = r"(?P<letter>B|A(?!\s+(?!is\b|because\b|since\b|wins\b|by\b|as\b)[a-z]|'))\b"
# "Answer: B", "the better response is **A**", "I prefer A".
_NAMED = re.compile(
    rf"\b(?i:{_FIELDS}|prefer|choose|pick|conclusion)\b(?:\s+(?i:response|answer|option|one|choice|"
    rf"verdict|is)){{0,6}}[^\w\n]{{0,20}}\s{{0,4}}(?:{_NOUN}[^\w\n]{{0,20}}\s)?[^\w\n]{{0,20}}\b{_LETTER}"
)
_BETTER = re.compile(
    r"\b(?P<letter>A|B)\W{0,3}\s+(?:is|was|seems|looks)\s+(?:(?!not|no|never|hardly|less)\w+\s+){0,2}"
    r"(?:better|best|preferable|preferred|superior|stronger)\b"
)
_TIED = re.compile(
    r"(?<!not )\ba\s+(?P<letter>tie|draw)\b|(?i:answer|verdict)\W+(?P<word>tie|draw)\b"
)
# A letter that opens the answer and is no article: "A. It is shorter", "B\n\nBecause".
_OPENS = re.compile(
    rf"\W*(?:{_NOUN}\s+)?(?P<letter>A|B)(?:\W*\n|\*{{1,2}}\s|[.:,;)\]]|\s+\(|\s*[-\u2013\u2014]\s)"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict, and where its word begins in the text."""

    word: str
    """`A`, `B` or `tie`."""
    at: int


def parse(text: str, *, cut: bool = False) -> Verdict | None:
    """The verdict in the text of an answer, or None if there is none.

    Read are JSON with a field such as `verdict` or `winner`; a letter or `tie` alone, whatever
    marks and words such as `Response` stand around it; `[[A]]`; a sentence that names the letter,
    such as `Answer: B` or `A is better`, the last if there are several; and a letter that opens the
    answer. The thoughts of a model, `<think>...</think>`, are skipped; where they do not end, there
    is no verdict.

    `cut` says that the answer reached its greatest length. What it says in the middle may be a
    thought then, so only its first letter and JSON count.
    """
    thought = _THOUGHT.match(text)
    start = thought.end() if thought else 0
    said = text[start:]
    if _THINKING.search(said):
        return None
    found = _in_json(said) or _alone(said)
    if found is None and not cut:
        found = _last(said, _MARKED) or _last(said, _NAMED, _BETTER, _TIED)
        if re.search(r"\bneither\b", said, re.I):
            return None
    if found is None and (opening := _OPENS.match(said)):
        found = _verdict(opening)
    return None if found is None else Verdict(found.word, start + found.at)


def preference(text: str, logprobs: object, *, cut: bool = False) -> float | None:
    """The preference for the first response in an answer, or None if it holds no verdict.

    `logprobs` is the field of that name of a choice of a chat completion. Where it is missing or
    strange, the verdict of the text counts. `cut` is as in `parse`.
    """
    verdict = parse(text, cut=cut)
    if verdict is None:
        return None
    weighed = _weighed(text, verdict, _tokens(logprobs))
    return PREFERENCES[verdict.word] if weighed is None else weighed


def _in_json(said: str) -> Verdict | None:
    found = _FIELD.search(said) if "{" in said else None
    whole = None if found is None else _WHOLE.fullmatch(_core(found["value"]))
    if found is None or whole is None:
        return None
    letter = whole["letter"]
    # The letter stands at the end of its value, perhaps after "Response".
    return Verdict(_WORDS[letter.upper()], found.start("value") + found["value"].rindex(letter))


def _alone(said: str) -> Verdict | None:
    whole = _WHOLE.fullmatch(_core(said))
    if whole is None:
        return None
    return Verdict(_WORDS[whole["letter"].upper()], said.rindex(whole["letter"]))


def _core(text: str) -> str:
    """The words of a text, without marks such as those of Markdown."""
    return " ".join(re.findall(r"[^\W_]+", text))


def _last(said: str, *patterns: re.Pattern[str]) -> Verdict | None:
    found = [_verdict(match) for pattern in patterns for match in pattern.finditer(said)]
    return max(found, key=lambda v: v.at, default=None)


def _verdict(match: re.Match[str]) -> Verdict:
    groups = match.groupdict()
    name = "letter" if groups["letter"] else "word"
    return Verdict(_WORDS[match[name].upper()], match.start(name))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    alternatives: Sequence[tuple[str, float]]
    """Tokens that could stand here, itself among them, with their log-probabilities."""


def _tokens(logprobs: object) -> list[_Token]:
    """The tokens of an answer; none if anything about them is strange."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    try:
        return [_token(each) for each in content or ()]
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return []


def _token(each: Mapping[str, object]) -> _Token:
    top = each.get("top_logprobs") or ()
    if not isinstance(top, Sequence) or not isinstance(each["token"], str):
        raise TypeError
    pairs = {str(t["token"]): float(t["logprob"]) for t in (*top, each)}
    if not all(value <= 1e-3 for value in pairs.values()):  # NaN as well
        raise ValueError
    return _Token(each["token"], tuple(pairs.items()) if top else ())


def _weighed(text: str, verdict: Verdict, tokens: Sequence[_Token]) -> float | None:
    """The preference by the probabilities at the token that holds the verdict."""
    joined = "".join(token.text for token in tokens)
    # Some servers leave thoughts and ends out of the text, and not out of the tokens.
    start = joined.rfind(text)
    end = 0
    for token in tokens if start >= 0 else ():
        end += len(token.text)
        if start + verdict.at < end:
            return _mean(token.alternatives, text[verdict.at])
    return None


def _mean(alternatives: Sequence[tuple[str, float]], said: str) -> float | None:
    mass = dict.fromkeys(PREFERENCES, 0.0)
    # A small "a" is an article, unless the verdict itself is written so.
    small = said in "ab"
    for text, logprob in alternatives:
        word = _meant(_core(text).upper() if small else _core(text))
        if word is not None:
            mass[word] += math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    return sum(PREFERENCES[word] * p for word, p in mass.items()) / total if total > 0.0 else None


def _meant(token: str) -> str | None:
    """The verdict that begins with a token, None if none does."""
    if token in (A, B):
        return token
    whole = len(token) > 1  # a single letter begins too many other words
    ties = whole and any(word.startswith(token.upper()) for word in ("TIE", "DRAW", "EQUAL"))
    return TIE if ties else None
