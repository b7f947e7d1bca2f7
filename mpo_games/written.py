"""Settings written as in code, such as `MMD(eta=0.5, alpha=0.02, feedback=optimistic)`."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from math import ceil, log10
from typing import Any

import numpy as np

SHORT = 8
"""The most numbers of an array, or items of a container, that are written out."""

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def written(value: object) -> str:
    """`value` as it is written in code, on one line and without addresses.

    A dataclass shows its settings that differ from their defaults: by position if only one has no
    default, else by name. If it has a method `shorthand()` that gives a function and its
    arguments, this call is shown instead. A function shows its name.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, functools.partial):
        named = [f"{name}={written(item)}" for name, item in value.keywords.items()]
        return f"partial({', '.join([written(value.func), *map(written, value.args), *named])})"
    if inspect.ismethod(value):
        return f"{written(value.__self__)}.{value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray):
        if value.size <= SHORT:
            return " ".join(repr(value).split())
        return f"array of shape {value.shape}"
    if isinstance(value, (tuple, list)) and type(value).__repr__ in (tuple.__repr__, list.__repr__):
        items = [written(item) for item in value[:SHORT]] + ["..."] * (len(value) > SHORT)
        if isinstance(value, list):
            return f"[{', '.join(items)}]"
        return f"({', '.join(items)}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        pairs = [f"{written(key)}: {written(item)}" for key, item in list(value.items())[:SHORT]]
        return f"{{{', '.join(pairs + ['...'] * (len(value) > SHORT))}}}"
    return ADDRESS.sub("", " ".join(repr(value).split()))


def counted(number: float, noun: str, many: str = "") -> str:
    """A number of things in words: "1 battle", "1,200 battles"; `many` is an irregular plural."""
    return f"{number:,.10g} {plural(number, noun, many)}"


def plural(number: float, noun: str, many: str = "") -> str:
    """The noun for this number of things."""
    return noun if number == 1 else many or f"{noun}s"


def up_to(number: float, error: float) -> float:
    """A number without the digits that an error of this size makes meaningless."""
    digits = 12 if error <= 1e-12 else ceil(-log10(error))
    # Adding 0 turns -0 into 0.
    return round(number, digits) + 0.0


Shorthand = tuple[Callable[..., Any], Mapping[str, Any]]
"""A function, and the arguments with which it makes a value."""


def first_that_makes(value: object, readings: Iterable[Shorthand]) -> Shorthand | None:
    """The first reading whose function makes just this value; None if none does."""
    return next(((make, s) for make, s in readings if same(make(**s), value)), None)


def call(function: Callable[..., Any], settings: Mapping[str, Any]) -> str:
    """A call of `function`, without arguments that are the defaults."""
    known = inspect.signature(function).parameters.values()
    defaults = {p.name: MISSING if p.default is p.empty else p.default for p in known}
    return _call(function.__name__, defaults, settings)


def _object(value: Any) -> str:
    kind = type(value)
    shorthand = getattr(value, "shorthand", None)
    if callable(shorthand) and (found := shorthand()) is not None:
        return call(*found)
    # A repr of its own says more than its fields.
    if not _by_fields(kind):
        return ADDRESS.sub("", " ".join(repr(value).split()))
    defaults = {}
    for part in fields(value):
        if part.repr and part.init:
            made: Any = part.default_factory
            plain = part.default
            # Not by identity: a class that was sent to another process has a `MISSING` of its own.
            if not isinstance(made, type(MISSING)):
                defaults[part.name] = made()
            else:
                defaults[part.name] = MISSING if isinstance(plain, type(MISSING)) else plain
    return _call(kind.__name__, defaults, {name: getattr(value, name) for name in defaults})


def _by_fields(kind: type) -> bool:
    """Whether the repr is `written` itself, or the one that `dataclass` makes."""
    own: Any = kind.__repr__
    return own is written or inspect.unwrap(own).__code__.co_filename == "<string>"


def _call(name: str, defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    needed = [key for key, default in defaults.items() if default is MISSING]
    parts = []
    for key, default in defaults.items():
        if key not in settings or same(settings[key], default):
            continue
        text = written(settings[key])
        parts.append(text if needed == [key] else f"{key}={text}")
    return f"{name}({', '.join(parts)})"


def same(one: object, other: object) -> bool:
    """Whether two settings are the same object or equal; arrays are only compared as objects."""
    if one is other:
        return True
    try:
        return bool(one == other)
    # Arrays give many answers.
    except ValueError:
        return False
