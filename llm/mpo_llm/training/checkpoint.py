"""Checkpoints: everything a run needs to go on, in safetensors and JSON, whole or not at all.

A run's folder holds `config.yaml`, `metrics.jsonl` and `checkpoints/step-NNNNNN/`, each with
`state.safetensors` (the policy with the optimiser's moments, the magnet, and what the solver
remembers: previous policies, replay pool) and `state.json` (counters, random generator, budget).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mpo_games.protocol import State
from mpo_llm.config import Config
from mpo_llm.networks.base import Weights
from mpo_llm.policy import TokenPolicy
from mpo_llm.training import assemble, config_file

STATE, HEADER = "state.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment of a run."""

    state: State[TokenPolicy]
    rng: Mapping[str, Any]
    """The state of the random generator, which is also the position in the data."""
    counts: Mapping[str, int]
    """What has been spent of the budget."""
    seconds: Mapping[str, float]


def save(
    folder: Path, checkpoint: Checkpoint, keep: int | None = None, *, writes: bool = True
) -> Path:
    """Write `folder/step-NNNNNN`, and remove all but the last `keep` checkpoints.

    Where processes share the weights all of them must call, and one of them `writes`. `OSError`,
    with the older checkpoints as they were, if the disk is full.
    """
    state = checkpoint.state
    target = folder / f"step-{state.step:06d}"
    items: dict[str, Any] = {"policy": state.policy, "magnet": state.magnet}
    items |= {f"memory {name}": item for name, item in state.memory.items()}
    arrays: dict[str, np.ndarray] = {}
    aliases: dict[str, str] = {}
    known: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, item in items.items():
        parts = item.arrays() if isinstance(item, TokenPolicy) else {"array": np.asarray(item)}
        for part, array in parts.items():
            key, place = f"{name}/{part}", (array.__array_interface__["data"][0], array.shape)
            # Weights are never written to, so policies share them: each is saved once.
            if array.size and place in known:
                aliases[key] = known[place]
            else:
                known[place] = key
                arrays[key] = array
    if not writes:
        return target
    header = {
        "step": state.step,
        "moved": state.moved,
        "evaluations": state.evaluations,
        "rng": checkpoint.rng,
        "counts": checkpoint.counts,
        "seconds": checkpoint.seconds,
        "aliases": aliases,
    }
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file({n: np.asarray(a, order="C") for n, a in arrays.items()}, partial / STATE)
        (partial / HEADER).write_text(json.dumps(header), encoding="utf-8")
        for file in (STATE, HEADER):
            _flush(partial / file)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        _flush(folder)
    except SafetensorError as error:
        raise OSError(f"Cannot write {str(target)!r}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if keep is not None:
        for old in listed(folder)[:-keep]:
            shutil.rmtree(old)
    return target


def load(path: Path, start: TokenPolicy, only: str = "") -> Checkpoint:
    """Read a checkpoint written by `save`, bit for bit; `start` runs its policies.

    With `only="policy"` the rest of the state is left where it is: the magnet is `start`, and
    nothing is remembered. `ValueError` for what is no checkpoint of such a run.
    """
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
        aliases: dict[str, str] = header["aliases"]
        items: dict[str, dict[str, np.ndarray]] = {}
        with safe_open(path / STATE, framework="numpy") as file:
            for key in [*file.keys(), *aliases]:
                name, _, part = key.rpartition("/")
                if name.startswith(only):
                    array = file.get_tensor(aliases.get(key, key))
                    items.setdefault(name, {})[part] = array
        found = {name: _item(parts, start) for name, parts in items.items()}
        if not start.network.offload:
            found = _reunited(found, aliases)
        state = State(
            found.pop("policy"),
            found.pop("magnet", start),
            header["step"],
            header["moved"],
            header["evaluations"],
            {name.removeprefix("memory "): item for name, item in found.items()},
        )
        return Checkpoint(state, header["rng"], header["counts"], header["seconds"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint of this run: {error}.") from error


def listed(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / HEADER).is_file())


def last(folder: Path) -> Path:
    """The newest checkpoint of a run's folder, or the folder itself if it is a checkpoint.

    `ValueError` where there is none.
    """
    if (folder / HEADER).is_file():
        return folder
    found = listed(folder / "checkpoints")
    if not found:
        raise ValueError(f"{str(folder)!r} holds no checkpoint.")
    return found[-1]


def config_of(path: str | Path) -> Config:
    """The configuration of the run that a checkpoint, or a run's folder, belongs to."""
    return config_file.load(last(Path(path)).parents[1] / "config.yaml")


def metrics(run: str | Path) -> list[dict[str, Any]]:
    """The records of a run's steps."""
    lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load_policy(path: str | Path) -> tuple[TokenPolicy, Any]:
    """The policy of a checkpoint, or of a run's newest one, and its tokenizer.

    The model that the run started from is loaded again. `ValueError` where there is no checkpoint.
    """
    start, tokenizer = assemble.start(config_of(path))
    return policy_of(path, start), tokenizer


def policy_of(path: str | Path, start: TokenPolicy) -> TokenPolicy:
    """The policy of a checkpoint, or of a run's newest one, run by the network of `start`."""
    return load(last(Path(path)), start, only="policy").state.policy


def _item(parts: dict[str, np.ndarray], start: TokenPolicy) -> Any:
    if "array" in parts:
        array = parts["array"]
        return array if array.ndim else array.item()
    return start.restored(parts)


def _reunited(items: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The items, with weights that policies shared when they were saved shared again.

    A mixture runs shared weights once: twice, it would differ in the last digit.
    """
    known: dict[frozenset[str], Weights] = {}
    found = dict(items)
    for name, item in items.items():
        if isinstance(item, TokenPolicy):
            parts = []
            for i, (exponent, weights) in enumerate(item.parts):
                keys = [f"{name}/part {i} {n}" for n in weights]
                saved = frozenset(aliases.get(key, key) for key in keys)
                parts.append((exponent, known.setdefault(saved, weights)))
            found[name] = replace(item, parts=tuple(parts))
    return found


def _flush(path: Path) -> None:
    """Onto the disk; a folder that cannot be opened so is left to the system."""
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
