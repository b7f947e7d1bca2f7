"""What a saved solution holds: policies as arrays, and how they are read back and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from mpo_games.capabilities import Stored
from mpo_games.checks import is_number, require_shape
from mpo_games.npz import Damaged
from mpo_games.protocol import Array, State
from mpo_games.trace import Trace

KEPT = ("q", "eta", "alpha")
"""The fields of a state, beside its memory, that are saved if they are not None."""


def parts_of(
    arrays: dict[str, Array], header: Mapping[str, Any], templates: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of the solution in a file's arrays and header; any exception if there is none."""
    kinds = header["kinds"]
    columns = {n[6:]: arrays.pop(n) for n in list(arrays) if n.startswith("trace/")}
    parts: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        item, _, part = name.rpartition("/")
        parts.setdefault(item, {})[part] = array
    items: dict[str, Any] = {}
    for name, found in parts.items():
        for part, array in found.items():
            if array.dtype.kind in "fc" and bool((array != array).any()):
                raise Damaged(f"`{name}/{part}` holds NaN")
        if name not in kinds and "array" in found:
            array = found["array"]
            items[name] = array if array.ndim else array.item()
        else:
            # Files of earlier releases name the kind of `policy` and `best` only.
            items[name] = _restored(name, found, templates[kinds.get(name, kinds["policy"])])
    if missing := {"policy", "magnet", "best"} - items.keys():
        raise Damaged(f"it has no {' and no '.join(sorted(missing))}")
    # Before release 0.2 feedback and step size were entries of the memory. Since then an
    # entry of such a name is a user's own.
    places = KEPT if "fields" in header else [f"memory/{name}" for name in KEPT]
    kept = {name: items.pop(place, None) for name, place in zip(KEPT, places, strict=True)}
    _require_kept(kept, getattr(items["policy"], "coordinates", None))
    named = header.get("answer")
    answer = None if named is None else items[named]
    best = items.pop("best")
    items.pop("answer", None)
    state: State[Any] = State(
        items.pop("policy"),
        items.pop("magnet"),
        _count("step", header),
        _count("moved", header),
        header["evaluations"],
        {name.removeprefix("memory/"): item for name, item in items.items()},
        **kept,
    )
    if not (0.0 <= state.evaluations < np.inf):
        raise Damaged(f"its evaluations must be finite and at least 0, got {state.evaluations}")
    gap, converged = header["best_gap"], header["converged"]
    if not (is_number(gap) and gap > -np.inf and isinstance(converged, bool)):
        raise Damaged("its `best_gap` must be a number, and `converged` true or false")
    if len({len(column) for column in columns.values()}) != 1:
        raise Damaged("the columns of its trace are missing, or not equally long")
    for name in ("step", "evaluations"):
        if not (columns[name].ndim == 1 and (np.diff(columns[name]) >= 0).all()):
            raise Damaged(f"`{name}` falls in its trace")
    for name, column in columns.items():
        if column.dtype.kind not in "fiub" or bool((column != column).any()):
            raise Damaged(f"`{name}` of its trace is not all numbers")
    # A generator refuses what is no state of one.
    np.random.default_rng(0).bit_generator.state = header["rng_state"]
    provenance = header["provenance"]
    if not all(isinstance(provenance[noun], str) for noun in ("game", "solver")):
        raise Damaged("its `provenance` does not name a game and a solver")
    return {
        "state": state,
        "trace": Trace(columns),
        "best": best,
        "best_gap": gap,
        "converged": converged,
        "rng_state": header["rng_state"],
        "provenance": provenance | {"seed": int(provenance["seed"])},
        "answer": answer,
    }


def _require_kept(kept: Mapping[str, Any], own: Array | None) -> None:
    """`Damaged` unless the settings are numbers, and feedback to a table has its shape."""
    for name in ("eta", "alpha"):
        setting = np.asarray(0.0 if kept[name] is None else kept[name])
        if setting.dtype.kind not in "fiu" or not (setting >= 0.0).all():
            raise Damaged(f"`{name}` must be numbers of at least 0")
    if own is not None and kept["q"] is not None:
        q = np.asarray(kept["q"])
        if q.dtype.kind not in "fiu" or q.ndim < min(2, own.ndim):
            raise Damaged(f"`q` must be an array of numbers, of shape (..., {own.shape})")
        require_shape("q", q, own)


def _count(name: str, header: Mapping[str, Any]) -> int:
    count = header[name]
    if type(count) is not int or count < 0:
        raise Damaged(f"`{name}` must be a count, got {count!r}")
    return count


def _restored(name: str, parts: Mapping[str, Array], template: object) -> Any:
    """The policy of the template's kind with these arrays; `Damaged` if they cannot be its own."""
    kept = stored(template)
    for part, own in kept.arrays().items():
        # Some policies have more parts than others of their kind: `restored` knows which it needs.
        array = parts.get(part, own)
        if array.dtype != own.dtype or array.ndim < min(2, own.ndim):
            raise Damaged(
                f"`{name}/{part}` must be {own.dtype} of shape (..., {own.shape}), "
                f"got {array.dtype} of shape {array.shape}"
            )
        if array.dtype.kind == "f" and bool((array == np.inf).any()):
            raise Damaged(f"`{name}/{part}` holds infinity")
    return kept.restored(parts)


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
        if missing := self.arrays().keys() - arrays.keys():
            raise Damaged(f"it lacks {', '.join(sorted(missing))}")
        for part, array in arrays.items():
            require_shape(part, array, getattr(self.policy, part))
        return replace(self.policy, **arrays)


def stored(policy: object) -> Stored[Any] | _ByFields:
    """The policy, if it can be written as arrays; else `ValueError`."""
    if isinstance(policy, Stored):
        return policy
    if is_dataclass(policy):
        return _ByFields(policy)
    raise ValueError(
        f"A {type(policy).__name__} cannot be saved: it is no dataclass, "
        "and has not all of `kind`, `arrays()` and `restored(arrays)`."
    )


def numbers(name: str, item: object) -> Mapping[str, Array]:
    """An array of numbers, or one number, as the part `array`; else `ValueError`."""
    array = np.asarray(item)
    # Objects would be pickled, and reading pickles runs foreign code.
    if array.dtype.hasobject:
        raise ValueError(f"Cannot save `{name}`: it is neither a policy nor an array of numbers.")
    return {"array": array}
