"""An equilibrium by us against one by peers that solve, each with the gap of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from measure import Contest, Run
from steps import bimatrix, present

import mpo_games as mg
from mpo_games import exact
from mpo_games.exact.simplex_method import optimal_pair

Pair = tuple[np.ndarray, np.ndarray]


def nash() -> Iterator[Contest]:
    """Nash equilibria of random zero-sum games."""
    rng = np.random.default_rng(0)
    for n in (3, 10, 30, 100, 300):
        payoff = rng.uniform(-1.0, 1.0, (n, n))
        game = mg.MatrixGame(payoff)
        yield Contest(
            f"Nash equilibrium, {n} x {n}: exact.nash (compiled simplex, certified)",
            "equilibrium",
            repeated(lambda game=game: exact.nash(game).policy.probs),
            {
                "mpo-games optimal_pair (arrays)": optimal_arrays(payoff),
                **present(
                    {
                        "quantecon minmax (simplex)": quantecon_minmax,
                        "quantecon lemke_howson": quantecon_lemke_howson,
                        "nashpy linear_program": nashpy_linear_program,
                        "nashpy lemke_howson": nashpy_lemke_howson,
                        "pygambit lp_solve": gambit_lp,
                        "OpenSpiel lp_solver": openspiel_lp,
                    },
                    payoff,
                ),
            },
            error=lambda pair, game=game: gap(game, pair),
        )


def qre() -> Iterator[Contest]:
    """Logit quantal response equilibria, by Newton and by running MMD."""
    rng = np.random.default_rng(0)
    for n in (3, 10, 30):
        payoff = rng.uniform(-1.0, 1.0, (n, n))
        game = mg.MatrixGame(payoff)
        for alpha in (0.5, 0.1):
            others = present({"pygambit logit_solve_lambda": gambit_logit(alpha)}, payoff)
            yield Contest(
                f"QRE at temperature {alpha}, {n} x {n}: exact.qre (Newton)",
                "equilibrium",
                repeated(lambda game=game, alpha=alpha: exact.qre(game, alpha).policy.probs),
                {"mpo-games MMD to 1e-8": mmd(game, alpha), **others},
                error=lambda pair, game=game, alpha=alpha: regularised_gap(game, alpha, pair),
            )


def repeated(once: Callable[[], Any]) -> Run:
    """The same work `count` times; returns the last answer."""

    def run(count: int) -> Any:
        answer = None
        for _ in range(count):
            answer = once()
        return answer

    return run


def gap(game: mg.MatrixGame, pair: Pair) -> float:
    """The duality gap of a pair; infinite if it is no pair of distributions."""
    try:
        return float(game.duality_gap(game.policy(*pair)))
    except (ValueError, TypeError):
        return float("inf")


def regularised_gap(game: mg.MatrixGame, alpha: float, pair: Pair) -> float:
    """The duality gap of a pair in the game with entropy; infinite as for `gap`."""
    try:
        policy = game.policy(*pair)
    except (ValueError, TypeError):
        return float("inf")
    return float(game.regularised_gap(policy, game.initial_policy(), alpha))


def optimal_arrays(payoff: np.ndarray) -> Run:
    """Our simplex method alone: two arrays, as peers return, without value and certificate."""
    n, m = payoff.shape

    def once() -> Pair:
        pair = optimal_pair(payoff)
        return pair[0, :n], pair[1, :m]

    return repeated(once)


def mmd(game: mg.MatrixGame, alpha: float) -> Run:
    """MMD until the regularised gap, which is checked now and then, is below 1e-8."""
    # A tenth of the payoffs is far above the theorem's step, and stable on these games.
    solver = mg.MMD(min(1.0, alpha), alpha)
    metrics = {"gap": mg.metrics.RegularisedGap(alpha)}

    def once() -> np.ndarray:
        return mg.solve(game, solver, 100_000, metrics=metrics, tol=1e-8).policy.probs

    return repeated(once)


def quantecon_minmax(payoff: np.ndarray) -> Run:
    """The minimax theorem by quantecon's simplex method."""
    from quantecon.optimize import minmax

    return repeated(lambda: minmax(payoff)[1:])


def quantecon_lemke_howson(payoff: np.ndarray) -> Run:
    """Complementary pivoting, compiled."""
    from quantecon.game_theory import lemke_howson

    game = bimatrix(payoff)
    return repeated(lambda: lemke_howson(game))


def nashpy_linear_program(payoff: np.ndarray) -> Run:
    """Two linear programmes by HiGHS."""
    import nashpy

    game = nashpy.Game(payoff)
    return repeated(game.linear_program)


def nashpy_lemke_howson(payoff: np.ndarray) -> Run:
    """Complementary pivoting, from the first label."""
    import nashpy

    game = nashpy.Game(payoff)
    return repeated(lambda: game.lemke_howson(initial_dropped_label=0))


def gambit_lp(payoff: np.ndarray) -> Run:
    """Gambit's linear programme in floating point."""
    import pygambit

    game = pygambit.Game.from_arrays(payoff, -payoff)

    def once() -> Pair:
        found = pygambit.nash.lp_solve(game, rational=False).equilibria[0]
        return both(found, game)

    return repeated(once)


def gambit_logit(alpha: float) -> Callable[[np.ndarray], Run]:
    """Gambit's path following to `lambda = 1 / alpha`."""

    def make(payoff: np.ndarray) -> Run:
        import pygambit

        game = pygambit.Game.from_arrays(payoff, -payoff)
        return repeated(
            lambda: both(pygambit.qre.logit_solve_lambda(game, lam=1.0 / alpha)[0].profile, game)
        )

    return make


def both(profile: Any, game: Any) -> Pair:
    """The two strategies of one of gambit's profiles."""
    row, column = ([float(profile[s]) for s in player.strategies] for player in game.players)
    return np.array(row), np.array(column)


def openspiel_lp(payoff: np.ndarray) -> Run:
    """OpenSpiel's linear programme, which needs cvxpy."""
    import pyspiel
    from open_spiel.python.algorithms.lp_solver import solve_zero_sum_matrix_game

    game = pyspiel.create_matrix_game(payoff.tolist(), (-payoff).tolist())
    return repeated(lambda: tuple(np.ravel(p) for p in solve_zero_sum_matrix_game(game)[:2]))
