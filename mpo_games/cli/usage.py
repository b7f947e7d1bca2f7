"""Wrong command lines, told in a sentence: tyro draws boxes and names its own classes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, TypeVar, cast

T = TypeVar("T")

NUMBERS = {"INT": "a whole number", "FLOAT": "a number"}
"""What tyro calls the values of an option, in words."""


class WrongUsage(ValueError):
    """The command line is wrong; the message is a sentence."""


@contextmanager
def warnings_in_sentences(program: str) -> Iterator[None]:
    """Within this context a warning is one line on standard error, without a file and its code."""
    before = warnings.formatwarning

    def line(message: Warning | str, *_: object) -> str:
        return f"{program}: warning: {' '.join(str(message).split())}\n"

    # Not `showwarning`: who records warnings, such as a test, still gets them.
    # Python passes the file and its line by position, and nothing else is wanted of them here.
    warnings.formatwarning = cast(Any, line)
    try:
        yield
    finally:
        warnings.formatwarning = before


def in_sentences(parse: Callable[[], T], arguments: Sequence[str], program: str) -> T:
    """What `parse` returns; `WrongUsage` where tyro would end `program` with a box of text.

    `SystemExit` goes on if it is no error, as after `--help`.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse()
    except SystemExit as end:
        if not end.code:
            raise
        raise WrongUsage(sentence(said.getvalue(), arguments, program)) from None


def sentence(said: str, arguments: Sequence[str], program: str) -> str:
    """One sentence for what tyro `said` about the arguments of `program`."""
    text = _unboxed(said)
    if found := re.search(r"Error parsing (--?[\w.-]+): (.+)", text):
        option = found[1]
        wanted = re.search(rf"{option} \{{?(\w+)", text.split("Argument helptext:")[-1])
        kind = NUMBERS.get(wanted[1] if wanted else "", "another value")
        return f"`{option}` must be {kind}, got {_value(option, arguments)!r}."
    if found := re.search(
        r"invalid choice (.+) for argument '(.+?)'\. Expected one of \((.+?)\)", text
    ):
        choices = ", ".join(re.findall(r"'([^']*)'", found[3]))
        name = f"`{found[2]}`" if found[2].startswith("-") else found[2].upper()
        return f"{name} must be one of {choices}; got {found[1]}."
    # Older versions of tyro quote all names of the option.
    if found := re.search(r"Missing value for argument ['\"(]*([\w.-]+)", text):
        return f"`{found[1]}` needs a value."
    if found := re.search(r"Missing from (.+?): ", text):
        # Each argument that is needed: its name, what it is, and `(required)`.
        missing = text[found.end() :].split("(required)")[:-1]
        needed = " and ".join(words.split()[0] for words in missing if words.strip())
        return f"`{found[1]}` needs {needed or 'more'}; see `{found[1]} --help`."
    if "nrecognized" in text:
        return _unknown(text, arguments, program)
    return f"{text.split(' For full helptext')[0].rstrip('.')}."


def _unboxed(said: str) -> str:
    """The text in tyro's box, on one line and without its frame and colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    # Where the output is not known to be UTF-8, the frame is drawn in ASCII.
    lines = [line.strip("│| ") for line in plain.splitlines() if line[:1] not in "╭╰+"]
    return " ".join(" ".join(line for line in lines if line.strip("─-")).split())


def _value(option: str, arguments: Sequence[str]) -> str:
    """The value that was given to an option."""
    for i, word in enumerate(arguments):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option:
            return arguments[i + 1] if i + 1 < len(arguments) else ""
    return ""


def _first(listed: str) -> str:
    """The list at the beginning of a text, whose last word begins what follows."""
    names = re.match(r"[\w-]+(, [\w-]+)*", listed)
    return names[0] if names else listed


def _unknown(text: str, arguments: Sequence[str], program: str) -> str:
    """A sentence about words that no command knows at their place."""
    told = re.split(r" Perhaps you meant| Available subcommands| Arguments are applied", text)[0]
    listed = told.partition("options: ")[2]
    words = [word for word in re.split(r", | ", listed) if word in arguments]
    options = [word for word in words if word.startswith("-")]
    command = " ".join([program, *arguments[:1]])
    commands = re.search(r"Available subcommands: ([\w, -]+)", text)
    if commands and words and words[0] == arguments[0]:
        return f"there is no command {words[0]!r}: the commands are {_first(commands[1])}."
    if not options:
        odd = words[0] if words else listed
        return f"`{odd}` is not expected there; see `{command} --help`."
    meant = re.search(r"Perhaps you meant: (--[\w.-]+)", text)
    near = [m for m in re.findall(rf"in ({program}[\w -]*?) --help", text) if " " in m]
    option = options[0].partition("=")[0]
    if meant and meant[1] == option and near:
        # Of this command alone: the parser also names those of others.
        own = [owner for owner in near if owner.startswith(command)] or near
        owners = ", ".join(dict.fromkeys(owner.split()[-1] for owner in own))
        return (
            f"`{option}` stands behind the name of what it belongs to, such as {owners}; "
            f"see `{command} --help`."
        )
    hint = f": did you mean `{meant[1]}`?" if meant else f"; see `{command} --help`."
    return f"`{option}` is no option there{hint}"
