"""The code and the libraries that a module runs, found by its imports.

The cache of `harness.py` puts a digest of them into the key of a cell: edited code never meets an
old result.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]

FOLDERS = {"experiments": "experiments", "mpo_games": "mpo_games", "mpo_llm": "llm/mpo_llm"}
"""The packages of this repository and where they are."""

LIST = "experiments"
"""The package whose own module is the list of the figures, on which no result depends."""

DRAWN = ("experiments.lab.poker_panels", "mpo_games.plot")
"""Modules and packages that only draw."""

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "numba": "numba",
    "pyspiel": "open_spiel",
    "torch": "torch",
    "transformers": "transformers",
}
"""The libraries that compute: the name that is imported, the name that is installed."""

Modules = Mapping[str, bytes]
"""The source of each module, by its dotted name."""


def repository(root: Path = ROOT) -> dict[str, bytes]:
    """The modules of this repository."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path.read_bytes()
    return found


def reached(module: str, modules: Modules) -> set[str]:
    """The names of all `modules` and `LIBRARIES` that `module` runs, itself included."""
    found: set[str] = set()
    known = modules.keys() | LIBRARIES.keys()
    pending = {module}
    while pending:
        name = pending.pop()
        found.add(name)
        if name in modules:
            more = (imported(modules[name]) & known) - found
            pending |= {name for name in more if counts(name)}
    return found


def counts(name: str) -> bool:
    """Whether results depend on a module."""
    drawn = any(name == other or name.startswith(f"{other}.") for other in DRAWN)
    return name != LIST and not drawn


def digest(module: str, modules: Modules) -> str:
    """A digest of the sources and of the libraries' versions that `module` runs."""
    total = hashlib.sha256()
    for name in sorted(reached(module, modules)):
        content = modules[name] if name in modules else _version(LIBRARIES[name])
        # With its length, so that no two lists of sources run together to the same bytes.
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


@functools.cache
def imported(source: bytes) -> frozenset[str]:
    """The dotted names that a source imports, in functions too, and the packages around them.

    `from a.b import c` gives `a`, `a.b` and `a.b.c`, since `c` may be a module.

    Raises `ValueError` for a relative import: its target depends on the file that holds it.
    """
    return frozenset(p for name in _targets(ast.parse(source)) for p in _prefixes(name))


def _targets(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"Write the import of line {node.lineno} with its whole name.")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:i]) for i in range(1, len(parts) + 1))


def _version(package: str) -> bytes:
    try:
        return version(package).encode()
    except PackageNotFoundError:
        # Some are optional: tables need neither OpenSpiel nor torch.
        return b"not installed"
