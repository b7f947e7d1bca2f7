"""The outcome of a run, and its file: an npz with JSON provenance, without pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Generic

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.capabilities import Stored
from mpo_games.checks import has_verbs, is_number, require_game, require_kind, require_shape
from mpo_games.labelled import shown
from mpo_games.npz import Damaged, read
from mpo_games.protocol import Array, Game, Number, P, State
from mpo_games.provenance import other_payoffs
from mpo_games.table import Table
from mpo_games.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[P]):
    """The outcome of `solve`: the solver's answer, the best recorded one, the trace."""

    state: State[P]
    """Everything needed to go on (with `solve(..., resume=solution)`)."""
    trace: Trace
    """The recorded metrics."""
    best: P
    """The recorded answer with the smallest gap (for a batch, with the smallest worst gap)."""
    best_gap: float
    """The duality gap of `best`; infinity if no gap was recorded."""
    converged: bool
    """Whether the gap reached `tol`."""
    rng_state: Mapping[str, Any]
    """The state of the random generator."""
    provenance: Mapping[str, Any]
    """Solver, game, seed and versions, as `provenance.provenance` writes them."""
    answer: P | None = None
    """What the solver answers with, where that is not the last iterate by definition."""
    game: Any = None
    """The game that was solved. A file does not hold it: `load` is given it."""

    @property
    def policy(self) -> P:
        """What the solver answers with: the last iterate, or the average of a method that averages.

        `gap`, `best`, `tol` and the trace speak of it. The last iterate itself is `iterate`.
        """
        return self.state.policy if self.answer is None else self.answer

    @property
    def iterate(self) -> P:
        """The last iterate: the point from which the next step is taken."""
        return self.state.iterate

    @property
    def gap(self) -> float:
        """The last recorded duality gap (the worst of a batch); `KeyError` if none was recorded."""
        return float(np.max(self.trace["gap"][-1]))

    @property
    def exploitability(self) -> float:
        """Half the last recorded duality gap; `KeyError` if none was recorded."""
        return self.gap / 2.0

    @property
    def value(self) -> Number:
        """The first player's expected payoff under `policy`, one number for each game of a batch.

        It is computed now, from the game. `ValueError` if the game knows no values.
        """
        if not has_verbs(self.game, "value"):
            raise ValueError(f"A {type(self.game).__name__} knows no values of policies.")
        found: Number = self.game.value(self.policy)
        return float(found) if np.ndim(found) == 0 else found

    def table(self) -> Table:
        """The strategy, with a line for each action at each player, context or information state.

        It prints rounded; `to_csv(path)` and `to_pandas()` have all lines and all digits.
        `ValueError` for a policy that is no table, such as a network.
        """
        policy: Any = self.policy
        # A table of the states of a tree, which reads better as a policy of the tree.
        if has_verbs(self.game, "treeplex"):
            policy = self.game.treeplex(policy)
        if not has_verbs(policy, "table"):
            raise ValueError(f"A {type(policy).__name__} has no table of its actions.")
        table: Table = policy.table()
        return table

    def summary(self) -> Table:
        """What was run, and how far it came: a line for each fact."""
        facts = [("game", self.provenance["game"]), ("solver", self.provenance["solver"])]
        what = "last iterate" if self.policy is self.iterate else "answer"
        if "gap" in self.trace and len(self.trace):
            facts += [(f"duality gap of the {what}", self.gap), ("best gap", self.best_gap)]
            facts += [(f"exploitability of the {what}", self.exploitability)]
        if has_verbs(self.game, "value") and np.ndim(value := self.value) == 0:
            facts += [("value", value)]
        facts += [("evaluations", self.state.evaluations), ("steps", self.state.step)]
        facts += [("reached `tol`", self.converged), ("seed", self.provenance["seed"])]
        return Table(("fact", "value"), tuple(facts))

    def plot(self, metric: str = "gap", **options: Any) -> Any:
        """Draw a recorded metric against evaluations; returns the matplotlib axes."""
        # Matplotlib takes longer to import than most runs take.
        from mpo_games.plot import convergence

        return convergence({self.provenance["solver"]: self.trace}, metric, **options)

    def save(self, path: str | Path) -> Path:
        """Write the solution to one `.npz` file, atomically, without pickle; returns its path.

        Raises `ValueError` if the state holds something that is not an array, a number or a policy,
        or a NaN. `OSError` if the file cannot be written; an earlier file is then kept.
        """
        target = npz_path(path)
        write_bytes(target, self.content())
        return target

    def content(self) -> bytes:
        """The content of the file that `save` writes; `ValueError` as there."""
        state = self.state
        items = {"policy": state.policy, "magnet": state.magnet, "best": self.best}
        kept = {"q": state.q, "eta": state.eta, "alpha": state.alpha}
        items |= {name: item for name, item in kept.items() if item is not None}
        items |= {f"memory/{name}": item for name, item in state.memory.items()}
        answer = None
        if self.answer is not None:
            # It mostly is one of these already, and a file holds it once.
            answer = next((n for n, item in items.items() if item is self.answer), "answer")
            items[answer] = self.answer
        arrays: dict[str, Any] = {}
        kinds: dict[str, str] = {}
        for name, item in items.items():
            if isinstance(item, Stored) or is_dataclass(item):
                stored = _stored(item)
                kinds[name], parts = stored.kind, stored.arrays()
            else:
                parts = _numbers(name, item)
            for part, array in parts.items():
                # `x != x` is True for NaN alone; objects and texts have none.
                if array.dtype.kind in "fc" and bool((array != array).any()):
                    raise ValueError(f"Cannot save `{name}`: it holds NaN.")
                arrays[f"{name}/{part}"] = array
        for name, column in self.trace.columns.items():
            arrays[f"trace/{name}"] = column
        header = {
            # One for each policy: a solver may change the geometry on its way, or use two.
            "kinds": kinds,
            "fields": list(kept),
            "step": state.step,
            "moved": state.moved_at,
            "evaluations": state.evaluations,
            # None in files before release 0.4 too, whose solutions all speak of the last iterate.
            "answer": answer,
            "best_gap": self.best_gap,
            "converged": self.converged,
            "rng_state": self.rng_state,
            "provenance": self.provenance,
        }
        arrays["header"] = np.array(json.dumps(header))
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return content.getvalue()

    @classmethod
    def load(cls, path: str | Path, game: Game[P, Any], policy: P | None = None) -> Solution[P]:
        """Read a solution of `game` written by `save`, bit for bit.

        The file holds arrays only, so the policies are built anew from those of `game`. If the run
        was started from a `policy` in another geometry than the game's own, pass a policy in that
        geometry here too. Raises `ValueError` for a file that is not a saved solution, and for one
        of another game, also where that has the same shape.
        """
        source = npz_path(path)
        require_game(game, "initial_policy")
        # Several kinds: a run begins in the game's geometry or in that of `policy`, and a
        # self-tuning solver may change it.
        templates: dict[str, Any] = {}
        for start in (game.initial_policy(), policy):
            if start is not None:
                templates[_stored(start).kind] = start
                # By name: `isinstance` overlooks what a wrapper's `__getattr__` forwards.
                tunable: Any = game
                if all(callable(getattr(tunable, verb, None)) for verb in ("smoothed", "gap")):
                    other, _ = tunable.smoothed(start)
                    templates[_stored(other).kind] = other
        try:
            arrays = read(source)
            header = json.loads(str(arrays.pop("header")))
            if other := other_payoffs(game, header["provenance"]):
                raise Damaged(other)
            kinds: dict[str, str] = header["kinds"]
            for kind in kinds.values():
                if kind not in templates:
                    own = _stored(game.initial_policy() if policy is None else policy).kind
                    raise _Foreign(
                        f"{str(source)!r} holds policies of kind {shown(kind)}, not {own}: "
                        "pass a `policy` of the kind in the file."
                    )
            return replace(_solution(arrays, header, templates), game=game)
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {str(source)!r} to load.") from error
        except _Foreign:
            raise
        # A foreign file can fail in any way: zip, zlib, JSON, shapes.
        except Exception as error:
            why = f": {error}" if isinstance(error, Damaged) else ""
            raise ValueError(
                f"{str(source)!r} is not a saved solution of this game{why}."
            ) from error


KEPT = ("q", "eta", "alpha")
"""The fields of a state, beside its memory, that are saved if they are not None."""


def npz_path(path: str | Path) -> Path:
    """The path of a solution's file: `~` is the user's folder, and the name ends in `.npz`."""
    require_kind("path", path, (str, PathLike), "the path of a file")
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        return path
    # `with_name` has no answer where there is no name, as in "." or "/".
    return path.with_name(path.name + ".npz") if path.name else path


class _Foreign(ValueError):
    """A sound file of another game, with the whole sentence about it."""


def _solution(
    arrays: dict[str, Array], header: Mapping[str, Any], templates: Mapping[str, Any]
) -> Solution[Any]:
    """The solution in the arrays and the header of a file; any exception if there is none."""
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
    return Solution(
        state,
        Trace(columns),
        best,
        gap,
        converged,
        header["rng_state"],
        provenance | {"seed": int(provenance["seed"])},
        answer,
    )


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
    stored = _stored(template)
    for part, own in stored.arrays().items():
        # Some policies have more parts than others of their kind: `restored` knows which it needs.
        array = parts.get(part, own)
        if array.dtype != own.dtype or array.ndim < min(2, own.ndim):
            raise Damaged(
                f"`{name}/{part}` must be {own.dtype} of shape (..., {own.shape}), "
                f"got {array.dtype} of shape {array.shape}"
            )
        if array.dtype.kind == "f" and bool((array == np.inf).any()):
            raise Damaged(f"`{name}/{part}` holds infinity")
    return stored.restored(parts)


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


def _numbers(name: str, item: object) -> Mapping[str, Array]:
    """An array of numbers, or one number, as the part `array`; else `ValueError`."""
    array = np.asarray(item)
    # Objects would be pickled, and reading pickles runs foreign code.
    if array.dtype.hasobject:
        raise ValueError(f"Cannot save `{name}`: it is neither a policy nor an array of numbers.")
    return {"array": array}
