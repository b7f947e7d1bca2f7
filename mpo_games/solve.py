"""The loop: one generator of states, one `solve` that records, stops, resumes and saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, Self, cast

import numpy as np

from mpo_games.checkpoints import Checkpoints
from mpo_games.checks import (
    has_verbs,
    is_number,
    require_callable,
    require_count,
    require_flag,
    require_game,
    require_generator,
    require_kind,
    require_solver,
    require_weight,
)
from mpo_games.compat.earlier_names import respelled
from mpo_games.interrupts import CTRL_C, STOPS, Signals, unmasked
from mpo_games.labelled import read, shown
from mpo_games.metrics import Metric, duality_gap
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Game, P, Solver, State
from mpo_games.provenance import another_game, provenance
from mpo_games.recording import Recorder
from mpo_games.solution import Solution, npz_path

IDLE = 1000
"""A run ends with an error after so many steps in a row that charge nothing."""


def iterate(
    game: Game[P, Any],
    solver: Solver,
    *,
    policy: P | None = None,
    magnet: P | None = None,
    state: State[P] | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[State[P]]:
    """Yield the states of `solver` on `game` without end, the initial one first.

    The run starts at `policy`, or at the game's own start if that is None. The first magnet is
    `magnet`, or the start if that is None. If `state` is given, the run goes on from it instead.

    >>> from itertools import islice
    >>> [state.step for state in islice(iterate(load('comal'), MPO(0.3, 0.1, 50)), 3)]
    [0, 1, 2]
    """
    require_game(game, *(["initial_policy"] if policy is None and state is None else []))
    require_solver(solver)
    for name, noun in (("policy", policy), ("magnet", magnet)):
        if noun is not None and not has_verbs(noun, "mirror_step"):
            raise ValueError(f"`{name}` must be a policy, got {shown(noun)}.")
    if state is not None:
        require_kind("state", state, State, "a `State`")
    if rng is not None:
        require_generator(rng)
    if state is None:
        start = game.initial_policy() if policy is None else policy
        if not has_verbs(start, "mirror_step", "snapshot"):
            raise ValueError(f"`game.initial_policy()` must be a policy, got {shown(start)}.")
        state = State(start, start.snapshot() if magnet is None else magnet)
    while True:
        yield state
        try:
            state = solver.step(game, state, rng)
        except SystemError as error:
            # Ctrl-C as a compiled kernel returns: it is to arrive as a `KeyboardInterrupt`.
            raise unmasked(error) from None
        except AttributeError as error:
            # A choice of the user's own that forgets to return: the next one asks this of nothing.
            if isinstance(error.obj, State) or not hasattr(State, error.name or ""):
                raise
            raise _no_state(error.obj) from error
        if not isinstance(state, State):
            raise _no_state(state)


def _no_state(found: object) -> ValueError:
    return ValueError(
        f"A step, a feedback or a magnet returned {shown(found)} in the place of a state: it must "
        "return the new one, such as `state.advance(policy, 1.0)` or `state.move(magnet)`."
    )


def solve(
    game: Game[P, Any],
    solver: Solver,
    budget: float,
    *,
    policy: P | None = None,
    magnet: P | None = None,
    resume: Solution[P] | bool | None = None,
    metrics: Mapping[str, Metric] | None = None,
    at: Sequence[float] | None = None,
    tol: float | None = None,
    seed: int = 0,
    callback: Callable[[Solution[P]], None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool = False,
) -> Solution[P]:
    """Run `solver` on `game` for `budget` feedback evaluations, or until the gap is below `tol`.

    Args:
        game: the game.
        solver: the method with its settings.
        budget: feedback evaluations, the cost by which methods are compared: two a step for
            extragradient, half an evaluation for one player alone. Recording metrics is free.
        policy: where to start (the game's own start when None).
        magnet: the first magnet (the start when None).
        resume: a solution from which to go on instead, bit for bit, until `budget` evaluations
            are spent in all (the record at which that run stopped stays in the trace). True goes
            on from `checkpoint` if that file exists, and else starts: then one script both starts a
            run and goes on with it.
        metrics: what to record of the solver's answer, by name; by default the duality gap as
            `gap` where the game has one, and the solver's `decisions` where it has any. The answer
            is the last iterate, or what an averaging method declares (`capabilities.Answering`).
        at: the evaluations at which to record (log-spaced when None); the last step is always
            recorded.
        tol: stop at the first record whose `gap` (the worst of a batch) is at most this.
        seed: the seed of the random generator that drives sampled feedback.
        callback: called with the solution so far at every record.
        checkpoint: a file, in a folder that exists, that receives the last whole state, atomically:
            now and then, at the end, on any exception, and on SIGINT (Ctrl-C), SIGTERM and SIGHUP.
            These signals let the step end, and do what they would have done after the file is
            written; a second Ctrl-C does not wait. A run that resumes from the file gives the same
            result as one that was never stopped. If the file cannot be written (a full disk), a
            warning says so, the earlier file is kept, and the run goes on.
        checkpoint_every: seconds between two writes, at least twenty times as many as a write
            takes; 0 writes after every step.
        progress: show a progress bar if standard error is a terminal.

    Raises:
        ValueError: for a budget that is not positive, a negative `tol`, or `tol` without a gap; for
            a policy, magnet or solution of another game; for feedback whose shape is not that of
            the table; for a `checkpoint` that cannot be written.
        FloatingPointError: if a metric or a table is NaN: the run stops at that record.

    >>> game = PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
    >>> solution = solve(game, MPO(eta=0.3, alpha=0.1, period=50), budget=3000)
    >>> solution.gap < 1e-12
    True
    >>> solution.policy.probs.round(3)
    array([[0.364, 0.273, 0.364]])
    """
    require_game(game, "initial_policy")
    require_solver(solver)
    _require_resume(resume)
    if resume is True:
        if checkpoint is None:
            raise ValueError("`resume=True` goes on from `checkpoint`: pass its path, too.")
        resume = None
        if npz_path(checkpoint).exists():
            resume = Solution.load(checkpoint, game, policy)
            policy = magnet = None
    if not (is_number(budget) and 0.0 < budget < np.inf):
        raise ValueError(f"`budget` must be a positive number of evaluations, got {shown(budget)}.")
    if metrics is not None:
        _require_metrics(metrics)
    if metrics is None:
        metrics = {"gap": duality_gap} if has_verbs(game, "duality_gap") else {}
        metrics |= getattr(solver, "decisions", {})
    if not metrics.keys().isdisjoint(("step", "evaluations")):
        raise ValueError(
            "`metrics` may not be named `step` or `evaluations`: `solve` records these by itself."
        )
    if tol is not None and "gap" not in metrics:
        raise ValueError("`tol` needs a metric named `gap`: pass one in `metrics`.")
    if tol is not None and not (is_number(tol) and tol >= 0.0):
        raise ValueError(f"`tol` must be a number of at least 0, got {shown(tol)}.")
    if callback is not None:
        require_callable("callback", callback, "`print`")
    require_flag("progress", progress)
    wanted = log_spaced(budget) if at is None else _evaluations(at)
    resume = resume or None
    if resume is not None and (policy is not None or magnet is not None):
        raise ValueError("`resume` brings its own policy and magnet: pass it alone.")
    for name, start in (("policy", policy), ("magnet", magnet)):
        _require_of(game, name, start)
    require_count("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    recorder: Recorder[P] = Recorder(game, solver, metrics, tol, provenance(game, solver, seed))
    if resume is not None:
        _require_same_run(recorder.provenance, resume)
        rng.bit_generator.state = resume.rng_state
        recorder.restore(resume)
    kept = None
    if checkpoint is not None:
        kept = Checkpoints(checkpoint, checkpoint_every, recorder)
    # Another step would leave the point at which the earlier run stopped.
    if resume is not None and recorder.converged:
        if kept is not None:
            kept.kept = resume.state, resume.rng_state
            kept.finish()
        return recorder.solution(resume.state, resume.rng_state)
    marks = iter(sorted(wanted))
    states = iterate(
        game,
        solver,
        policy=policy,
        magnet=magnet,
        state=None if resume is None else resume.state,
        rng=rng,
    )
    state = next(states)
    # Counted from the last record and not from the state: the run may have stopped at a state whose
    # record was still to come. A fresh run must record its start.
    mark = min(next((m for m in marks if m > recorder.last), budget), budget)
    bits, idle = rng.bit_generator, 0
    if kept is not None:
        kept.kept = state, bits.state
    # Without a checkpoint nothing could be saved, and schedulers end the process as ever.
    with _bar(budget, progress) as bar, Signals(CTRL_C if kept is None else STOPS) as signals:
        try:
            _require_feedback(game, state.policy, seed)
            while True:
                if state.evaluations >= mark:
                    recorder.record(state)
                    bar.update(min(state.evaluations, budget) - bar.n)
                    if callback is not None:
                        callback(recorder.solution(state, bits.state))
                    if recorder.converged or state.evaluations >= budget:
                        break
                    mark = min(next((m for m in marks if m > state.evaluations), budget), budget)
                if signals.asked is not None:
                    if kept is not None:
                        kept.write()
                    # Returns if somebody else handles the signal: then the run goes on.
                    signals.deliver()
                spent, state = state.evaluations, next(states)
                idle = 0 if state.evaluations > spent else idle + 1
                if idle >= IDLE:
                    raise ValueError(
                        f"{IDLE} steps in a row charged no evaluation, so the run would never end: "
                        "return `state.advance(policy, evaluations)` with a number above 0."
                    )
                if kept is not None:
                    # One assignment, so that no interrupt comes between state and generator. And
                    # no call, because this is done at every step.
                    kept.kept = state, bits.state
                    if monotonic() >= kept.due:
                        kept.tick()
        except BaseException as error:
            cause = unmasked(error)
            if kept is not None:
                kept.rescue(cause)
            if cause is error:
                raise
            raise cause from None
        if kept is not None:
            kept.finish()
    return recorder.solution(state, bits.state)


def log_spaced(budget: float, per_decade: int = 20) -> list[float]:
    """The evaluations at which to record, ascending: 0, `per_decade` in each decade, `budget`.

    >>> log_spaced(100, per_decade=2)
    [0.0, 1.0, 3.0, 10.0, 32.0, 100.0]
    """
    require_weight("budget", budget)
    require_count("per_decade", per_decade)
    exponents = np.arange(0.0, np.log10(max(budget, 1.0)), 1.0 / per_decade)
    return sorted(
        {0.0, float(budget), *(m for m in np.round(10.0**exponents).tolist() if m < budget)}
    )


def _require_metrics(metrics: object) -> None:
    """`ValueError` unless `metrics` maps texts to functions."""
    named = isinstance(metrics, Mapping) and all(isinstance(name, str) for name in metrics)
    if not named or not all(callable(metric) for metric in cast(Any, metrics).values()):
        raise ValueError("`metrics` must map names to functions of `(game, state)`.")


def _evaluations(at: Sequence[float]) -> list[float]:
    """The numbers in `at`; `ValueError` for what is no list of numbers."""
    found = read(at, "at").values
    if found.ndim != 1 or np.isnan(found).any():
        raise ValueError("`at` must be a list of evaluations, without NaN.")
    return [float(one) for one in found]


def _require_resume(resume: object) -> None:
    """`ValueError` unless `resume` is a solution, or says whether to look for one."""
    kinds = (Solution, bool, type(None))
    require_kind("resume", resume, kinds, "a solution, like `Solution.load(path, game)`, or True")


def _require_same_run(ours: Mapping[str, Any], resume: Solution[P]) -> None:
    """`ValueError` if `resume` is a run of another game or another solver."""
    instead = "to start from its policy, pass `policy=resume.policy`."
    if other := another_game(ours, resume.provenance):
        raise ValueError(f"`resume` ran another game, {other}: {instead}")
    theirs = " ".join(resume.provenance["solver"].split())
    if respelled(ours["solver"]) != respelled(theirs):
        raise ValueError(f"`resume` ran another solver, {theirs}, not {ours['solver']}: {instead}")


def _require_of(game: Game[P, Any], name: str, policy: P | None) -> None:
    """`ValueError` unless `policy` has the type of the game's own policies, and their shape.

    Shapes are compared where both have coordinates, and without the axes of a batch.
    """
    if policy is None:
        return
    like = game.initial_policy()
    if type(policy) is not type(like):
        made = ": `game.policy` makes one" if has_verbs(game, "policy") else ""
        raise ValueError(
            f"`{name}` must be a {type(like).__name__} like `game.initial_policy()`, got "
            f"{type(policy).__name__}{made}."
        )
    own: Array | None = getattr(like, "coordinates", None)
    given: Array | None = getattr(policy, "coordinates", None)
    if own is not None and given is not None:
        rows = min(2, own.ndim)
        ours, theirs = own.shape[-rows:], given.shape[-rows:]
        if ours != theirs:
            raise ValueError(f"`{name}` must have shape (..., {ours}) in this game, got {theirs}.")


def _require_feedback(game: Game[P, Any], policy: P, seed: int) -> None:
    """`ValueError` if the feedback to a table has another shape, because NumPy might broadcast it.

    The feedback for this check is not charged and has a generator of its own: it changes no run.
    """
    like = game.initial_policy()
    if not isinstance(policy, TabularPolicy) or not isinstance(like, TabularPolicy):
        return
    wanted = np.broadcast_shapes(policy.coordinates.shape, like.coordinates.shape)
    found = np.shape(game.feedback(policy, rng=np.random.default_rng(seed)))
    if found != wanted:
        raise ValueError(f"`game.feedback` must have the policy's shape {wanted}, got {found}.")


class _Bar(Protocol):
    """What `solve` asks of a progress bar."""

    n: float

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def update(self, amount: float) -> object:
        """Go on by `amount` evaluations."""
        ...


class _NoBar:
    """The bar of a run that shows no progress."""

    n = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, amount: float) -> None:
        """Count, and show nothing."""
        self.n += amount


def _bar(budget: float, progress: bool) -> _Bar:
    if not progress:
        return _NoBar()
    from tqdm import tqdm

    bar: _Bar = tqdm(total=budget, unit="evaluation", disable=None, unit_scale=True)
    return bar
