"""Who may import whom: a room imports only rooms on lower floors (`docs/architecture.md`)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"mpo_games": ROOT / "mpo_games", "mpo_llm": ROOT / "llm" / "mpo_llm"}


def room(module: str) -> str:
    """The module or folder that stands directly in the package."""
    return module.split(".")[1]


def floors(package: str) -> dict[str, int]:
    """The floor of each room, as the table of the page has it."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split(f"| | `{package}` |\n| --- | --- |\n")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table, re.M)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}


def imported(path: Path, packages: tuple[str, ...]) -> Iterator[str]:
    """The names that a file imports from `packages`, anywhere in it: `package.module.name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.split(".")[0] in packages)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down(package: str) -> None:
    folder, floor = PACKAGES[package], floors(package)
    for path in sorted(folder.rglob("*.py")):
        here = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
        if room(here) == "__init__":
            continue
        for module in imported(path, (package,)):
            if "." in module and room(module) != room(here):
                assert floor[room(module)] < floor[room(here)], f"{here} imports {module}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_a_floor(package: str) -> None:
    rooms = {p.stem for p in PACKAGES[package].iterdir() if p.suffix == ".py"}
    rooms |= {p.parent.name for p in PACKAGES[package].glob("*/__init__.py")}
    assert rooms - {"__init__"} == set(floors(package))


def test_the_core_does_not_know_the_adapter() -> None:
    for path in PACKAGES["mpo_games"].rglob("*.py"):
        assert not list(imported(path, ("mpo_llm", "torch"))), path


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_modules(package: str) -> None:
    """Following the imports of a module never leads back to it, within a room either."""
    folder = PACKAGES[package]
    paths = {
        ".".join([package, *p.relative_to(folder).with_suffix("").parts]): p
        for p in folder.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    graph = {
        module: {n if n in modules else n.rpartition(".")[0] for n in imported(path, (package,))}
        for module, path in modules.items()
    }
    left = set(graph)
    while ready := {module for module in left if not graph[module] & left}:
        left -= ready
    assert not left, f"a circle among {sorted(left)}"
