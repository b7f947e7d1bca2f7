"""Our MMD step against the least that any such step needs: two matrix-vector products."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from measure import Contest, Run

import mpo_games as mg

SOLVER = mg.MMD(0.1, 0.1)


def contests() -> Iterator[Contest]:
    """Single steps, recorded runs, and a thousand games at once."""
    rng = np.random.default_rng(0)
    for n in (3, 10, 100, 300, 1000):
        payoff = rng.uniform(-1.0, 1.0, (n, n))
        game = mg.MatrixGame(payoff)
        limit = {300: {"NumPy: A @ y, x @ A": 2.0}, 1000: {"NumPy: A @ y, x @ A": 1.3}}.get(n, {})
        yield Contest(
            f"MMD step, {n} x {n}",
            "step",
            steps(game),
            {"NumPy: A @ y, x @ A": products(payoff)},
            aims=limit,
        )
    for n in (3, 10, 100, 300, 1000):
        payoff = rng.uniform(-1.0, 1.0, (n, n))
        game = mg.MatrixGame(payoff)
        yield Contest(
            f"MMD run of 1000 steps by `solve`, recorded as usual (log-spaced), {n} x {n}",
            "step",
            recorded(game, None),
            {"NumPy: A @ y, x @ A": products(payoff)},
            batch=1000,
            aims={"microseconds": 15.0} if n == 3 else {},
        )
    payoff = rng.uniform(-1.0, 1.0, (3, 3))
    yield Contest(
        "MMD run of 1000 steps by `solve`, recorded at every step, 3 x 3",
        "step",
        recorded(mg.MatrixGame(payoff), range(1001)),
        {"NumPy: A @ y, x @ A": products(payoff)},
        batch=1000,
        aims={"microseconds": 15.0},
    )
    for n in (3, 10):
        payoffs = rng.uniform(-1.0, 1.0, (1000, n, n))
        yield Contest(
            f"MMD step of 1000 games at once, {n} x {n}",
            "game-step",
            steps(mg.MatrixGame(payoffs)),
            {"NumPy: A @ y, x @ A of one game": products(payoffs[0])},
            batch=1000,
            aims={"microseconds": 0.5},
        )


def steps(game: mg.MatrixGame, solver: mg.Solver = SOLVER) -> Run:
    """`count` steps of `solver` by `iterate`."""

    def run(count: int) -> mg.State[mg.TabularPolicy]:
        return next(islice(mg.iterate(game, solver), count, None))

    return run


def recorded(game: mg.MatrixGame, at: range | None) -> Run:
    """`count` runs of `solve`, 1000 steps each."""

    def run(count: int) -> None:
        for _ in range(count):
            mg.solve(game, SOLVER, 1000, at=at)

    return run


def products(payoff: np.ndarray) -> Run:
    """The two products, `count` times."""
    n, m = payoff.shape
    x, y = np.full(n, 1.0 / n), np.full(m, 1.0 / m)

    def run(count: int) -> None:
        for _ in range(count):
            payoff @ y, x @ payoff

    return run
