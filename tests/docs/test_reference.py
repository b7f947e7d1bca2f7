"""The reference has every public name, and calls a class a class and a function a function."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import mpo_games

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
DIRECTIVES = re.findall(r"^\.\. auto(\w+):: (\S+)\n((?:   :.*\n)*)", PAGE, re.M)
"""Kind, name and options of each entry."""

EARLIER = {"AverageOf", "Mixed", "WhenSettled", "WhenSolved", "build", "describe", "names"} | {
    "exact_trees",
    "divergence",
    "preferences",
    "Generator",
}
"""Names that are kept for older scripts: the reference does not advertise them."""


def find(name: str) -> object:
    """The object that a dotted name means; a function before a module of the same name."""
    package, *parts = name.split(".")
    found: object = importlib.import_module(package)
    for i, part in enumerate(parts):
        if not hasattr(found, part):
            importlib.import_module(".".join([package, *parts[: i + 1]]))
        found = getattr(found, part)
    return found


def documented(package: str) -> set[int]:
    """The identities of everything that the page documents of a package."""
    objects: list[object] = []
    for kind, name, options in DIRECTIVES:
        if name.split(".")[0] != package:
            continue
        found = find(name)
        objects.append(found)
        listed = re.search(r":members: (.+)", options)
        if kind == "module" and listed:
            objects += [getattr(found, member) for member in listed[1].split(", ")]
        elif kind == "module" and ":members:" in options:
            # A bare `:members:` takes what the module itself defines.
            objects += [v for v in vars(found).values() if inspect.getmodule(v) is found]
    return {id(o) for o in objects}


def public(package: ModuleType) -> dict[str, object]:
    """The names that `import package` gives, without modules and earlier names."""
    # `dir`, because the adapter's names are imported when they are first asked for.
    names = {n: getattr(package, n) for n in dir(package) if not n.startswith("_")}
    return {n: v for n, v in names.items() if not inspect.ismodule(v) and n not in EARLIER}


@pytest.mark.parametrize("package", ["mpo_games", "mpo_llm"])
def test_every_public_name_is_documented(package: str) -> None:
    if package == "mpo_llm":
        pytest.importorskip("torch")
    known = documented(package)
    missing = [n for n, v in public(importlib.import_module(package)).items() if id(v) not in known]
    assert not missing


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n, _ in DIRECTIVES])
def test_every_entry_is_of_its_kind(kind: str, name: str) -> None:
    if name.startswith("mpo_llm"):
        pytest.importorskip("torch")
    found = find(name)
    kinds = {"class": inspect.isclass, "function": callable, "module": inspect.ismodule}
    assert kind == "data" or kinds[kind](found), name
    assert kind != "function" or not inspect.isclass(found), name


def test_the_earlier_names_are_names_of_the_package() -> None:
    for name in ("WhenSolved", "WhenSettled", "AverageOf", "Mixed", "build", "names", "describe"):
        assert callable(getattr(mpo_games, name))
