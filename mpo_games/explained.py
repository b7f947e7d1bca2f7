"""What `help()` shows of the public names: defaults as they are written, and what fields mean.

Python's own signatures print functions with their addresses, and `help()` leaves out the texts
below the fields of a dataclass. Both are mended here for all public names at once.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from mpo_games.written import written

FIELDS = "Fields:"
"""The line above the fields. The built reference lists them by itself, and leaves them out here."""


class _Parameter(inspect.Parameter):
    """A parameter whose default prints as it is written in code."""

    def __str__(self) -> str:
        default = self.default if self.default is self.empty else _Text(written(self.default))
        plain = inspect.Parameter(self.name, self.kind, default=default, annotation=self.annotation)
        return str(plain)


class _Text(str):
    """A text that prints without quotes."""

    __slots__ = ()

    __repr__ = str.__str__


class _Doc(str):
    """The docstring of a class, with its fields: read from the source when somebody asks.

    A text itself, because `help()` takes it as it is where a metaclass has a docstring of its own,
    as that of protocols has. Such a docstring names its fields.
    """

    whole: str | None = None

    def __get__(self, one: object, kind: type) -> str:
        if self.whole is None:
            meanings = _meanings(kind)
            lines = [
                textwrap.fill(
                    f"{name}: {' '.join(meaning.split())}",
                    96,
                    subsequent_indent="        ",
                    initial_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                for name, meaning in meanings.items()
            ]
            text = inspect.cleandoc(str(self))
            self.whole = "\n".join([text, "", FIELDS, *lines]) if lines else text
        return self.whole


def explain(public: Iterable[object]) -> None:
    """Give these functions and dataclasses readable signatures, and the classes their fields."""
    for one in public:
        if inspect.isfunction(one):
            _sign(one, {})
        elif isinstance(one, type) and is_dataclass(one):
            made = {part.name: part.default_factory for part in fields(one)}
            # Not on the class: a class that inherits from it has other fields.
            if "__init__" in vars(one):
                _sign(one.__init__, made)
            if isinstance(text := vars(one).get("__doc__"), str):
                type.__setattr__(one, "__doc__", _Doc(text))


def _sign(function: Any, made: dict[str, Any]) -> None:
    """Let the signature of `function` print its defaults as they are written.

    `made` has the factories of fields: their values are made anew for each object.
    """
    plain = inspect.signature(function)
    shown = []
    for one in plain.parameters.values():
        default = one.default
        if repr(default) == "<factory>":
            default = _Text(written(made[one.name]()))
        shown.append(_Parameter(one.name, one.kind, default=default, annotation=one.annotation))
    function.__signature__ = plain.replace(parameters=shown)


def _meanings(kind: type) -> dict[str, str]:
    """The text below each field that a caller may set, those of parents too."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        found |= dict(_texts(one)) if is_dataclass(one) else {}
    wanted = [part.name for part in fields(kind) if part.init]
    return {name: found[name] for name in wanted if name in found}


def _texts(kind: type) -> Iterator[tuple[str, str]]:
    """The names in a class's source that are followed by a text, with this text."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
        body = ast.parse(source).body[0]
    # Typed into an interpreter, or delivered without sources.
    except (OSError, TypeError, SyntaxError):
        return
    assert isinstance(body, ast.ClassDef)
    for one, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield one.target.id, text
