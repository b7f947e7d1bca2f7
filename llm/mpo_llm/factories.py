"""Factories: functions that a configuration names, for judges, scores and engines."""

from __future__ import annotations

import importlib
import importlib.util
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
    cannot be found or called, and if its result is not callable.
    """
    setting, options_setting = named
    place, _, name = factory.rpartition(":")
    if not place or not name:
        raise ValueError(
            f"`{setting}` must read `module:function` or `file.py:function`, got {factory!r}."
        )
    module = _file(setting, Path(place)) if place.endswith(".py") else _module(setting, place)
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"`{setting}`: there is no function {name!r} in {place!r}.")
    try:
        made = function(*arguments, **options)
    # Python reports wrong or missing arguments by this error; others are the factory's own.
    except TypeError as error:
        raise ValueError(f"`{options_setting}` do not suit {factory!r}: {error}.") from error
    if not callable(made):
        raise ValueError(f"{factory!r} must return {kind}, a function, got {made!r}.")
    return made


def _module(setting: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"`{setting}`: cannot import {name!r}: {error}.") from error


def _file(setting: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"`{setting}`: there is no file {str(path)!r}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses look up the module of their class.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
