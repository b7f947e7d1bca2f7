"""Solvers x games x seeds at equal budgets: `compare`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from mpo_games.call_cache import CallCache
from mpo_games.checks import has_verbs, is_number, require_count, require_game, require_solver
from mpo_games.comparison import Comparison, Run
from mpo_games.games.catalogue import load
from mpo_games.labelled import shown
from mpo_games.method import TRIES, Method, race, tune
from mpo_games.protocol import Game, Solver
from mpo_games.rivals import Baseline
from mpo_games.solve import log_spaced

Contestant = Solver | Method | Baseline
"""What plays: a solver as it is, a solver with a grid of settings, or a rival by name."""

Source = Game[Any, Any] | str | Callable[[int], Game[Any, Any]]
"""A game, the name of one (`load`), or a function of the seed that makes one."""

OWN = "yours"
"""The family of solvers that are no baseline."""

PER_DECADE = 10
"""How many records of the gap in each decade of evaluations."""


def compare(
    solvers: Mapping[str, Contestant],
    games: Mapping[str, Source] | Sequence[Source] | Source,
    budget: float,
    *,
    seeds: Iterable[int] = (0,),
    tune_on: Mapping[str, Source] | Sequence[Source] | Source | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Run every solver on every game with every seed, each for `budget` evaluations.

    All runs have the same budget of feedback evaluations, and their gaps are read at the same
    marks. A solver plays as it is, and its gap is that of its answer. A baseline plays in the
    geometry and with the setting that its figures use; `baselines()` has them all. Those that are
    not made for a kind of game are left out, and the table says so. The result depends on the
    arguments alone, however many workers there are.

    A run that fails (an exception, a gap that is not finite) is listed with its reason, and the
    others go on. Ctrl-C returns what is done until then, also while methods are tuned: then there
    are no runs yet, and a sentence says so.

    Args:
        solvers: solvers by the names that tables and figures give them:
            `{"Mine": Mine(eta=0.3)} | mg.baselines()`. A `Method` is a solver with a grid of
            settings.
        games: games by name, a list of games, or one. A text is a name that `load` knows. A
            function makes the game of each seed: `lambda seed: load("planted", seed=seed)`.
        budget: feedback evaluations of each run.
        seeds: seeds of the sampled feedback, and of games that are functions. With exact feedback a
            game is the same for every seed, so one is enough.
        tune_on: games on which methods with a grid choose their setting first, one for all `games`,
            by the least mean log10 of the median, the 90 % quantile and the worst gap in the last
            two decades of the budget. A function makes two games, with seeds that are not in
            `seeds`. Without it, baselines have the setting that this rule chose on games of all
            families.
        workers: how many runs at once, -1 for one on each CPU (joblib's `n_jobs`).
        cache: a folder that keeps every run. A call with the same arguments reads those that are
            done, and computes the others. It notices edits of your solver's class, but not of
            functions that this calls: then take another folder.
        progress: show a bar on a terminal, and elsewhere a line now and then.

    Raises:
        ValueError: for arguments that are no solvers, games, seeds or budget; for a `Method` with a
            grid, but without `default` and `tune_on`.

    >>> result = compare(
    ...     {"MPO": MPO(0.5, 0.2, 50), "MD": MirrorDescent(0.5)}, ["rps", "biased_rps"], 500
    ... )
    >>> result.gaps("MPO").shape == (len(result.marks), 2)
    True
    """
    entrants = _entrants(solvers)
    if not (is_number(budget) and 1.0 <= budget < np.inf):
        raise ValueError(f"`budget` must be at least 1 evaluation, got {shown(budget)}.")
    if workers is not None and (not is_number(workers) or workers % 1 or not workers):
        raise ValueError(
            "`workers` must be a number of processes, -1 for one on each CPU, got "
            f"{shown(workers)}."
        )
    drawn = _seeds(seeds)
    played = _instances(games, "games", drawn)
    marks = [m for m in log_spaced(budget, PER_DECADE) if m > 0.0]
    kept = CallCache(None if cache is None else Path(cache).expanduser())
    own = tuple(name for name, one in entrants.items() if not isinstance(one, Baseline))
    notes = _left_out(entrants, played)
    cells = [
        _Cell(name, _method(name, entrant, instance).lasting(budget), game, seed, instance)
        for name, entrant in entrants.items()
        for game, seed, instance in played
        if not isinstance(entrant, Baseline) or entrant.plays(instance)
    ]
    tuned: dict[tuple[str, bool], dict[str, Any]] = {}
    if tune_on is not None:
        spare = max(drawn) + 1
        tuning = _instances(tune_on, "tune_on", (spare, spare + 1))
        late = [mark for mark in marks if mark >= budget / 100]
        calls, keys = _to_tune(entrants, cells, tuning, late)
        found, whole = kept.run(
            _chosen, calls, workers=workers, what="methods tuned", progress=progress
        )
        if not whole:
            stopped = sum(one is None for one in found)
            kept_in = "`cache` keeps the others, and the same call goes on"
            lost = "with `cache=` a folder would have kept the others"
            notes.append(
                f"Interrupted: {stopped} of {len(calls)} methods are not tuned yet, and nothing "
                f"has run; {lost if cache is None else kept_in}."
            )
            return Comparison((), np.array(marks), own, tuple(notes))
        tuned = {key: one for key, one in zip(keys, found, strict=True) if one is not None}
    calls = []
    for cell in cells:
        setting = tuned.get(cell.key, {"setting": cell.method.default})["setting"]
        if cell.method.grid and not setting and cell.key not in tuned:
            raise ValueError(
                f"{cell.solver!r} has a grid of settings, but no `default`: pass games to choose "
                "on, `tune_on=`."
            )
        calls.append((cell.method, setting, cell.instance, cell.seed, marks))
    tried = {name: len(e.settings()) for name, e in entrants.items() if isinstance(e, Method)}
    notes += [
        f"{name} chose among {count} settings, the baselines among {TRIES}."
        for name, count in tried.items()
        if tuned and count > TRIES
    ]
    outcomes, whole = kept.run(_raced, calls, workers=workers, what="runs", progress=progress)
    if not whole:
        missing = sum(outcome is None for outcome in outcomes)
        notes.append(f"Interrupted: {missing} of {len(calls)} runs are missing.")
    runs = [
        Run(cell.solver, cell.game, cell.seed, call[1], **outcome)
        for cell, call, outcome in zip(cells, calls, outcomes, strict=True)
        if outcome is not None
    ]
    return Comparison(tuple(runs), np.array(marks), own, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Cell:
    """One run that is to be done."""

    solver: str
    method: Method
    game: str
    seed: int
    instance: Any

    @property
    def key(self) -> tuple[str, bool]:
        """Which setting is its own: a baseline has one on tables and one on trees."""
        return self.solver, self.method.view is not None


@dataclass(frozen=True, slots=True)
class _AsItIs:
    """Builds a solver that has its settings already."""

    solver: Solver

    def __call__(self) -> Solver:
        return self.solver


def _entrants(solvers: object) -> dict[str, Contestant]:
    if not isinstance(solvers, Mapping) or not solvers:
        raise ValueError(
            "`solvers` must be names with their solvers, `{'Mine': Mine(eta=0.3)} | baselines()`."
        )
    for name, solver in solvers.items():
        if not isinstance(name, str):
            raise ValueError(f"The name of a solver must be a text, got {shown(name)}.")
        if not isinstance(solver, (Method, Baseline)):
            require_solver(solver)
    return dict(solvers)


def _method(name: str, entrant: Contestant, game: Any) -> Method:
    if isinstance(entrant, Method):
        return entrant
    if isinstance(entrant, Baseline):
        return entrant.method(game)
    return Method(name, OWN, _AsItIs(entrant))


def _left_out(
    entrants: Mapping[str, Contestant], played: Sequence[tuple[str, int, Any]]
) -> list[str]:
    """A sentence for each kind of baselines that do not play all games."""
    left: dict[tuple[str, str], list[str]] = {}
    for name, entrant in entrants.items():
        if isinstance(entrant, Baseline):
            games = dict.fromkeys(game for game, _, it in played if not entrant.plays(it))
            if games:
                on = ", ".join(games) if len(games) <= 3 else f"{len(games)} of the games"
                left.setdefault((entrant.made_for, on), []).append(name)
    return [
        f"Left out on {on}, because they are made for {made}: {'; '.join(names)}."
        for (made, on), names in left.items()
    ]


def _seeds(seeds: object) -> tuple[int, ...]:
    found = tuple(seeds) if isinstance(seeds, Iterable) else ()
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"`seeds` must be different numbers, like `range(20)`, got {shown(seeds)}."
        )
    for seed in found:
        require_count("seeds", seed, least=0)
    return found


def _instances(games: Any, what: str, seeds: Sequence[int]) -> list[tuple[str, int, Any]]:
    """Each game by its name with each seed."""
    if isinstance(games, str) or has_verbs(games, "feedback") or callable(games):
        games = [games]
    if not isinstance(games, Mapping):
        if not isinstance(games, Sequence) or not games:
            raise ValueError(f"`{what}` must be games by name, or a list, got {shown(games)}.")
        games = {g if isinstance(g, str) else f"game {i + 1}": g for i, g in enumerate(games)}
    if not games:
        raise ValueError(f"`{what}` is empty: pass at least one game.")
    found = []
    for name, source in games.items():
        made = load(source) if isinstance(source, str) else source
        for seed in seeds:
            # A game is not callable, and a function of the seed has no feedback.
            game = made if has_verbs(made, "feedback") or not callable(made) else made(seed)
            require_game(game, "initial_policy")
            found.append((str(name), int(seed), game))
    return found


def _to_tune(
    entrants: Mapping[str, Contestant],
    cells: Sequence[_Cell],
    tuning: Sequence[tuple[str, int, Any]],
    late: Sequence[float],
) -> tuple[list[tuple[Any, ...]], list[tuple[str, bool]]]:
    """For each method with a grid: what `_chosen` is told, and the names by which it is known."""
    wanted = {cell.key: cell.method for cell in cells if cell.method.grid}
    calls, keys = [], []
    for (name, on_trees), method in wanted.items():
        batches = []
        for _, _, game in tuning:
            entrant = entrants[name]
            if isinstance(entrant, Baseline) and not entrant.plays(game):
                continue
            # A baseline that plays tables and trees may have another method on each.
            if _method(name, entrant, game).view is method.view:
                batches.append((game, None))
        if batches:
            keys.append((name, on_trees))
            calls.append((method, batches, late))
    return calls, keys


def _chosen(method: Method, batches: Any, marks: Sequence[float]) -> dict[str, Any]:
    """The setting that the rule chooses, or why there is none."""
    try:
        return {"setting": tune(method, batches, marks, scaled=True)}
    except Exception as error:
        # The runs of a method without a setting fail too, but those of others go on.
        return {"setting": method.default, "failure": f"{type(error).__name__}: {error}"}


def _raced(
    method: Method, setting: Mapping[str, float], game: Any, seed: int, marks: Sequence[float]
) -> dict[str, Any]:
    """The gaps of one run at the marks, or why there are none."""
    began, gaps, failure = perf_counter(), [], ""
    try:
        found = race(method, setting, [(game, None)], marks, scaled=True, seed=seed)
        if np.isfinite(found).all():
            gaps = found.tolist()
        else:
            failure = "The gap is infinite."
    # One run that fails does not lose the others.
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return {"gaps": gaps, "seconds": perf_counter() - began, "failure": failure}
