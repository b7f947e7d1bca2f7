"""Factories: functions that a configuration names, for judges, scores and engines."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def make(
    kind: str,
    factory: str,
    options: Mapping[str, Any],
    *arguments: Any,
    named: tuple[str, str],
) -> Any:
    """Call `factory(*arguments, **options)` and return its result, which must be callable.

    `factory` reads `module:function` or `path/to/file.py:function`. `kind` (such as `a judge`) and
    `named`, the names of the two settings, are for error messages. `ValueError` if the factory
    cannot be found, does not take these arguments or fails, and if its result is not callable.
    """
    setting, options_setting = named
    place, _, name = factory.rpartition(":")
    if not place or not name:
        raise ValueError(
            f"`{setting}` must read `module:function` or `file.py:function`, got "
            f"{repr(factory) if factory else 'nothing'}."
        )
    module = _file(setting, Path(place)) if place.endswith(".py") else _module(setting, place)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"`{setting}`: there is no function {name!r} in {place!r}.")
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        raise ValueError(f"`{options_setting}` do not suit {factory!r}: {error}.") from error
    except ValueError:
        pass  # a function written in C need not say what it takes
    try:
        made = function(*arguments, **options)
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"`{setting}`: {factory!r} failed: {_said(error)}.") from error
    if not callable(made):
        raise ValueError(f"{factory!r} must return {kind}, a function, got {made!r}.")
    return made


def _module(setting: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ValueError(f"`{setting}`: cannot import {name!r}: {_said(error)}.") from error


def _file(setting: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"`{setting}`: there is no file {str(path)!r}.")
    # No import has this name, so that a file may be called like a module, such as `json.py`.
    name = f"file:{path.resolve()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses look up the module of their class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"`{setting}`: cannot run {str(path)!r}: {_said(error)}.") from error
    return module


def _said(error: Exception) -> str:
    """The message of an error on one line; its type as well, unless an import has failed."""
    text = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).rstrip(".: ")
