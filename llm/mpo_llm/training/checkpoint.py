"""Checkpoints: all that a run needs to go on, as safetensors and JSON, saved whole or not at all.

A run's folder holds `config.yaml`, `metrics.jsonl`, `samples.jsonl` and `checkpoints/step-NNNNNN/`.
Each checkpoint has `state.safetensors` (the policy with the optimiser's moments, the magnet, and
the solver's memory, such as previous policies and the replay pool) and `state.json` (counters, the
strength of the last step, the random generator, what has been spent of the budget, and by which
settings and contents the run is recognised).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from mpo_games.capabilities import answer_of
from mpo_games.protocol import State
from mpo_llm.config import Config
from mpo_llm.networks.base import Weights
from mpo_llm.policy import TokenPolicy
from mpo_llm.rows import complete_lines
from mpo_llm.training import answers, assemble, config_file, fingerprint, tables
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.tables import Table
from mpo_llm.trees.policy import TreePolicy

Kept = TokenPolicy | TreePolicy
"""The policies of a run: of texts, or of a game."""

STATE, HEADER = "state.safetensors", "state.json"

AVERAGE = "memory average"
"""The name in a checkpoint's arrays of the average of weights."""

ANSWERS = "answers"
"""The name in a checkpoint's arrays of what the judge has said."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run after one of its steps."""

    state: State[Any]
    """The solver's state, whose policies are `Kept`."""
    rng: Mapping[str, Any]
    """The state of the random generator, which draws the prompts as well as the responses."""
    counts: Mapping[str, int]
    """The amounts spent so far, by the names of a budget's limits."""
    seconds: Mapping[str, float]
    """Seconds by what they were spent on."""
    identity: Identity | None = None
    """What makes the run this run; None in checkpoints of release 0.1."""
    answers: Mapping[bytes, float] = field(default_factory=dict)
    """What the judge has said, by the digests of comparisons, where the run has to remember it."""


def save(
    folder: Path, checkpoint: Checkpoint, keep: int | None = None, *, writes: bool = True
) -> Path:
    """Write `folder/step-NNNNNN`, and remove all but the last `keep` checkpoints.

    Returns the checkpoint's folder. All processes must call it, because sharded weights are
    gathered; only the process with `writes` writes files. `OSError` if the disk is full; older
    checkpoints stay as they are.
    """
    state = checkpoint.state
    target = folder / f"step-{state.step:06d}"
    items: dict[str, Any] = {"policy": state.policy, "magnet": state.magnet}
    # Runs of texts do not keep it.
    items |= {} if state.q is None else {"q": state.q}
    items |= {f"memory {name}": item for name, item in state.memory.items()}
    arrays: dict[str, np.ndarray] = {}
    aliases: dict[str, str] = {}
    known: dict[Place, str] = {}
    for name, item in items.items():
        if not isinstance(item, Kept):
            arrays[f"{name}/array"] = np.asarray(item)
            continue
        arrays |= {f"{name}/{part}": array for part, array in item.numbers().items()}
        for part, (weight, tensor) in item.tensors().items():
            key, place = f"{name}/{part}", _place(tensor)
            # Policies share weights, which are never written to, and each is saved once.
            if place in known:
                aliases[key] = known[place]
            else:
                known[place] = key
                # All take part where it is sharded, but who does not write fetches nothing.
                if writes or weight in item.network.sharded:
                    array = item.array(weight, tensor)
                    arrays |= {} if array is None else {key: array}
    if checkpoint.answers:
        said = answers.as_arrays(checkpoint.answers)
        arrays |= {f"{ANSWERS}/{part}": array for part, array in said.items()}
    if not writes:
        return target
    header = {
        "step": state.step,
        # The name in release 0.1.0, whose checkpoints are still read.
        "moved": state.moved_at,
        "evaluations": state.evaluations,
        # Some solvers give arrays without axes.
        "eta": None if state.eta is None else float(state.eta),
        "alpha": None if state.alpha is None else float(state.alpha),
        "rng": checkpoint.rng,
        "counts": checkpoint.counts,
        "seconds": checkpoint.seconds,
        "aliases": aliases,
        "run": None if checkpoint.identity is None else checkpoint.identity.as_json(),
    }
    # Written beside the target and renamed at the end, so that a checkpoint is never half there.
    partial = _hidden(target)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({n: np.asarray(a, order="C") for n, a in arrays.items()}, partial / STATE)
        (partial / HEADER).write_text(json.dumps(header), encoding="utf-8")
        for file in (STATE, HEADER):
            _flush(partial / file)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        # A rename is on the disk only when the folder that holds it is.
        _flush(folder)
    except (OSError, SafetensorError) as error:
        raise OSError(f"Cannot write {str(target)!r}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if keep is not None:
        for old in listed(folder)[:-keep]:
            # Renamed first: a process that is killed meanwhile leaves no half of a checkpoint.
            gone = _hidden(old)
            old.rename(gone)
            shutil.rmtree(gone)
    return target


Place = tuple[Any, ...]
"""Where the numbers of a tensor lie. The shape belongs to it: a view may begin where the whole
tensor does."""


def _place(tensor: Tensor) -> Place:
    # A process without a row of a sharded tensor must find the same ones shared as the others do.
    return str(tensor.device), tensor.data_ptr() or id(tensor), tensor.shape, tensor.dtype


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half written, or half removed."""
    for left in folder.glob(".step-*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _hidden(path: Path) -> Path:
    """The name of a checkpoint that is not whole."""
    return path.with_name(f".{path.name}.partial")


def load(path: Path, start: Kept, only: str = "") -> Checkpoint:
    """Read a checkpoint, bit for bit; the network of `start` runs its policies, of its kind.

    With `only`, the name of a policy such as "policy" or "memory average", nothing else is read:
    this is the state's policy then, the magnet is `start`, and memory is empty. `ValueError` for
    anything but a checkpoint of a run with this network.
    """
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
        _require_counts(header)
        aliases: dict[str, str] = header["aliases"]
        items: dict[str, dict[str, np.ndarray]] = {}
        with safe_open(path / STATE, framework="numpy") as file:
            for key in [*file.keys(), *aliases]:
                name, _, part = key.rpartition("/")
                if name.startswith(only):
                    array = file.get_tensor(aliases.get(key, key))
                    items.setdefault(name, {})[part] = array
        said = items.pop(ANSWERS, None)
        found = {name: _item(parts, start) for name, parts in items.items()}
        found = _reunited(found, aliases)
        state = State(
            found.pop(only or "policy"),
            found.pop("magnet", start),
            header["step"],
            header["moved"],
            header["evaluations"],
            {n.removeprefix("memory "): item for n, item in found.items() if n != "q"},
            q=found.get("q"),
            # Checkpoints of release 0.1 have neither; the next step sets both.
            eta=header.get("eta"),
            alpha=header.get("alpha"),
        )
        run = header.get("run")
        return Checkpoint(
            state,
            header["rng"],
            header["counts"],
            header["seconds"],
            None if run is None else Identity(**run),
            {} if said is None else answers.from_arrays(said),
        )
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{str(path)!r} is not a checkpoint of this run: {reason}.") from error


def _require_counts(header: Mapping[str, Any]) -> None:
    """`ValueError` for numbers that nobody can go on from: a run with a step of NaN never ends."""
    numbers = {name: header[name] for name in ("step", "moved")}
    for name, number in {**numbers, **header["counts"]}.items():
        if not (isinstance(number, int) and number >= 0):
            raise ValueError(f"`{name}` is {number!r}")
    strengths = {name: header.get(name) for name in ("evaluations", "eta", "alpha")}
    for name, number in {**strengths, **header["seconds"]}.items():
        if number is not None and not (isinstance(number, int | float) and isfinite(number)):
            raise ValueError(f"`{name}` is {number!r}")


def listed(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    found = [p for p in folder.glob("step-*") if (p / HEADER).is_file()]
    # By number: a step of seven digits comes after those of six.
    return sorted(found, key=lambda p: (len(p.name), p.name))


def last(folder: Path) -> Path:
    """The newest checkpoint of a run's folder, or the folder itself if it is a checkpoint.

    `ValueError` if there is none.
    """
    if (folder / HEADER).is_file():
        return folder
    found = listed(folder / "checkpoints")
    if not found:
        raise ValueError(f"{str(folder)!r} holds no checkpoint.")
    return found[-1]


def config_of(path: str | Path) -> Config:
    """The configuration of a run, given its folder or one of its checkpoints."""
    return config_file.load(last(Path(path)).parents[1] / "config.yaml")


def config_of_texts(path: str | Path) -> Config:
    """`config_of`, and `ValueError` for a run that plays a game, and answers no prompts."""
    config = config_of(path)
    if config.game.name:
        raise ValueError(
            f"{str(path)!r} plays {config.game.name}, and has no responses to judge: see "
            "`mpo_llm.results.tables`."
        )
    return config


def metrics(run: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, one a step."""
    # A run that is still going on may be in the middle of its last line.
    return [json.loads(line) for line in complete_lines(Path(run) / "metrics.jsonl")]


def load_policy(path: str | Path, average: bool = False) -> tuple[TokenPolicy, Any]:
    """The policy of a checkpoint, or of a run's newest one, and its tokenizer.

    It loads the model that the run started from. `average` as in `policy_of`. `ValueError` if there
    is no checkpoint.
    """
    config = config_of(path)
    if config.game.name:
        table = tables.table(config)
        play = table.game.initial_policy()
        found = policy_of(path, play, True) if average else answer_of_run(path, table, play)
        return found.tokens[0], table.tokenizer
    start, tokenizer = assemble.start(config)
    return policy_of(path, start, average), tokenizer


P = TypeVar("P", TokenPolicy, TreePolicy)


def policy_of(path: str | Path, start: P, average: bool = False) -> P:
    """The policy of a checkpoint, or of a run's newest one, run by the network of `start`.

    With `average` it has the average of the weights that the run has played. `ValueError` if
    `start` has other weights, or other settings, than the run began with, and for an average that
    the run does not keep.
    """
    if average and not _holds(last(Path(path)), AVERAGE):
        raise ValueError(
            f"{str(path)!r} keeps no average of weights: a run with `solver.algorithm: auto` does, "
            "from its first step on."
        )
    found = load(last(Path(path)), start, only=AVERAGE if average else "policy")
    _require_start(path, found, start)
    policy: P = found.state.policy
    return policy


def answer_of_run(path: str | Path, table: Table, start: TreePolicy) -> TreePolicy:
    """What a run that plays a game answers with at a checkpoint, or at its newest one: the last
    iterate, or an average of weights where its solver says so. Errors are those of `policy_of`."""
    found = load(last(Path(path)), start)
    _require_start(path, found, start)
    state: State[TreePolicy] = found.state
    return answer_of(tables.chosen(config_of(path), table.game), table.game, state)


def _require_start(path: str | Path, found: Checkpoint, start: Kept) -> None:
    """`ValueError` if `start` has other weights or settings than the run began with."""
    marks = {} if found.identity is None else found.identity.marks
    first = start.tokens[0] if isinstance(start, TreePolicy) else start
    for name, what, mark in (
        ("weights", "weights", fingerprint.weights),
        ("architecture", "settings (`config.json`)", fingerprint.architecture),
    ):
        if name in marks and marks[name] != mark(first):
            raise ValueError(
                f"The model that {str(path)!r} was trained from has other {what} today: restore "
                "those that the run was begun with."
            )


def _holds(path: Path, name: str) -> bool:
    """Whether a checkpoint has a policy of this name."""
    with safe_open(path / STATE, framework="numpy") as file:
        return any(key.startswith(f"{name}/") for key in file.keys())  # noqa: SIM118


def _item(parts: dict[str, np.ndarray], start: Kept) -> Any:
    """An array, a number or a policy."""
    if "array" in parts:
        array = parts["array"]
        return array if array.ndim else array.item()
    return start.restored(parts)


def _reunited(items: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The items, in which policies share weights again if they did when they were saved.

    A mixture runs shared weights once. Run twice, they would change its last digit.
    """
    known: dict[frozenset[str], Weights] = {}
    found = dict(items)

    def shared(prefix: str, policy: TokenPolicy) -> TokenPolicy:
        parts = []
        for i, (exponent, weights) in enumerate(policy.parts):
            keys = [f"{prefix}part {i} {n}" for n in weights]
            saved = frozenset(aliases.get(key, key) for key in keys)
            parts.append((exponent, known.setdefault(saved, weights)))
        return replace(policy, parts=tuple(parts))

    for name, item in items.items():
        if isinstance(item, TokenPolicy):
            found[name] = shared(f"{name}/", item)
        elif isinstance(item, TreePolicy):
            each = enumerate(item.tokens)
            tokens = tuple(shared(f"{name}/network {i} ", p) for i, p in each)
            found[name] = replace(item, tokens=tokens)
    return found


def _flush(path: Path) -> None:
    """Make the system write a file or a folder to the disk now."""
    # Windows cannot open folders.
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
