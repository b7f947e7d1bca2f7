"""The outcome of a run, saved as npz with JSON provenance and read back without pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Generic

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, P, State
from mpo_games.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[P]):
    """The outcome of `solve`: the last iterate, the best checked one, and the trace of the run."""

    state: State[P]
    """Everything needed to go on (with `solve(..., resume=solution)`)."""
    trace: Trace
    """The recorded metrics."""
    best: P
    """The checked iterate of smallest gap (of smallest worst gap, for a batch)."""
    best_gap: float
    """Its duality gap; infinity where none was recorded."""
    converged: bool
    """Whether the gap reached `tol`."""
    rng_state: Mapping[str, Any]
    """The state of the random generator."""
    provenance: Mapping[str, Any]
    """Solver, game, seed, versions."""

    @property
    def policy(self) -> P:
        """The last iterate."""
        return self.state.policy

    @property
    def gap(self) -> float:
        """The last recorded duality gap (the worst of a batch); `KeyError` where none was."""
        return float(np.max(self.trace["gap"][-1]))

    def plot(self, metric: str = "gap", **options: Any) -> Any:
        """Draw a recorded metric against evaluations; returns the matplotlib axes."""
        from mpo_games.plot import convergence

        return convergence({self.provenance["solver"]: self.trace}, metric, **options)

    def save(self, path: str | Path) -> Path:
        """Write the solution to one `.npz` file, atomically, without pickle.

        Raises `ValueError` if the state holds something that is not an array, a number or a policy
        like the one that is played.
        """
        items = {"policy": self.policy, "magnet": self.state.magnet, "best": self.best}
        items |= {f"memory/{name}": item for name, item in self.state.memory.items()}
        arrays: dict[str, Any] = {}
        for name, item in items.items():
            arrays |= {f"{name}/{part}": a for part, a in _pack(name, item, self.policy).items()}
        # Found before the solver chose its geometry, `best` may be of another kind than the rest.
        kinds = {"policy": _kind(self.policy), "best": _kind(self.best)}
        for name, column in self.trace.columns.items():
            arrays[f"trace/{name}"] = column
        header = {
            "kinds": kinds,
            "step": self.state.step,
            "moved": self.state.moved,
            "evaluations": self.state.evaluations,
            "best_gap": self.best_gap,
            "converged": self.converged,
            "rng_state": self.rng_state,
            "provenance": self.provenance,
        }
        arrays["header"] = np.array(json.dumps(header))
        target = _npz(path)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_bytes(target, content.getvalue())
        return target

    @classmethod
    def load(cls, path: str | Path, game: Any, policy: Any = None) -> Solution[Any]:
        """Read a solution of `game` written by `save`, bit for bit.

        A state has a meaning only together with its game, which rebuilds the policies; a run that
        was started from a `policy` of another geometry than the game's own needs one here too.
        Raises `ValueError` for a file that is not a saved solution of such a game.
        """
        source = _npz(path)
        start = game.initial_policy() if policy is None else policy
        templates = {_kind(start): start}
        if hasattr(game, "smoothed"):
            other, _ = game.smoothed(start)
            templates[_kind(other)] = other
        try:
            with source.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            kinds: dict[str, str] = header["kinds"]
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {str(source)!r} to load.") from error
        except Exception as error:  # a foreign file can fail in any way: zip, zlib, JSON, shapes
            raise ValueError(f"{str(source)!r} is not a saved solution of this game.") from error
        for kind in kinds.values():
            if kind not in templates:
                raise ValueError(
                    f"{str(source)!r} holds policies of kind {kind}, not {_kind(start)}: "
                    "pass such a `policy`."
                )
        try:
            columns = {n[6:]: arrays.pop(n) for n in list(arrays) if n.startswith("trace/")}
            parts: dict[str, dict[str, Array]] = {}
            for name, array in arrays.items():
                item, _, part = name.rpartition("/")
                parts.setdefault(item, {})[part] = array
            items = {
                name: _unpack(item, templates[kinds.get(name, kinds["policy"])])
                for name, item in parts.items()
            }
            return cls(
                State(
                    items.pop("policy"),
                    items.pop("magnet"),
                    header["step"],
                    header["moved"],
                    header["evaluations"],
                    {n.removeprefix("memory/"): x for n, x in items.items() if n != "best"},
                ),
                Trace(columns),
                items["best"],
                header["best_gap"],
                header["converged"],
                header["rng_state"],
                header["provenance"],
            )
        except Exception as error:
            raise ValueError(f"{str(source)!r} is not a saved solution of this game.") from error


def _npz(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def _kind(policy: Any) -> str:
    """What the arrays of a policy mean."""
    if isinstance(policy, TreeplexPolicy):
        return policy.kind
    return f"{type(policy).__name__}({getattr(policy, 'geometry', '')})"


def _pack(name: str, item: Any, policy: Any) -> dict[str, Array]:
    """A policy as the arrays among its fields, or as what its `arrays()` names (networks); a number
    or an array as itself, named `array`."""
    if is_dataclass(item):
        if name != "best" and _kind(item) != _kind(policy):
            raise ValueError(f"Cannot save `{name}`: it is no {_kind(policy)} as the policy is.")
        if hasattr(item, "arrays"):
            return dict(item.arrays())
        parts = {part.name: getattr(item, part.name) for part in fields(item)}
        return {part: array for part, array in parts.items() if isinstance(array, np.ndarray)}
    array = np.asarray(item)
    if array.dtype.hasobject:
        raise ValueError(f"Cannot save `{name}`: it is neither a policy nor an array of numbers.")
    return {"array": array}


def _unpack(parts: dict[str, Array], template: Any) -> Any:
    if "array" in parts:
        array = parts["array"]
        return array if array.ndim else array.item()
    if hasattr(template, "restored"):
        return template.restored(parts)
    for part, array in parts.items():
        expected = np.shape(getattr(template, part))
        if any(n != m for n, m in zip(array.shape[::-1], expected[::-1], strict=False)):
            raise ValueError(f"`{part}` has shape {array.shape}, the game's {expected}.")
    return replace(template, **parts)
