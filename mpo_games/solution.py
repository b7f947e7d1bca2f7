"""The outcome of a run, and its file: an npz with JSON provenance, without pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Generic

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.capabilities import Stored
from mpo_games.checks import has_verbs, require_game, require_kind
from mpo_games.labelled import shown
from mpo_games.npz import Damaged, read
from mpo_games.protocol import Game, Number, P, State
from mpo_games.provenance import other_payoffs
from mpo_games.saved import numbers, parts_of, stored
from mpo_games.table import Table
from mpo_games.trace import Trace
from mpo_games.written import plural

ROUNDING = 1e-12
"""Values of this size and below are rounding errors of 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[P]):
    """The outcome of `solve`: the solver's answer, the best recorded one, the trace.

    >>> game = load('comal')
    >>> start = game.policy([0.2, 0.5, 0.3])
    >>> solution = solve(game, MMD(eta=0.3, alpha=0.1), 500, policy=start)
    >>> solution
    MMD(eta=0.3, alpha=0.1) on comal: gap 0.059 after 500 evaluations
    >>> print(solution.table())
    action  probability
         0       0.2749
         1       0.2797
         2       0.4454
    """

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
        if "gap" not in self.trace.columns:
            raise KeyError(
                f"No gap was recorded: a {type(self.game).__name__} has no `duality_gap`. Pass "
                "`metrics={'gap': ...}` to `solve`, or add the method."
            )
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
        facts: list[tuple[str, Any]] = [("game", self._title), ("solver", self.method)]
        what = "last iterate" if self.policy is self.iterate else "answer"
        if "gap" in self.trace and len(self.trace):
            facts += [(f"duality gap of the {what}", self.gap), ("best gap", self.best_gap)]
            facts += [(f"exploitability of the {what}", self.exploitability)]
        if has_verbs(self.game, "value") and np.ndim(value := self.value) == 0:
            # 2e-18 is a rounding error of 0, which a table would print with all its digits.
            facts += [("value", value if abs(float(value)) > ROUNDING else 0.0)]
        facts += [("evaluations", self.state.evaluations), ("steps", self.state.step)]
        facts += [("reached `tol`", self.converged), ("seed", self.provenance["seed"])]
        return Table(("fact", "value"), tuple(facts))

    def __repr__(self) -> str:
        what = f"{self.method} on {self._title}"
        count = self.state.evaluations
        spent = f"after {count:.10g} {plural(count, 'evaluation')}"
        if "gap" not in self.trace or not len(self.trace):
            return f"{what}: {spent}"
        return f"{what}: {'largest ' * (self.trace['gap'].ndim > 1)}gap {self.gap:.2g} {spent}"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def method(self) -> str:
        """The solver as it is written in code."""
        # Files of earlier releases have the long text only.
        return str(self.provenance.get("method", self.provenance["solver"]))

    @property
    def _title(self) -> str:
        return str(getattr(self.game, "title", self.provenance["game"]))

    def plot(self, metric: str = "gap", *, label: str | None = None, **options: Any) -> Any:
        """Draw a recorded metric against evaluations; returns the matplotlib axes.

        The curve looks as its method does in all figures, and `label` (the method's name by
        default) is its title. Several solutions on the same axes (`ax=`) differ, and each has its
        label at its end. `options` are those of `mpo_games.plot.convergence`.
        """
        # Matplotlib takes longer to import than most runs take.
        from mpo_games.plot import convergence
        from mpo_games.plot.naming import named

        name, settings = named(self.provenance["solver"])
        if label is not None:
            name, settings = label, ()
        return convergence({name: self.trace}, metric, settings={name: settings}, **options)

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
                found = stored(item)
                kinds[name], parts = found.kind, found.arrays()
            else:
                parts = numbers(name, item)
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
            # None in files before release 0.3 too, whose solutions all speak of the last iterate.
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
                templates[stored(start).kind] = start
                # By name: `isinstance` overlooks what a wrapper's `__getattr__` forwards.
                tunable: Any = game
                if all(callable(getattr(tunable, verb, None)) for verb in ("smoothed", "gap")):
                    other, _ = tunable.smoothed(start)
                    templates[stored(other).kind] = other
        try:
            arrays = read(source)
            header = json.loads(str(arrays.pop("header")))
            if other := other_payoffs(game, header["provenance"]):
                raise Damaged(other)
            kinds: dict[str, str] = header["kinds"]
            for kind in kinds.values():
                if kind not in templates:
                    own = stored(game.initial_policy() if policy is None else policy).kind
                    raise _Foreign(
                        f"{str(source)!r} holds policies of kind {shown(kind)}, not {own}: "
                        "pass a `policy` of the kind in the file."
                    )
            return cls(**parts_of(arrays, header, templates), game=game)
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


def npz_path(path: str | Path) -> Path:
    """The path of a solution's file: `~` is the user's folder, and the name ends in `.npz`."""
    require_kind("path", path, (str, PathLike), "the path of a file")
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        return path
    if path.is_dir():
        raise ValueError(f"`path` is a folder, {str(path)!r}: name a file in it.")
    # `with_name` has no answer where there is no name, as in "." or "/".
    return path.with_name(path.name + ".npz") if path.name else path


class _Foreign(ValueError):
    """A sound file of another game, with the whole sentence about it."""
