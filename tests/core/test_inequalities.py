"""The inequalities of docs/theory.md that no other test has, on random games."""

import numpy as np
import pytest

import mpo_games as mg

SEEDS = range(20)


def cycle(seed: int) -> mg.PreferenceGame:
    """A game whose equilibrium has full support: a cycle of random strengths."""
    a, b, c = np.random.default_rng(seed).uniform(0.1, 0.5, size=3)
    return mg.PreferenceGame(0.5 + np.array([[0.0, -a, b], [a, 0.0, -c], [-b, c, 0.0]]))


@pytest.mark.parametrize("seed", SEEDS)
def test_self_play_never_comes_nearer(seed: int) -> None:
    game = cycle(seed)
    nash = mg.exact.nash(game)
    assert nash.support.all()
    rng = np.random.default_rng(seed)
    start = game.policy(rng.dirichlet(np.ones(3)))
    solver = mg.MirrorDescent(rng.uniform(0.05, 2.0))
    record = {"kl": mg.metrics.DivergenceTo(nash.policy)}
    kl = mg.solve(game, solver, 200, policy=start, metrics=record, at=range(201)).trace["kl"]
    assert (np.diff(kl) >= -1e-12).all()
    assert kl[-1] > kl[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_average_of_self_play_obeys_the_regret_bound(seed: int) -> None:
    game = mg.families.random_preferences(6, np.random.default_rng(seed))
    eta, records = 0.3, {"average": mg.metrics.average_gap}
    trace = mg.solve(game, mg.Averaged(mg.MirrorDescent(eta)), 500, metrics=records).trace
    steps = trace["step"][1:]
    size = float(np.max(game.bound))
    bound = 2.0 * (np.log(6) / (eta * steps) + eta * size**2 / 2.0)
    assert (trace["average"][1:] <= bound + 1e-12).all()


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_how_wrong_a_regularised_equilibrium_can_be(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    game = mg.families.random_zero_sum(4, 5, rng)
    magnet = game.policy(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5)))
    regularised = mg.exact.qre(game, alpha, magnet).policy
    least = [magnet.probs[0, :4].min(), magnet.probs[1].min()]
    assert game.duality_gap(regularised) <= -alpha * np.log(least).sum()
