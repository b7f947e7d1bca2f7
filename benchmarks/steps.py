"""A step of ours against a step of peers that step, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from floor import steps
from measure import Contest, Run

import mpo_games as mg

SIZES = (3, 10, 100)

ETA = ALPHA = 0.1


def contests() -> Iterator[Contest]:
    """MMD, replicator dynamics, fictitious play, regret matching."""
    rng = np.random.default_rng(0)
    games = [(n, rng.uniform(-1.0, 1.0, (n, n))) for n in SIZES]
    for n, payoff in games:
        yield Contest(
            f"MMD, {n} x {n} (the same iterates; quantecon samples one logit reply instead)",
            "step",
            steps(mg.MatrixGame(payoff), mg.MMD(ETA, ALPHA)),
            present(
                {"OpenSpiel mmd_dilated": openspiel_mmd, "quantecon LogitDynamics": logit}, payoff
            ),
        )
    for n, payoff in games:
        yield Contest(
            f"Multiplicative weights and its relatives, {n} x {n}",
            "step",
            steps(mg.MatrixGame(payoff), mg.MirrorDescent(ETA)),
            present(
                {
                    "OpenSpiel replicator, Euler": openspiel_replicator,
                    "OpenSpiel projected replicator": openspiel_projected,
                },
                payoff,
            ),
        )
    for n, payoff in games:
        yield Contest(
            f"Multiplicative weights, 1000 steps, and nashpy's odeint to the same time, {n} x {n}",
            "trajectory",
            trajectory(payoff),
            present({"nashpy asymmetric replicator": nashpy_replicator}, payoff),
        )
    for n, payoff in games:
        yield Contest(
            f"Fictitious play, {n} x {n}",
            "step",
            steps(mg.MatrixGame(payoff), mg.FictitiousPlay()),
            present(
                {"nashpy fictitious_play": nashpy_play, "quantecon FictitiousPlay": quantecon_play},
                payoff,
            ),
        )
    for n, payoff in games:
        yield Contest(
            f"Regret matching, {n} x {n} (nashpy's rule keeps no regrets)",
            "step",
            steps(mg.MatrixGame(payoff), mg.RegretMatching()),
            present({"nashpy regret_minimization": nashpy_regret}, payoff),
        )


def present(peers: dict[str, Callable[[np.ndarray], Run]], payoff: np.ndarray) -> dict[str, Run]:
    """The peers' runs on `payoff`; one that is not installed fails in its trial, which says so."""
    return {name: deferred(make, payoff) for name, make in peers.items()}


def deferred(make: Callable[[np.ndarray], Run], payoff: np.ndarray) -> Run:
    """A run that `make` sets up at the first call, which is not timed."""
    made: list[Run] = []

    def run(count: int) -> object:
        if not made:
            made.append(make(payoff))
        return made[0](count)

    return run


def openspiel_mmd(payoff: np.ndarray) -> Run:
    """Magnetic mirror descent in the sequence form of the matrix game, played in turn."""
    import pyspiel
    from open_spiel.python.algorithms.mmd_dilated import MMDDilatedEnt

    matrix = pyspiel.create_matrix_game(payoff.tolist(), (-payoff).tolist())
    solver = MMDDilatedEnt(pyspiel.convert_to_turn_based(matrix), alpha=ALPHA, stepsize=ETA)

    def run(count: int) -> None:
        for _ in range(count):
            solver.update_sequences()

    return run


def openspiel_replicator(payoff: np.ndarray) -> Run:
    """Euler's method on the replicator equation of two populations."""
    from open_spiel.python.egt import dynamics

    field = dynamics.MultiPopulationDynamics(np.stack([payoff, -payoff]), dynamics.replicator)
    start = np.concatenate([np.full(n, 1.0 / n) for n in payoff.shape])

    def run(count: int) -> None:
        state = start
        for _ in range(count):
            state = state + ETA * field(state)

    return run


def openspiel_projected(payoff: np.ndarray) -> Run:
    """Projected replicator dynamics."""
    from open_spiel.python.algorithms.projected_replicator_dynamics import (
        projected_replicator_dynamics,
    )

    def run(count: int) -> None:
        projected_replicator_dynamics([payoff, -payoff], prd_iterations=count, prd_dt=ETA)

    return run


def trajectory(payoff: np.ndarray) -> Run:
    """Multiplicative weights: 1000 steps, every policy kept."""
    game, solver = mg.MatrixGame(payoff), mg.MirrorDescent(ETA)

    def run(count: int) -> None:
        for _ in range(count):
            [state.policy.probs for state in islice(mg.iterate(game, solver), 1001)]

    return run


def nashpy_replicator(payoff: np.ndarray) -> Run:
    """The replicator equation by `odeint`, which is asked for as many points."""
    import nashpy

    game = nashpy.Game(payoff)

    def run(count: int) -> None:
        for _ in range(count):
            game.asymmetric_replicator_dynamics(timepoints=ETA * np.arange(1001.0))

    return run


def nashpy_play(payoff: np.ndarray) -> Run:
    """Fictitious play, ties broken at random."""
    import nashpy

    game = nashpy.Game(payoff)

    def run(count: int) -> None:
        np.random.seed(0)  # noqa: NPY002 (nashpy draws from the global generator)
        for _ in game.fictitious_play(iterations=count):
            pass

    return run


def quantecon_play(payoff: np.ndarray) -> Run:
    """Fictitious play from uniform."""
    from quantecon.game_theory import FictitiousPlay

    dynamics = FictitiousPlay(bimatrix(payoff))
    start = tuple(np.full(n, 1.0 / n) for n in payoff.shape)

    def run(count: int) -> None:
        dynamics.play(actions=start, num_reps=count)

    return run


def logit(payoff: np.ndarray) -> Run:
    """Logit-response dynamics: in a step one player draws one action."""
    from quantecon.game_theory import LogitDynamics

    dynamics = LogitDynamics(bimatrix(payoff), beta=1.0 / ALPHA)
    rng = np.random.default_rng(0)

    def run(count: int) -> None:
        dynamics.play(init_actions=(0, 0), num_reps=count, random_state=rng)

    return run


def nashpy_regret(payoff: np.ndarray) -> Run:
    """Nashpy's regret minimisation."""
    import nashpy

    game = nashpy.Game(payoff)

    def run(count: int) -> None:
        list(game.regret_minimization(iterations=count))

    return run


def bimatrix(payoff: np.ndarray) -> object:
    """The game as quantecon represents it."""
    from quantecon.game_theory import NormalFormGame, Player

    return NormalFormGame((Player(payoff.copy()), Player(-payoff.T.copy())))
