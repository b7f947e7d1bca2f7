"""Many runs that differ in a few settings, by joblib with any of its backends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import torch

from mpo_llm.config import Config
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import train


def variants(config: Config, vary: Mapping[str, Sequence[Any]]) -> list[Config]:
    """A configuration for each combination of values of the settings, by their dotted names.

    Each has a folder of its own within `output.folder`, named by its values. `ValueError` for a
    name that is no setting, for two runs in one folder, and if `output.folder` holds a run itself.
    """
    place = config.output.folder
    if (place / "metrics.jsonl").exists() or (place / "checkpoints").exists():
        raise ValueError(
            f"{str(place)!r} holds a run, and a sweep has a folder of its own: choose one by "
            "`--folder`, or another `output.folder`."
        )
    found = []
    for values in product(*vary.values()):
        one = config_file.changed(config, dict(zip(vary, values, strict=True)))
        labels = [f"{n.rpartition('.')[2]}={v}" for n, v in zip(vary, values, strict=True)]
        # A value may be a path, such as that of a model.
        folder = place / ",".join(labels).replace(os.sep, "_")
        found.append(replace(one, output=replace(one.output, folder=folder)))
    folders = [one.output.folder for one in found]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise ValueError(f"Two runs of the sweep would write to {str(twice)!r}: name a value once.")
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run of a sweep."""

    folder: Path
    """The run's folder."""
    said: str
    """How far it came, or why it failed."""
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.folder}  {'failed: ' if self.failed else ''}{self.said}"


def sweep(configs: Sequence[Config], jobs: int = 1, backend: str = "loky") -> list[Outcome]:
    """Run all configurations, and resume those begun before; returns the outcome of each.

    `jobs` of them run at the same time. A run that fails does not stop the others. `ValueError` for
    runs at the same time whose whole weights one server would have to hold.
    """
    _require_servers(configs, jobs)
    with joblib.parallel_config(backend=backend, n_jobs=jobs):
        found: list[Outcome] = joblib.Parallel()(joblib.delayed(_run)(c) for c in configs)
    return found


def _require_servers(configs: Sequence[Config], jobs: int) -> None:
    """`ValueError` if runs at the same time would replace each other's weights on a server."""
    # Adapters of several runs have names of their own there.
    whole = [c.generation.options.get("url") for c in configs if not c.model.lora_rank]
    served = [url for url in whole if url is not None]
    if jobs != 1 and len(set(served)) < len(served):
        raise ValueError(
            "Runs that draw by one server cannot train whole weights at the same time, since it "
            "holds those of one run: sweep with `--jobs 1`, or train adapters (`model.lora_rank`)."
        )


def _run(config: Config) -> Outcome:
    folder = config.output.folder
    try:
        summary = train(config, resume=True)
    # Settings can cause these errors. Any other is a bug, and ends the sweep.
    except (ValueError, ArithmeticError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        # A `MemoryError` has no words of its own.
        said = " ".join(str(error).split()) or "out of memory"
        return Outcome(folder, said, failed=True)
    return Outcome(folder, f"{summary.state.step} steps{_result(folder)}")


def _result(folder: Path) -> str:
    """The last win rate on held-out prompts, or the last exploitability, if there is one."""
    rows = checkpoint.metrics(folder)
    rates = [row["win_rate"] for row in rows if "win_rate" in row]
    if rates:
        return f", win rate {rates[-1]:.3f} against the start"
    gaps = [row["exploitability"] for row in rows if "exploitability" in row]
    return f", exploitability {gaps[-1]:.4f}" if gaps else ""
