"""Contestants: a solver with the settings that it may choose from, the rule that tunes it, a race.

Every contestant gets the same budget of feedback evaluations, and chooses among equally many
settings (`TRIES`), spread over the knobs that it has. The setting is chosen on games that are not
reported, one setting for all games.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.metrics import duality_gap
from mpo_games.policies.mirror_maps import Entropy, Geometry
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Solver
from mpo_games.solution import Solution
from mpo_games.solve import solve
from mpo_games.trace import Trace

TRIES = 12
"""How many settings a method with knobs chooses from."""

REPORTED = (0.5, 0.9, 1.0)
"""The quantiles over games by which a race is reported, and its settings are chosen."""

CONVERGED = 1e-15
"""The gap, in units of payoff, at which a method that plays games one by one stops."""

Grid = Mapping[str, Sequence[float]]
"""The values that each setting of a method may have."""

Batch = tuple[Any, TabularPolicy | None]
"""Games of one shape, and the policies from which play starts; None: each game's own start."""


@dataclass(frozen=True, slots=True)
class Method:
    """A contestant: how its solver is built, and from which settings.

    `Method("Mine", "yours", Mine, {"eta": (0.1, 0.3, 1.0)})` is a solver of your own that
    `compare(..., tune=games)` tunes. Where `compare` builds it, values of `eta` are in units of
    `1 / L`, and those of `alpha` and `floor` in units of `L`, the largest payoff of a table:
    then one setting means the same in every game.

    >>> Method("MMD", "yours", MMD, {"eta": (0.1, 0.3), "alpha": (0.1, 0.2)}).settings()[1]
    {'eta': 0.1, 'alpha': 0.2}
    """

    name: str
    """Its name in figures, which decides its look (`mpo_games.plot.style`)."""
    family: str
    """The group of methods that it is drawn with."""
    build: Callable[..., Solver]
    """The solver from the values of its settings."""
    grid: Grid = field(default_factory=dict)
    """The values of each setting that it may be tuned over; none for a method without settings."""
    geometry: Geometry = Entropy()
    """The geometry of its policies on tables."""
    view: Callable[[Any], Any] | None = None
    """The game that it plays in place of a tree; None for a method on tables."""
    alone: bool = False
    """Whether it plays games one by one, since it decides something for a whole batch at once."""
    default: Mapping[str, float] = field(default_factory=dict)
    """The setting that it has untuned."""
    steps: int | None = None
    """The length of the run for which its schedules are made; `build` is told it as `steps`."""

    def __repr__(self) -> str:
        settings = f", {len(self.settings())} settings" if self.grid else ""
        return f"Method({self.name!r}{settings})"

    def settings(self) -> list[dict[str, float]]:
        """The settings it is tuned over: all combinations of the grid."""
        values = product(*self.grid.values())
        return [dict(zip(self.grid, chosen, strict=True)) for chosen in values]

    def solver(self, setting: Mapping[str, Any], unit: float = 1.0) -> Solver:
        """The solver at a setting, in a game whose payoffs are measured in `unit`."""
        scale = {"eta": 1.0 / unit, "alpha": unit, "floor": unit}
        # Grids hold floats, but a period counts steps.
        values = {k: int(v) if k == "period" else v * scale.get(k, 1) for k, v in setting.items()}
        return self.build(**values, **({} if self.steps is None else {"steps": self.steps}))

    def lasting(self, steps: float) -> Method:
        """The method for runs of `steps` evaluations."""
        return self if self.steps is None else replace(self, steps=round(steps))

    def unit(self, game: Any) -> float:
        """The unit of payoff in `game`, its largest one; 1 on trees.

        There most methods measure a step in the payoffs at stake, whatever their unit is.
        """
        if self.view is not None:
            return 1.0
        # In a game whose payoffs are all 0 there is no unit, and any setting will do.
        return float(np.max(getattr(game, "bound", 1.0))) or 1.0


def split(batches: Sequence[Batch]) -> Iterator[Batch]:
    """The games of the batches one by one, each with its start."""
    for game, start in batches:
        if start is None:
            yield game, None
            continue
        for i in range(len(game.payoff)):
            one = (
                PreferenceGame(game.preferences[i])
                if isinstance(game, PreferenceGame)
                else MatrixGame(game.payoff[i])
            )
            yield one, start.replace(start.coordinates[i])


def run(
    method: Method,
    game: Any,
    setting: Mapping[str, Any],
    budget: float,
    unit: float = 1.0,
    **options: Any,
) -> Solution[Any]:
    """Solve `game`; the column `gap` of the trace is the gap of the method's answer."""
    solver = method.solver(setting, unit)
    return solve(game, solver, budget, metrics={"gap": duality_gap}, **options)


def race(
    method: Method,
    setting: Mapping[str, Any],
    batches: Sequence[Batch],
    marks: Sequence[float],
    *,
    scaled: bool = False,
    seed: int = 0,
) -> Array:
    """The gap of every game of the batches when the evaluations reach each mark, `(marks, games)`.

    A method that is `alone` stops at a gap of `CONVERGED`, which then counts for all later marks.
    Where `scaled`, the setting is in the game's units of payoff.
    """
    columns = []
    tol = CONVERGED if method.alone else None
    for game, start in split(batches) if method.alone else batches:
        seen = game if method.view is None else method.view(game)
        policy = _start(method, seen, start)
        unit = method.unit(seen) if scaled else 1.0
        found = run(
            method, seen, setting, marks[-1], unit, policy=policy, at=marks, tol=tol, seed=seed
        ).trace
        # The first record at or after a mark; the last one where the method stopped before.
        rows = np.minimum(np.searchsorted(found["evaluations"], marks), len(found) - 1)
        columns.append(np.reshape(found["gap"][rows], (len(marks), -1)))
    # Rounding may leave a gap below 0.
    return np.maximum(np.concatenate(columns, axis=1), 0.0)


def _start(method: Method, game: Any, start: TabularPolicy | None) -> TabularPolicy | None:
    """The same probabilities in the method's geometry; None where they are the game's own."""
    if start is None and method.view is None and method.geometry != Entropy():
        start = game.initial_policy()
    if start is None:
        return None
    return TabularPolicy.from_probs(start.probs, start.legal, method.geometry, start.actions)


def chosen(method: Method, score: Callable[[Mapping[str, float]], float]) -> dict[str, float]:
    """The setting of least score; the only one of a method without knobs."""
    settings = method.settings()
    return min(settings, key=score) if len(settings) > 1 else settings[0]


def mean_log(gaps: Any) -> float:
    """The mean log10 gap, which judges a setting: low, soon, and without spikes is best."""
    # Below is rounding, and 0 has no logarithm.
    return float(np.mean(np.log10(np.maximum(gaps, 1e-16))))


def late(trace: Trace, budget: float) -> float:
    """The mean log10 gap of the records of the last two decades of the budget."""
    return mean_log(trace["gap"][trace["evaluations"] >= budget / 100])


def tune(
    method: Method, batches: Sequence[Batch], marks: Sequence[float], *, scaled: bool = False
) -> dict[str, float]:
    """The setting whose `REPORTED` quantiles have the least mean log10 over the marks."""

    def score(setting: Mapping[str, float]) -> float:
        gaps = race(method, setting, batches, marks, scaled=scaled)
        return mean_log(np.quantile(gaps, REPORTED, axis=1))

    return chosen(method, score)
