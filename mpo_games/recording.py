"""The records of a run as it goes: the metrics of its states, and the solution so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

import numpy as np

from mpo_games.capabilities import answer_of
from mpo_games.checks import NotANumber
from mpo_games.labelled import shown
from mpo_games.metrics import Metric
from mpo_games.protocol import Game, Number, P, Solver, State
from mpo_games.solution import Solution
from mpo_games.trace import Trace


class Recorder(Generic[P]):
    """Collects the records of one run and turns them into a `Solution`."""

    def __init__(
        self,
        game: Game[P, Any],
        solver: Solver,
        metrics: Mapping[str, Metric],
        tol: float | None,
        provenance: Mapping[str, Any],
    ) -> None:
        self.game, self.metrics, self.tol, self.provenance = game, metrics, tol, provenance
        self.names = ("step", "evaluations", *metrics)
        self.rows: list[tuple[Number, ...]] = []
        self.answers = solver if callable(getattr(solver, "answer", None)) else None
        self.answered: tuple[State[P], P] | None = None
        self.best: P | None = None
        self.best_gap = float("inf")

    def restore(self, solution: Solution[P]) -> None:
        """Take over the records of an earlier run; `ValueError` if it had other metrics."""
        if set(solution.trace.columns) != set(self.names):
            raise ValueError("`resume` recorded other metrics: pass the same `metrics`.")
        self.rows = list(zip(*(solution.trace[name] for name in self.names), strict=True))
        if self.rows:
            self.best, self.best_gap = solution.best, solution.best_gap
            # A run saved before release 0.3 measured its iterates, and its column must go on so.
            if solution.answer is None:
                self.answers = None
        # The generator is that of the earlier run, so the seed is too.
        self.provenance = {**self.provenance, "seed": solution.provenance["seed"]}

    def answer(self, state: State[P]) -> P | None:
        """What the solver answers with, or None if that is the last iterate."""
        if self.answers is None:
            return None
        # Kept, because the last state is recorded and then becomes the solution.
        if self.answered is None or self.answered[0] is not state:
            self.answered = state, answer_of(self.answers, self.game, state)
        return self.answered[1]

    @property
    def converged(self) -> bool:
        """Whether the last recorded gap has reached `tol`."""
        if self.tol is None or not self.rows:
            return False
        return bool(np.max(self.rows[-1][self.names.index("gap")]) <= self.tol)

    def record(self, state: State[P]) -> None:
        """Record the metrics of `state`, once; `FloatingPointError` for NaN."""
        # A resumed run may begin with the state of its last record.
        if self.rows and self.rows[-1][0] == state.step:
            return
        answer = self.answer(state)
        shows = state if answer is None else state.answering(answer)
        values = {name: metric(self.game, shows) for name, metric in self.metrics.items()}
        table = getattr(state.policy, "coordinates", 0.0)
        for name, number in {**values, "policy": table}.items():
            if np.asarray(number).dtype.kind not in "fiub":
                raise ValueError(f"The metric `{name}` must give numbers, got {shown(number)}.")
            # The maximum is NaN if any entry is, and takes half the time of `isnan(...).any()`.
            if np.size(number) and (worst := np.maximum.reduce(number, axis=None)) != worst:
                raise NotANumber(
                    f"`{name}` is NaN at step {state.step}: the game's feedback is not finite, "
                    "or a step overflowed. Check the payoffs and lower `eta`."
                )
        gap = float(np.max(values["gap"])) if "gap" in values else float("inf")
        # `<=`, so that in a run without gaps, where all are infinite, the best is the last.
        if gap <= self.best_gap:
            self.best, self.best_gap = shows.policy.snapshot(), gap
        self.rows.append((state.step, state.evaluations, *values.values()))

    @property
    def last(self) -> float:
        """The evaluations at the last record; below 0 before the first."""
        return float(self.rows[-1][1]) if self.rows else -1.0

    def solution(self, state: State[P], rng_state: Mapping[str, Any]) -> Solution[P]:
        """The solution at `state`, with all records so far."""
        answer = self.answer(state)
        # Without a record all columns are empty, and the answer now stands for the best.
        found = zip(*self.rows, strict=True) if self.rows else [()] * len(self.names)
        columns = zip(self.names, found, strict=True)
        return Solution(
            state,
            Trace({name: np.asarray(column) for name, column in columns}),
            (state.policy if answer is None else answer) if self.best is None else self.best,
            self.best_gap,
            self.converged,
            rng_state,
            self.provenance,
            answer,
            self.game,
        )
