"""The outcome of a run, and its file: an npz with JSON provenance, without pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Generic

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.capabilities import SelfTunable, Stored
from mpo_games.checks import require_shape
from mpo_games.protocol import Array, Game, P, State
from mpo_games.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[P]):
    """The outcome of `solve`: the last iterate, the best recorded one, and the trace of the run."""

    state: State[P]
    """Everything needed to go on (with `solve(..., resume=solution)`)."""
    trace: Trace
    """The recorded metrics."""
    best: P
    """The recorded iterate with the smallest gap (for a batch, with the smallest worst gap)."""
    best_gap: float
    """The duality gap of `best`; infinity if no gap was recorded."""
    converged: bool
    """Whether the gap reached `tol`."""
    rng_state: Mapping[str, Any]
    """The state of the random generator."""
    provenance: Mapping[str, Any]
    """Solver, game, seed and versions, as `provenance.provenance` writes them."""

    @property
    def policy(self) -> P:
        """The last iterate."""
        return self.state.policy

    @property
    def gap(self) -> float:
        """The last recorded duality gap (the worst of a batch); `KeyError` if none was recorded."""
        return float(np.max(self.trace["gap"][-1]))

    def plot(self, metric: str = "gap", **options: Any) -> Any:
        """Draw a recorded metric against evaluations; returns the matplotlib axes."""
        # Matplotlib takes longer to import than most runs take.
        from mpo_games.plot import convergence

        return convergence({self.provenance["solver"]: self.trace}, metric, **options)

    def save(self, path: str | Path) -> Path:
        """Write the solution to one `.npz` file, atomically, without pickle.

        Raises `ValueError` if the state holds something that is not an array, a number or a policy
        of the same kind as `policy`.
        """
        state = self.state
        items = {"policy": state.policy, "magnet": state.magnet, "best": self.best}
        kept = {"q": state.q, "eta": state.eta, "alpha": state.alpha}
        items |= {name: item for name, item in kept.items() if item is not None}
        items |= {f"memory/{name}": item for name, item in state.memory.items()}
        arrays: dict[str, Any] = {}
        for name, item in items.items():
            arrays |= {f"{name}/{part}": a for part, a in _pack(name, item, self.policy).items()}
        for name, column in self.trace.columns.items():
            arrays[f"trace/{name}"] = column
        header = {
            # `best` may be of another kind: an iterate from before the solver chose its geometry.
            "kinds": {"policy": _stored(self.policy).kind, "best": _stored(self.best).kind},
            "fields": list(kept),
            "step": state.step,
            "moved": state.moved_at,
            "evaluations": state.evaluations,
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
    def load(cls, path: str | Path, game: Game[P, Any], policy: P | None = None) -> Solution[P]:
        """Read a solution of `game` written by `save`, bit for bit.

        The file holds arrays only, so the policies are built anew from those of `game`. If the run
        was started from a `policy` in another geometry than the game's own, pass a policy in that
        geometry here too. Raises `ValueError` for a file that is not a saved solution of this game.
        """
        source = _npz(path)
        start = game.initial_policy() if policy is None else policy
        # Two kinds: a run begins in the game's geometry, and a self-tuning solver may change it.
        templates = {_stored(start).kind: start}
        if isinstance(game, SelfTunable):
            other, _ = game.smoothed(start)
            templates[_stored(other).kind] = other
        try:
            with source.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            kinds: dict[str, str] = header["kinds"]
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {str(source)!r} to load.") from error
        # A foreign file can fail in any way: zip, zlib, JSON, shapes.
        except Exception as error:
            raise ValueError(f"{str(source)!r} is not a saved solution of this game.") from error
        for kind in kinds.values():
            if kind not in templates:
                raise ValueError(
                    f"{str(source)!r} holds policies of kind {kind}, not {_stored(start).kind}: "
                    "pass a `policy` of the kind in the file."
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
            # Before release 0.2 feedback and step size were entries of the memory. Since then an
            # entry of such a name is a user's own.
            places = KEPT if "fields" in header else [f"memory/{name}" for name in KEPT]
            kept = {name: items.pop(place, None) for name, place in zip(KEPT, places, strict=True)}
            best = items.pop("best")
            state: State[P] = State(
                items.pop("policy"),
                items.pop("magnet"),
                header["step"],
                header["moved"],
                header["evaluations"],
                {name.removeprefix("memory/"): item for name, item in items.items()},
                **kept,
            )
            return Solution(
                state,
                Trace(columns),
                best,
                header["best_gap"],
                header["converged"],
                header["rng_state"],
                header["provenance"],
            )
        except Exception as error:
            raise ValueError(f"{str(source)!r} is not a saved solution of this game.") from error


KEPT = ("q", "eta", "alpha")
"""The fields of a state, beside its memory, that are saved if they are not None."""


def _npz(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


@dataclass(frozen=True, slots=True)
class _ByFields:
    """A policy that is a dataclass and not `Stored`: its arrays are those among its fields."""

    policy: Any

    @property
    def kind(self) -> str:
        return f"{type(self.policy).__name__}({getattr(self.policy, 'geometry', '')})"

    def arrays(self) -> dict[str, Array]:
        values = {part.name: getattr(self.policy, part.name) for part in fields(self.policy)}
        return {part: array for part, array in values.items() if isinstance(array, np.ndarray)}

    def restored(self, arrays: Mapping[str, Array]) -> Any:
        for part, array in arrays.items():
            require_shape(part, array, getattr(self.policy, part))
        return replace(self.policy, **arrays)


def _stored(policy: object) -> Stored[Any] | _ByFields:
    """The policy, if it can be written as arrays; else `ValueError`."""
    if isinstance(policy, Stored):
        return policy
    if is_dataclass(policy):
        return _ByFields(policy)
    raise ValueError(
        f"A {type(policy).__name__} cannot be saved: it is no dataclass, "
        "and has not all of `kind`, `arrays()` and `restored(arrays)`."
    )


def _pack(name: str, item: object, policy: object) -> Mapping[str, Array]:
    """The arrays of an item by name: `arrays()` of a policy, or one `array` of numbers."""
    if isinstance(item, Stored) or is_dataclass(item):
        stored, kind = _stored(item), _stored(policy).kind
        if name != "best" and stored.kind != kind:
            raise ValueError(f"Cannot save `{name}`: it must be a {kind}, as the policy is.")
        return stored.arrays()
    # Objects would be pickled, and reading pickles runs foreign code.
    array = np.asarray(item)
    if array.dtype.hasobject:
        raise ValueError(f"Cannot save `{name}`: it is neither a policy nor an array of numbers.")
    return {"array": array}


def _unpack(parts: Mapping[str, Array], template: object) -> Any:
    """The inverse of `_pack`; `template` is a policy of the kind that was saved."""
    if "array" in parts:
        array = parts["array"]
        return array if array.ndim else array.item()
    return _stored(template).restored(parts)
