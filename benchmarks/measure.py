"""How things are timed: entrants of a contest take turns, and the median ratio counts.

The clock is the processor time of this process, so that other work on the machine disturbs little.
A time in microseconds is that of the fastest round.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

ROUNDS = 15
"""How many turns every entrant takes."""

LEAST, ENOUGH = 5, 6.0
"""Once a contest has lasted `ENOUGH` seconds, `LEAST` rounds are enough."""

TURN = 0.02
"""The least seconds of a turn: a short run is repeated within it."""

SLOW = 2.0
"""A run of so many seconds fills a turn, even if it compiled something on the way."""

LIMIT = 10.0
"""Seconds after which an entrant's trial run is given up, unless the contest says otherwise."""

Run = Callable[[int], Any]
"""`run(count)` does `count` units of work (steps, solves) and returns its answer."""


@dataclass(frozen=True)
class Contest:
    """One question: how long does a unit of work take us, and how long the others?"""

    title: str
    """What is computed, on what."""
    unit: str
    """What one unit of work is, for example `step`."""
    ours: Run
    """Our work."""
    others: Mapping[str, Run]
    """The work of each other entrant, by its name."""
    error: Callable[[Any], float] | None = None
    """The error of an answer, by our certificate: its duality gap."""
    batch: int = 1
    """How many units of work one count of ours is: the games of a batch."""
    aims: Mapping[str, float] = field(default_factory=dict)
    """The aim of our time: at most so many times the time of the named entrant. Under the name
    `microseconds` it is at most so many microseconds, in the fastest round."""
    limit: float = LIMIT
    """Seconds after which an entrant's trial run is given up."""


@dataclass(frozen=True)
class Result:
    """What was measured of one entrant."""

    contest: str
    unit: str
    entrant: str
    seconds: float | None
    """Processor time of a unit of work in the fastest round."""
    ratio: float | None
    """The entrant's time / our time in the same round, median over the rounds; above 1 we lead."""
    spread: tuple[float, float] | None
    """Quartiles of that ratio."""
    error: float | None
    """The duality gap of the answer."""
    note: str = ""
    """Why there is no number; on our own line, whether the aims are met."""


@dataclass
class _Entrant:
    name: str
    run: Run
    count: int = 1
    answer: Any = None
    times: list[float] = field(default_factory=list)


def hold(contest: Contest) -> list[Result]:
    """Let all entrants take turns; ours is the first result."""
    entrants, failed = [_Entrant("mpo-games", contest.ours)], []
    for name, run in contest.others.items():
        trouble = _trial(run, contest.limit)
        if trouble:
            failed.append(Result(contest.title, contest.unit, name, *[None] * 4, trouble))
        else:
            entrants.append(_Entrant(name, run))
    for entrant in entrants:
        _calibrate(entrant)
    # Garbage of the trials must not be collected in somebody's turn.
    gc.collect()
    started = time.perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST and time.perf_counter() - started > ENOUGH:
            break
        for entrant in entrants:
            entrant.times.append(_turn(entrant) / entrant.count)
    return [*(_result(contest, entrants[0], e, entrants) for e in entrants), *failed]


def _trial(run: Run, limit: float) -> str:
    """Why `run` cannot take part; empty if it can.

    It is tried in a process of its own, which can be stopped if it gives no answer.
    """
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)

    def attempt() -> None:
        try:
            run(1)
            send.send("")
        except Exception as error:
            send.send(f"{type(error).__name__}: {error}".splitlines()[0])

    child = multiprocessing.get_context("fork").Process(target=attempt)
    child.start()
    try:
        return str(receive.recv()) if receive.poll(limit) else f"no answer within {limit:g} s"
    finally:
        child.kill()
        child.join()


def _calibrate(entrant: _Entrant) -> None:
    """Find the count at which a turn lasts long enough to be timed; the first run warms up."""
    began = time.process_time()
    entrant.answer = entrant.run(1)
    if time.process_time() - began >= SLOW:
        return
    while True:
        # The better of two: a first run at a new count may compile something.
        seconds = min(_turn(entrant), _turn(entrant))
        if seconds >= TURN:
            return
        entrant.count = max(2 * entrant.count, int(entrant.count * 1.2 * TURN / max(seconds, 1e-7)))


def _turn(entrant: _Entrant) -> float:
    began = time.process_time()
    entrant.run(entrant.count)
    return time.process_time() - began


def _result(
    contest: Contest, ours: _Entrant, entrant: _Entrant, all_of_them: Sequence[_Entrant]
) -> Result:
    # One count of ours may stand for a batch of units.
    share = {ours.name: contest.batch}
    mine, theirs = ([t / share.get(e.name, 1) for t in e.times] for e in (ours, entrant))
    # Round by round: what slows the machine down for a while slows both.
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    error = contest.error(entrant.answer) if contest.error is not None else None
    note = "; ".join(_verdicts(contest, mine, all_of_them)) if entrant is ours else ""
    return Result(
        contest.title,
        contest.unit,
        entrant.name,
        min(theirs),
        median(ratios),
        (low, high),
        error,
        note,
    )


def _verdicts(
    contest: Contest, mine: Sequence[float], entrants: Sequence[_Entrant]
) -> Iterator[str]:
    """Whether each aim is met whose entrant took part."""
    times = {e.name: e.times for e in entrants}
    for name, most in contest.aims.items():
        if name == "microseconds":
            figure, wanted = min(mine) * 1e6, f"at most {most:g} µs"
        elif name in times:
            figure = median(a / b for a, b in zip(mine, times[name], strict=True))
            wanted = f"at most {most:g} x {name}"
        else:
            continue
        yield f"aim {wanted}: {'met' if figure <= most else 'MISSED'} ({figure:.3g})"
