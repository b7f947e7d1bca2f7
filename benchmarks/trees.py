"""An iteration on trees beside peers'; best responses, batches and steps of AutoMPO."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from measure import Contest, Run
from numba import njit

import mpo_games as mg
from mpo_games.compat import mmd_dilated
from mpo_games.games import openspiel
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.kernels import trees as kernels
from mpo_games.policies.treeplex import TreeplexPolicy

ETA = ALPHA = 0.1

SOLVER = mg.MMD(ETA, ALPHA)

DENSE = 5000
"""The most sequences of a player for OpenSpiel's `mmd_dilated`.

Its matrices are dense: those of liar's dice would need 13.5 GiB.
"""

PATIENCE = 40.0
"""Seconds after which a NashConv by OpenSpiel is given up; a busy machine is slow."""


@dataclass(frozen=True)
class Entry:
    """A game, and the microseconds that a loop in C was measured to need for a step."""

    name: str
    source: str
    c_loop: float
    large: bool = False
    """Whether the aims for Leduc and larger hold."""

    @property
    def aims(self) -> dict[str, float]:
        """The aims: ahead of every peer, and far ahead on large trees."""
        far, near = (0.01, 0.02) if self.large else (1.0, 1.0)
        return {
            "OpenSpiel mmd_dilated": 1.0,
            "OpenSpiel C++ CFR": far,
            "OpenSpiel C++ CFR+": 1.0,
            "LiteEFG MMD": far,
            "LiteEFG CFR": near,
        }


GAMES = (
    Entry("Kuhn", "kuhn_poker", 0.4),
    Entry("dark hex 2 x 2", "dark_hex(num_rows=2,num_cols=2)", 2.7),
    Entry("goofspiel(4)", "goofspiel(num_cards=4,imp_info=True,points_order=descending)", 4.1),
    Entry("Leduc", "leduc_poker", 22.0, large=True),
    Entry("liar's dice(4)", "liars_dice(dice_sides=4)", 28.0, large=True),
    Entry(
        "goofspiel(5)", "goofspiel(num_cards=5,imp_info=True,points_order=descending)", 63.0, True
    ),
    Entry("liar's dice(6)", "liars_dice", 690.0, large=True),
)


def contests() -> Iterator[Contest]:
    """Every game in turn, then the contests on Kuhn and Leduc alone."""
    for entry in GAMES:
        yield from of_game(entry)
    for entry in (GAMES[0], GAMES[3]):
        game = openspiel.compile_game(entry.source)
        yield Contest(
            f"Drop-in `MMDDilatedEnt` (the same iterates), {entry.name}",
            "update",
            drop_in(entry.source),
            {"OpenSpiel MMDDilatedEnt": ready(lambda entry=entry: openspiel_mmd(entry.source))},
        )
        yield Contest(
            f"AutoMPO, {entry.name}",
            "evaluation",
            evaluations(game, mg.AutoMPO()),
            {"MMD": steps(game)},
            aims={"MMD": 4.0},
        )
    kuhn, runs = openspiel.compile_game(GAMES[0].source), 100
    yield Contest(
        f"MMD step, {runs} runs of Kuhn at once",
        "run-step",
        steps(kuhn, policy=starts(kuhn, runs)),
        {"MMD of one run": steps(kuhn)},
        batch=runs,
    )


def of_game(entry: Entry) -> Iterator[Contest]:
    """A step, its kernels alone, CFR+ and NashConv of one game."""
    game, original = openspiel.compile_game(entry.source), entry.source
    peers: Mapping[str, Callable[[], Run]] = {
        "OpenSpiel mmd_dilated": lambda: openspiel_mmd(original),
        "OpenSpiel C++ CFR": lambda: openspiel_cfr(original, "CFRSolver"),
        "OpenSpiel C++ CFR+": lambda: openspiel_cfr(original, "CFRPlusSolver"),
        "LiteEFG MMD": lambda: liteefg(original, "MMD", eta=ETA, tau=ALPHA),
        "LiteEFG CFR": lambda: liteefg(original, "CFR"),
    }
    others = {name: ready(make) for name, make in peers.items()}
    size = f"{entry.name} ({game.tree.states} states, {game.tree.sequences} sequences)"
    yield Contest(f"MMD step, {size}", "step", steps(game), others, aims=entry.aims)
    yield Contest(
        f"MMD step, the kernels alone, {entry.name}",
        "step",
        kernels_alone(game),
        {"MMD": steps(game)},
        aims={"microseconds": 2.0 if entry.name == "Kuhn" else 2.0 * entry.c_loop},
    )
    yield Contest(
        f"CFR+, {entry.name}",
        "iteration",
        steps(game, mg.CFRPlus()),
        {"OpenSpiel C++ CFR+": others["OpenSpiel C++ CFR+"]},
        aims={"OpenSpiel C++ CFR+": 1.0},
    )
    policy = starts(game)
    yield Contest(
        f"NashConv of a random policy, {entry.name}",
        "policy",
        repeated(lambda: game.duality_gap(policy)),
        {"OpenSpiel C++ nash_conv": ready(lambda: openspiel_nash_conv(original, game, policy))},
        error=float,
        aims={"OpenSpiel C++ nash_conv": 0.001 if entry.name == "Leduc" else 1.0},
        limit=PATIENCE,
    )


def ready(make: Callable[[], Run]) -> Run:
    """The run that `make` sets up now; if that fails, a run that raises the reason in its trial."""
    try:
        return make()
    except Exception as error:
        trouble = error

    def run(_count: int) -> None:
        raise trouble

    return run


def repeated(once: Callable[[], Any]) -> Run:
    """The same work `count` times; returns the last answer."""

    def run(count: int) -> Any:
        answer = None
        for _ in range(count):
            answer = once()
        return answer

    return run


def steps(
    game: SequenceFormGame, solver: mg.Solver = SOLVER, policy: TreeplexPolicy | None = None
) -> Run:
    """`count` steps of `solver` by `iterate`."""

    def run(count: int) -> object:
        return next(islice(mg.iterate(game, solver, policy=policy), count, None))

    return run


def evaluations(game: SequenceFormGame, solver: mg.Solver) -> Run:
    """Steps of `solver` until `count` evaluations are spent."""

    def run(count: int) -> object:
        return next(s for s in mg.iterate(game, solver) if s.evaluations >= count)

    return run


def starts(game: SequenceFormGame, *lead: int) -> TreeplexPolicy:
    """A random policy, or a batch of the shape `lead`."""
    tree = game.tree
    # The first two sequences are empty; the others' weights are divided by their state's sum.
    weight = np.random.default_rng(0).exponential(size=(*lead, tree.sequences))
    total = np.add.reduceat(weight[..., 2:], tree.offset[:-1] - 2, axis=-1)
    weight[..., 2:] /= np.repeat(total, np.diff(tree.offset), axis=-1)
    return TreeplexPolicy.from_probs(tree, game.geometry, weight)


def kernels_alone(game: SequenceFormGame) -> Run:
    """The two kernels of a step in a compiled loop: a step without what Python costs."""
    tree, start = game.tree, game.initial_policy()

    def run(count: int) -> None:
        _loop(
            (game.row, game.column, game.payoff),
            (tree.parent, tree.offset, tree.block, game.weights),
            start.coordinates,
            start.plan,
            count,
        )

    return run


@njit(cache=True)
def _loop(payoffs: Any, tree: Any, start: Any, plan: Any, count: int) -> Any:
    log_p, z = start, plan
    for _ in range(count):
        q = kernels.bilinear(*payoffs, z, kernels.BOTH)
        log_p, z = kernels.dilated_step(*tree, log_p, q, start, ETA, ALPHA)
    return log_p


def drop_in(source: str) -> Run:
    """Our class with the methods of OpenSpiel's."""
    return repeated(mmd_dilated.MMDDilatedEnt(source, ALPHA, ETA).update_sequences)


def openspiel_mmd(source: str) -> Run:
    """Magnetic mirror descent in Python on dense matrices."""
    from open_spiel.python.algorithms.mmd_dilated import MMDDilatedEnt

    owner = openspiel.compile_game(source).tree.owner
    if np.bincount(owner).max() > DENSE:
        raise MemoryError("its dense matrices do not fit")
    solver = MMDDilatedEnt(openspiel.turn_based(source), alpha=ALPHA, stepsize=ETA)
    return repeated(solver.update_sequences)


def openspiel_cfr(source: str, name: str) -> Run:
    """A solver in C++: both players, one after the other."""
    import pyspiel

    solver = getattr(pyspiel, name)(openspiel.turn_based(source))
    return repeated(solver.evaluate_and_update_policy)


def openspiel_nash_conv(source: str, game: SequenceFormGame, policy: TreeplexPolicy) -> Run:
    """Best responses in C++ to the same policy."""
    import pyspiel

    original = openspiel.turn_based(source)
    table = openspiel.to_openspiel(original, game, policy)
    same = pyspiel.TabularPolicy(table.to_dict())
    return repeated(lambda: pyspiel.nash_conv(original, same))


def liteefg(source: str, name: str, **settings: float) -> Run:
    """A baseline of LiteEFG on the whole tree, through its OpenSpiel bridge, both players at once.

    The average that its CFR needs is another call, which is not timed.
    """
    import LiteEFG
    from LiteEFG import baselines

    # LiteEFG prints a lot, and keeps files of games in the home folder.
    with contextlib.redirect_stdout(io.StringIO()), _home(HOME.name):
        graph = getattr(baselines, name).graph(**settings)
        environment = LiteEFG.OpenSpielEnv(
            openspiel.turn_based(source), traverse_type="Enumerate", regenerate=False
        )
    environment.set_graph(graph)
    return repeated(lambda: graph.update_graph(environment))


HOME = tempfile.TemporaryDirectory()


@contextlib.contextmanager
def _home(folder: str) -> Iterator[None]:
    before = os.environ.get("HOME")
    os.environ["HOME"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before
