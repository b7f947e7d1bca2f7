"""Runs' settings as YAML files: read with their types checked, and written back."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from mpo_llm.config import Config

C = TypeVar("C")


def load(path: str | Path) -> Config:
    """Read a YAML file. `ValueError`, in a sentence, for what is no configuration."""
    source = Path(path)
    try:
        found = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{str(path)!r} is not YAML: {said}.") from error
    return parse(Config, {} if found is None else found)


def dump(config: Config) -> str:
    """The YAML that `load` reads back to the same configuration."""
    return str(yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True))


def parse(kind: type[C], found: Any, where: str = "") -> C:
    """A dataclass from a mapping, its types checked. `ValueError` names the field."""
    if not isinstance(found, Mapping):
        raise ValueError(f"`{where or 'the file'}` must hold `name: value` lines, got {found!r}.")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in fields(typing.cast(Any, kind))]
    values = {}
    for name, value in found.items():
        path = f"{where}.{name}" if where else str(name)
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}."
            raise ValueError(f"There is no setting `{path}`: {hint}")
        values[name] = _value(hints[name], value, path)
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as what `hint` asks for."""
    if is_dataclass(hint):
        return parse(typing.cast(type[Any], hint), {} if value is None else value, where)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None and type(None) in parts:
            return None
        return _value(next(p for p in parts if p is not type(None)), value, where)
    if origin is Literal:
        if value not in parts:
            raise ValueError(
                f"`{where}` must be one of {', '.join(map(str, parts))}, got {value!r}."
            )
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        if len(kinds) != len(value):
            raise ValueError(f"`{where}` must hold {len(kinds)} values, got {value!r}.")
        return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-5 as a text.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    wanted = getattr(hint, "__name__", "list")
    raise ValueError(f"`{where}` must be a {wanted}, got {value!r}.")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value
