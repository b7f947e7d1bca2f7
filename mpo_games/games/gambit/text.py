"""The words of Gambit's file formats: quoted text, numbers, braces; each with its line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NoReturn

from mpo_games.text_file import read_text

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]|[^\s{},"]+|"', re.DOTALL)
"""A text in quotes, a brace, or a word. Commas only separate, like blanks."""

ESCAPE = re.compile(r'\\(["\\])')

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?(/\d+)?")

SIMPLE = 10**6
"""A number is written as a fraction if one with at most this denominator rounds to it."""


@dataclass
class Tokens:
    """The words of a file, read one after the other. Errors name the file and the line."""

    path: Path
    text: str
    words: list[str] = field(init=False)
    """All tokens, and nothing for the end of the file."""
    at: int = 0
    """The number of the next token."""
    numbers: dict[str, Fraction] = field(default_factory=dict)
    """The numbers read so far: large games repeat few."""

    def __post_init__(self) -> None:
        self.words = [*TOKEN.findall(self.text), ""]

    @classmethod
    def of(cls, path: Path) -> Tokens:
        """The words of the file `path`."""
        return cls(path, read_text(path))

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """`ValueError` with the file, the line of a token (the last one read), and the reason."""
        place = self.at - 1 if at is None else at
        start = next(islice(TOKEN.finditer(self.text), place, None), None)
        end = len(self.text.rstrip()) if start is None else start.start()
        line = self.text.count("\n", 0, end) + 1
        # Texts in quotes may go over several lines, and a message must not.
        raise ValueError(f"{str(self.path)!r}, line {line}: {' '.join(reason.split())}")

    def peek(self) -> str:
        """The next token, which stays; nothing at the end of the file."""
        return self.words[self.at]

    def word(self, wanted: str) -> str:
        """The next token; the file must not end before `wanted`."""
        token = self.words[self.at]
        if not token:
            self.fail(f"the file ends before {wanted}.", self.at)
        self.at += 1
        return token

    def expect(self, token: str, wanted: str) -> None:
        """Read `token`, which stands for what is `wanted`."""
        got = self.word(wanted)
        if got != token:
            self.fail(f"expected {wanted}, got {got[:40]}.")

    def text_next(self) -> bool:
        """Whether a text in quotes comes next."""
        return self.peek().startswith('"')

    def quoted(self, wanted: str) -> str:
        """The next token, a text in quotes, without them."""
        token = self.word(wanted)
        if token == '"':
            self.fail(f"{wanted} has no closing quote.")
        if not token.startswith('"'):
            self.fail(f"expected {wanted} in quotes, got {token[:40]}.")
        inside = token[1:-1]
        return ESCAPE.sub(r"\1", inside) if "\\" in inside else inside

    def number(self, wanted: str) -> Fraction:
        """The next token, a number: `3`, `-0.5`, `1e-3` or `1/3`."""
        token = self.word(wanted)
        known = self.numbers.get(token)
        if known is not None:
            return known
        if not NUMBER.fullmatch(token):
            self.fail(f"expected {wanted}, a number, got {token[:40]}.")
        above, _, below = token.partition("/")
        if below and not int(below):
            self.fail(f"{wanted} divides by 0: {token[:40]}.")
        value = Fraction(above) / (int(below) if below else 1)
        try:
            float(value)
        except OverflowError:
            self.fail(f"{wanted} must be finite, got {token[:40]}.")
        self.numbers[token] = value
        return value

    def whole(self, wanted: str) -> int:
        """The next token, a whole number of at least 0."""
        token = self.word(wanted)
        if not (token.isdecimal() and token.isascii() and len(token) <= 18):
            self.fail(f"expected {wanted}, a whole number, got {token[:40]}.")
        return int(token)

    def header(self, kind: str, version: str, later: str) -> tuple[str, list[str]]:
        """The title and the players. `kind` and `version` open the file; `later` is the sentence
        for a file of another version."""
        self.expect(kind, f"{kind}, with which such a file begins")
        number = self.word("the version of the format")
        if number != version:
            self.fail(f"only {kind} {version} can be read, got {kind} {number}: {later}")
        digits = self.word("R or D, how numbers are meant")
        if digits not in ("R", "D"):
            self.fail(f"expected R or D after {kind} {version}, got {digits[:40]}.")
        title = self.quoted("the title")
        self.expect("{", "the list of players")
        players = []
        while self.peek() != "}":
            players.append(self.quoted("a player's name"))
        self.at += 1
        if len(players) != 2:
            self.fail(
                f"the game must have two players, it has {len(players)}: "
                f"{', '.join(players) or 'none'}."
            )
        return title, players

    def payoffs(self) -> tuple[Fraction, Fraction]:
        """Two payoffs in braces."""
        self.expect("{", "the payoffs")
        pair = self.number("player 1's payoff"), self.number("player 2's payoff")
        end = self.word("the end of the payoffs")
        if end != "}":
            self.fail(f"expected the end of the two payoffs, one per player, got {end[:40]}.")
        return pair


def quote(text: object) -> str:
    """A name in quotes, with single blanks for all white space, as Gambit demands of names."""
    inside = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    # Gambit escapes quotes only. A backslash is doubled just where it would escape something.
    inside = re.sub(r'\\(?=["\\]|$)', r"\\\\", inside).replace('"', '\\"')
    return f'"{inside}"'


def written(value: float) -> Fraction:
    """The number to write, which reads back to the same float64: simple, or a decimal."""
    if not math.isfinite(value):
        raise ValueError(f"A payoff must be finite, got {value}.")
    simple = Fraction(value).limit_denominator(SIMPLE)
    return simple if float(simple) == value else Fraction(repr(value))


def spelled(number: Fraction) -> str:
    """A number exactly: `1/3` if that is short, else a decimal if there is one."""
    rest = number.denominator
    if rest <= SIMPLE:
        return str(number)
    twos = (rest & -rest).bit_length() - 1
    rest >>= twos
    fives = 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest > 1:
        return str(number)
    places = max(twos, fives)
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def summing_to_1(weights: list[float]) -> list[Fraction]:
    """Exact probabilities in proportion to positive `weights`: Gambit adds them without rounding.

    They are simple fractions where these round to the weights.
    """
    total = math.fsum(weights)
    shares = [w / total for w in weights]
    simple = [Fraction(p).limit_denominator(SIMPLE) for p in shares]
    if sum(simple) == 1 and all(
        abs(float(s) - p) <= 1e-14 * p for s, p in zip(simple, shares, strict=True)
    ):
        return simple
    exact = [Fraction(repr(p)) for p in shares]
    # The largest share takes the rounding errors, of which it notices least.
    largest = shares.index(max(shares))
    exact[largest] += 1 - sum(exact)
    return exact
