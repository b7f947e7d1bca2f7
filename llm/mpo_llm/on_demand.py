"""Names of a package that are imported when they are first asked for.

`import torch` takes seconds, and a command line that only prints its help needs none of them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def exported(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package, for its `__init__.py`.

    The names are those that the file imports under `if TYPE_CHECKING:`, so that people, type
    checkers and Python read one list of them.
    """
    home = import_module(package)
    places = _imports(Path(str(home.__file__)))

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, wanted = places[name]
        found = import_module(module)
        if wanted not in vars(found):  # a module, which its package has once it is imported
            import_module(f"{module}.{wanted}")
        value = vars(found)[wanted]
        # From now on it is an attribute like any other.
        setattr(home, name, value)
        return value

    return get, lambda: sorted({*vars(home), *places})


def _imports(path: Path) -> dict[str, tuple[str, str]]:
    """The module and the name there of each name that a file imports under `if TYPE_CHECKING:`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    imports = [n for block in blocks for n in block.body if isinstance(n, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in imports
        for alias in node.names
    }
