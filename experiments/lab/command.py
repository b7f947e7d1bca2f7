"""The command: compute, draw, and write the claims table and the page."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from typing import Annotated, Any

import matplotlib
import tyro

from experiments import NAMES
from experiments.lab import claims, harness, page
from mpo_games import plot


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    quick: bool = False,
    all: bool = False,
    fresh: bool = False,
    draw: bool = False,
    backend: str = "loky",
    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"])] = 0,
) -> None:
    """Compute the experiments, draw their figures, write the claims table and the page.

    Args:
        names: which experiments (all when none is named).
        quick: tiny budgets, to see that everything runs; written into the cache, not committed.
        all: compute the expensive ones too, not only the core.
        fresh: compute cached cells again.
        draw: compute nothing, redraw the stored results.
        backend: joblib's backend for the independent runs: loky, threading, dask, ...
        jobs: parallel runs (0: one per CPU).
    """
    matplotlib.use("Agg")
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise SystemExit(f"There is no experiment {unknown[0]!r}; there are {', '.join(NAMES)}.")
    # A quick run must not replace a committed result.
    root = harness.CACHE / "quick" if quick else harness.HERE
    if fresh and not names:
        shutil.rmtree(harness.CACHE / "cells", ignore_errors=True)
    modules = {name: importlib.import_module(f"experiments.{name}") for name in NAMES}
    runner = harness.Runner(jobs=jobs or os.cpu_count() or 1, fresh=fresh)
    records: dict[str, Any] = {}
    with harness.backend(backend, runner.jobs):
        for name, module in modules.items():
            stored = root / "results" / f"{name}.json"
            chosen = name in names or not names
            known = stored.exists()
            # An expensive experiment is computed when it is asked for, or has never been.
            if chosen and not draw and (module.CORE or all or name in names or not known):
                print(f"{name}: {module.TITLE}", flush=True)
                record = harness.perform(module, runner, quick=quick, backend_name=backend)
                harness.write(stored, harness.encode(record))
            elif not known:
                continue
            # Read back even when it was just computed: figures show what is stored.
            records[name] = json.loads(stored.read_text(encoding="utf-8"))
            if chosen or not (root / "figures" / f"{name}.svg").exists():
                plot.save(module.plot(records[name]["results"]), root / "figures" / name)
                if hasattr(module, "animate"):
                    moving = module.animate(records[name]["results"])
                    plot.save_animation(*moving, root / "figures" / name)
    table = claims.collect(modules, records)
    harness.write(root / "results" / "claims.json", json.dumps(claims.as_rows(table), indent=1))
    harness.write(root / "results" / "claims.md", claims.as_markdown(table))
    harness.write(root / "index.html", page.render(modules, records, table, root / "figures"))
    print(f"Figures: {root / 'figures'}")
    print(f"Claims:  {root / 'results' / 'claims.md'}")
    print(f"Page:    {root / 'index.html'} (open it in a browser)")
