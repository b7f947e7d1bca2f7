"""Functions that a configuration names: factories of judges, scores and engines, or a judge itself.

A factory is told from a judge by its signature: a judge needs the prompts and the two responses,
which no option gives, and a factory can be called with its options alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast


def make(
    kind: str,
    factory: str,
    options: Mapping[str, Any],
    *arguments: Any,
    named: tuple[str, str],
    itself: Sequence[str] = (),
) -> Any:
    """Call `factory(*arguments, **options)` and return its result, which must be callable.

    `factory` reads `module:function` or `path/to/file.py:function`. `kind` (such as `a judge`) and
    `named`, the names of the two settings, are for error messages. `itself` names the arguments
    with which the result will be called: a function that needs them is the result itself, and
    `options` are further arguments of it. A function that can be called in both ways is a factory.

    `ValueError` if the function cannot be found, does not take these arguments or fails, and if the
    result of a factory is not callable, or cannot be called with the arguments `itself`.
    """
    setting, options_setting = named
    function = _found(setting, factory)
    if not _takes(function, *arguments, **options):
        # The values do not matter, only that there is one for each.
        if itself and _takes(function, *itself, **options):
            return partial(function, **options) if options else function
        nor = f" Nor is it {kind} itself, which is called with ({', '.join(itself)})."
        why, nor = _refusal(function, *arguments, **options), nor if itself else ""
        if itself and _takes(function, *itself):
            why, nor = _refusal(function, *itself, **options), ""
        raise ValueError(f"`{options_setting}` do not suit {factory!r}: {why}.{nor}")
    try:
        made = function(*arguments, **options)
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"`{setting}`: {factory!r} failed: {_said(error)}.") from error
    if not callable(made):
        raise ValueError(f"{factory!r} must return {kind}, a function, got {made!r}.")
    if itself and not _takes(made, *itself):
        raise ValueError(
            f"{factory!r} must return {kind}, which is called with ({', '.join(itself)}), but what "
            f"it returns cannot be: {_refusal(made, *itself)}."
        )
    return made


def _found(setting: str, factory: str) -> Callable[..., Any]:
    """The function of this address."""
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
    return cast(Callable[..., Any], function)


def _takes(function: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Whether a function can be called with these arguments, by its signature."""
    return _refusal(function, *arguments, **options) is None


def _refusal(function: Callable[..., Any], *arguments: Any, **options: Any) -> TypeError | None:
    """Why a function cannot be called with these arguments, by its signature; None if it can."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        return error
    except ValueError:
        pass  # a function written in C need not say what it takes
    return None


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
