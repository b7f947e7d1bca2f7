"""What every experiment shares: parallel cells, their cache, stored results with provenance.

An experiment is a module with a docstring (its claim), `TITLE`, `CORE` (cheap enough for `make
reproduce`), `SEED`, `compute(quick, run)`, `plot(results)` and `claims(results)`. It cuts its work
into cells, which are calls of a module-level function with JSON-able keywords, and hands them to
`run`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np

import mpo_games as mg
from experiments.lab import sources
from mpo_games.atomic import write_bytes
from mpo_games.parallel import Progress, finished

HERE = Path(__file__).parents[1]
CACHE = HERE / ".cache"
DIGITS = 6
"""Significant digits of a stored number."""

Cell = Mapping[str, Any]
Run = Callable[[Callable[..., Any], Sequence[Cell]], list[Any]]
"""`run(function, cells)`: the results of `function(**cell)`, in the order of the cells."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A line of the claims table."""

    source: str
    """Where the claim comes from."""
    statement: str
    """What is claimed."""
    bound: str
    """What the measured number must satisfy."""
    measured: float
    """The number."""
    holds: bool
    """Whether the number satisfies the bound."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs cells in parallel by joblib, and keeps each result as JSON as soon as it is computed.

    A run that was interrupted computes only the cells that are missing. The key of a cell covers
    its arguments, all code that it runs and the versions of the libraries that compute
    (`sources.py`), so that edited code never meets an old result.
    """

    jobs: int = 1
    """How many cells run at once."""
    fresh: bool = False
    """Whether all cells are computed again."""
    cache: Path | None = CACHE
    """Where results are kept; None keeps nothing."""

    def __call__(self, function: Callable[..., Any], cells: Sequence[Cell]) -> list[Any]:
        """The results of `function(**cell)` in the order of the cells."""
        paths = [self._path(function, cell) for cell in cells]
        results: list[Any] = [None if self.fresh else _read(path) for path in paths]
        missing = [i for i, result in enumerate(results) if result is None]
        calls = [(function, cells[i]) for i in missing]
        with Progress(len(cells), len(cells) - len(missing), what="cells") as bar:
            for k, outcome in finished(_made, calls, self.jobs):
                i = missing[k]
                # Through JSON, so that a result is the same whether it is new or from the cache.
                results[i] = json.loads(encode(outcome))
                if (path := paths[i]) is not None:
                    write(path, encode(outcome))
                bar.update()
        return results

    def _path(self, function: Callable[..., Any], cell: Cell) -> Path | None:
        if self.cache is None:
            return None
        module = function.__module__
        name = f"{module}.{function.__name__}"
        key = hashlib.sha256(json.dumps([name, cell], sort_keys=True).encode())
        key.update(_digest(module, str(sys.modules[module].__file__)).encode())
        return self.cache / "cells" / f"{name}-{key.hexdigest()[:20]}.json"


@contextlib.contextmanager
def backend(name: str, jobs: int) -> Iterator[None]:
    """A context in which cells run on joblib's backend `name`: loky, threading, dask, or your own.

    Dask connects to the scheduler of `DASK_SCHEDULER_ADDRESS`, or starts a local cluster of `jobs`
    workers.
    """
    with contextlib.ExitStack() as stack:
        if name == "dask":
            from dask.distributed import Client, LocalCluster

            address = os.environ.get("DASK_SCHEDULER_ADDRESS")
            if address is None:
                address = stack.enter_context(
                    LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
                )
            stack.enter_context(Client(address))
        stack.enter_context(joblib.parallel_config(backend=name, n_jobs=jobs))
        yield


def perform(module: ModuleType, runner: Runner, *, quick: bool, backend_name: str) -> Any:
    """Compute one experiment; its results and their provenance, as they are stored."""
    name = module.__name__.rsplit(".", 1)[-1]
    start = time.perf_counter()
    results = module.compute(quick, runner)
    provenance = {
        "command": f"python experiments {name}" + (" --quick" if quick else ""),
        "seed": module.SEED,
        "wall_seconds": time.perf_counter() - start,
        "workers": runner.jobs,
        "backend": backend_name,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("mpo-games", "numpy", "scipy", "numba", "joblib")},
    }
    # Through JSON, so that a figure is drawn from the numbers that are stored.
    return json.loads(encode({"provenance": provenance, "results": results}))


def encode(value: Any) -> str:
    """Compact JSON: arrays as lists, numbers to `DIGITS` significant digits.

    Raises `ValueError` for NaN and infinity, which JSON does not know.
    """
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    write_bytes(path, text.encode())


def trace(stored: Mapping[str, Any]) -> mg.Trace:
    """The trace that was stored by `columns`."""
    return mg.Trace({name: np.asarray(column) for name, column in stored.items()})


def curve(at: Any, gap: Any) -> mg.Trace:
    """The trace of gaps, of one run or of a column for each, at the evaluations `at`."""
    when = np.asarray(at, dtype=float)
    return mg.Trace({"step": when, "evaluations": when, "gap": np.asarray(gap)})


def columns(solution: mg.Solution[Any]) -> dict[str, Any]:
    """The recorded columns of a solution, as `trace` reads them."""
    return dict(solution.trace.columns)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        # Shorter: 2 for 2.0. Beyond 1e15 a float is shorter in powers of ten.
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value


def _made(function: Callable[..., Any], cell: Cell) -> Any:
    return function(**cell)


def _read(path: Path | None) -> Any:
    if path is None or not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        # A damaged file counts as missing, and is computed again.
        return None


@functools.cache
def _digest(module: str, file: str) -> str:
    # The file is added for cells of a module outside the repository's packages: a test's, say.
    return sources.digest(module, sources.repository() | {module: Path(file).read_bytes()})
