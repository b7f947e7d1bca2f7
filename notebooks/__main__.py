"""`python notebooks [NAME...]`: execute the notebooks and write `.ipynb` beside the sources.

The source of a notebook is its `.py` (jupytext's percent format). Its cells run in a fresh kernel.
The solutions of its exercises, which are Python blocks in its Markdown, run there after the cells;
their output is not kept. After an error, a claim that fails or a line on standard error the exit
status is 1.
"""

from __future__ import annotations

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from mpo_games.atomic import write_bytes

HERE = Path(__file__).parent
AT_ONCE = 2
"""Notebooks that are executed side by side, each in a kernel of its own."""
LIVE = "live"
"""The tag of cells that need a running kernel (sliders): their output is not kept."""


def read(source: Path) -> Any:
    """The notebook of a percent source."""
    notebook = jupytext.read(source)
    # Random identifiers would change the file at every run.
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    return notebook


def solutions(notebook: Any) -> list[str]:
    """The Python blocks of the Markdown cells."""
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def execute(source: Path) -> Any:
    """The executed notebook; `CellExecutionError` or `RuntimeError` where it fails."""
    notebook = read(source)
    kept = len(notebook.cells)
    notebook.cells += [new_code_cell(code) for code in solutions(notebook)]
    # Without a backend of its own choice the kernel draws into the notebook.
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(
        notebook,
        timeout=600,
        extra_arguments=["--log-level=ERROR", "--InlineBackend.figure_formats={'retina'}"],
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute(env=env)
    # Warnings do not stop a kernel; here they count as failures.
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"A cell of {source.name} wrote to stderr:\n{output['text']}")
    del notebook.cells[kept:]
    for cell in notebook.cells:
        # Times of execution, which differ between runs.
        cell.metadata.pop("execution", None)
        if LIVE in cell.metadata.get("tags", []):
            cell.outputs = []
    notebook.metadata.pop("widgets", None)
    return notebook


def written(source: Path) -> bool:
    """Execute a notebook, write it and say so; whether it passed."""
    start = time.perf_counter()
    try:
        notebook = execute(source)
    except (CellExecutionError, RuntimeError) as error:
        print(f"{source.stem}: FAILED\n{error}", flush=True)
        return False
    # `make docs` may read the file at the same time.
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    write_bytes(source.with_suffix(".ipynb"), text.encode())
    print(f"{source.stem}: {time.perf_counter() - start:.0f} s", flush=True)
    return True


def main(names: list[str]) -> None:
    """Execute the named notebooks, or all of them."""
    sources = {path.stem: path for path in sorted(HERE.glob("[0-9]*.py"))}
    chosen = [stem for stem in sources if not names or any(stem.startswith(n) for n in names)]
    if not chosen:
        raise SystemExit(f"There is no notebook {names[0]!r}; there are {', '.join(sources)}.")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        passed = list(pool.map(written, (sources[stem] for stem in chosen)))
    print(f"{sum(passed)} passed, {passed.count(False)} failed")
    if not all(passed):
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
