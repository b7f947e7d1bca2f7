"""The judge that a configuration names: any factory, by module or file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mpo_llm.config import JudgeConfig
from mpo_llm.judges.protocol import Judge


def load(settings: JudgeConfig) -> Judge:
    """`factory(**options)`. `ValueError`, in a sentence, for what cannot be found or called."""
    place, _, name = settings.factory.rpartition(":")
    if not place or not name:
        raise ValueError(
            f"`judge.factory` must read `module:function` or `file.py:function`, "
            f"got {settings.factory!r}."
        )
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ValueError(f"`judge.factory`: there is no function {name!r} in {place!r}.")
    try:
        judge = factory(**settings.options)
    except TypeError as error:
        raise ValueError(f"`judge.options` do not suit {settings.factory!r}: {error}.") from error
    if not callable(judge):
        raise ValueError(f"{settings.factory!r} must return a judge, a function, got {judge!r}.")
    found: Judge = judge
    return found


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"`judge.factory`: cannot import {name!r}: {error}.") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"`judge.factory`: there is no file {str(path)!r}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
