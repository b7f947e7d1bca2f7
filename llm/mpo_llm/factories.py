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
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from mpo_llm.spelling import nearest


def make(
    kind: str,
    factory: str,
    options: Mapping[str, Any],
    *arguments: Any,
    named: tuple[str, str],
    itself: Sequence[str] = (),
    known: Sequence[str] = (),
) -> Any:
    """Call `factory(*arguments, **options)` and return its result, which must be callable.

    `factory` reads `module:function` or `path/to/file.py:function`. `kind` (such as `a judge`) and
    `named`, the names of the two settings, are for error messages. `itself` names the arguments
    with which the result will be called: a function that needs them is the result itself, and
    `options` are further arguments of it. A function that can be called in both ways is a factory.
    `known` are addresses, of which the nearest is proposed for a name that is none.

    `ValueError` if the function cannot be found, does not take these arguments or fails, and if the
    result of a factory is not callable, or cannot be called with the arguments `itself`.
    """
    setting, options_setting = named
    function = _found(setting, factory, known)
    if not _takes(function, *arguments, **options):
        # The values do not matter, only that there is one for each.
        if itself and _needs(function, *itself, **options):
            return partial(function, **options) if options else function
        lacking = _lacking(function, *arguments, **options)
        if lacking:
            if itself and set(itself) <= set(lacking):
                lacking = [name for name in lacking if name not in itself] or lacking
            call = f"; {kind} itself is called with ({', '.join(itself)})" if itself else ""
            raise ValueError(f"{factory!r} needs `{options_setting}`: {', '.join(lacking)}{call}.")
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


def _found(setting: str, factory: str, known: Sequence[str]) -> Callable[..., Any]:
    """The function of this address."""
    place, _, name = factory.rpartition(":")
    if not place or not name:
        by_name = {address.rpartition(":")[2]: address for address in known}
        raise ValueError(
            f"`{setting}` must read `module:function` or `file.py:function`, got "
            f"{repr(factory) if factory else 'nothing'}{_hint(name, by_name)}"
        )
    module = _file(setting, Path(place)) if place.endswith(".py") else _module(setting, place)
    function = getattr(module, name, None)
    if not callable(function):
        public = (n for n in dir(module) if not n.startswith("_"))
        there = {n: f"{place}:{n}" for n in public if callable(getattr(module, n))}
        raise ValueError(
            f"`{setting}`: there is no function {name!r} in {place!r}{_hint(name, there)}"
        )
    return cast(Callable[..., Any], function)


def _hint(name: str, addresses: Mapping[str, str]) -> str:
    """The end of a sentence: a question with the address of the nearest name, or a full stop."""
    known = nearest(name, addresses)
    return "." if known is None else f": did you mean `{addresses[known]}`?"


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


def _needs(function: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
    """Whether a function can be called with these arguments, and cannot do without the first ones.

    A factory may take as many, but where it has defaults they are options.
    """
    if not _takes(function, *arguments, **options):
        return False
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    known = [p for p in _parameters(function) if p.kind in places]
    return all(p.default is Parameter.empty for p in known[: len(arguments)])


def _lacking(function: Callable[..., Any], *arguments: Any, **options: Any) -> list[str]:
    """The names of the parameters that still need a value; none if these arguments are wrong."""
    try:
        given = inspect.signature(function).bind_partial(*arguments, **options).arguments
    except (TypeError, ValueError):
        return []
    places = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    needed = (p for p in _parameters(function) if p.default is Parameter.empty)
    return [p.name for p in needed if p.kind in places and p.name not in given]


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function; none if it does not tell them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # a function written in C need not
        return []


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
