"""What holds for every solver: its cost, batches of games, payoffs of any size, averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from small_game import GAME, A, states

import mpo_games as mg


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize(
    "solver",
    [mg.MPO(0.3, 0.2, 3), mg.OptimisticMD(0.3), mg.RegretMatching(plus=True), mg.FictitiousPlay()],
    ids=lambda solver: type(solver).__name__,
)
def test_averaging_watches_and_does_not_touch(solver: Any, degree: int) -> None:
    plain, watched = states(solver, 30), states(mg.Averaged(solver, degree), 30)
    for a, b in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(a.policy.coordinates, b.policy.coordinates)
        np.testing.assert_array_equal(a.magnet.coordinates, b.magnet.coordinates)
        assert a.evaluations == b.evaluations
    weights = np.arange(1.0, 31.0) ** degree
    mean = np.average([s.policy.probs for s in plain[:30]], axis=0, weights=weights)
    np.testing.assert_allclose(watched[-1].memory["average"].probs, mean, atol=1e-14)


@pytest.mark.parametrize(
    ("solver", "cost"),
    [
        (mg.MPO(0.3, 0.2, 3), 1.0),
        (mg.OptimisticMPO(0.3, 0.2, 3), 1.0),
        (mg.MMD(0.3, 0.2, feedback=mg.popov), 1.0),
        (mg.MMD(0.3, 0.2, feedback=mg.alternating), 1.0),
        (mg.MMD(0.3, 0.2, feedback=mg.alternating_popov), 1.0),
        (mg.Extragradient(0.3), 2.0),
        (mg.EGPO(0.3, 0.2), 2.0),
        (mg.NashMD(0.3, 0.2), 1.0),
        (mg.RegretMatching(), 1.0),
        (mg.FictitiousPlay(), 1.0),
        (mg.GradientAscent(0.3), 1.0),
        (mg.Averaged(mg.Extragradient(0.3)), 2.0),
    ],
)
def test_the_bill_is_what_the_game_was_asked(solver: Any, cost: float) -> None:
    @dataclass
    class Counting:
        game: Any
        calls: float = 0.0

        players = 2

        def feedback(self, policy: Any, opponent: Any = None, *, player: Any = None, rng: Any):
            self.calls += 1.0 if player is None else 0.5
            return self.game.feedback(policy, opponent, player=player)

        def best_response(self, policy: Any) -> Any:
            self.calls += 1.0
            return self.game.best_response(policy)

        def average(self, mixture: Any) -> Any:
            return self.game.average(mixture)

    game = Counting(GAME)
    last = states(solver, 7, game)[-1]
    assert last.evaluations == game.calls == 7 * cost
    assert last.step == 7


BATCHED = [
    mg.MPO(0.3, 0.2, 3),
    mg.OptimisticMPO(0.3, 0.2, 3),
    mg.MMD(0.3, 0.2, feedback=mg.popov),
    mg.MMD(0.3, 0.2, feedback=mg.alternating),
    mg.MMD(0.3, 0.2, magnet=mg.Ema(0.1)),
    mg.EGPO(0.3, 0.2),
    mg.MPO_RT(0.3, 0.2, 3),
    mg.APMD(0.3, 0.2, 3),
    mg.M2WU(0.3, 0.2, 3),
    mg.NashMD(0.3, 0.2),
    mg.FictitiousPlay(),
    mg.GradientAscent(0.3),
    mg.RegretMatching(),
    mg.RegretMatching(plus=True, predictive=True),
    mg.Averaged(mg.MirrorDescent(0.3)),
]


@pytest.mark.parametrize("solver", BATCHED, ids=range(len(BATCHED)))
def test_a_batch_of_games_is_a_loop_over_games(solver: Any) -> None:
    payoffs = np.random.default_rng(0).normal(size=(5, 4, 3))
    batch = states(solver, 10, mg.MatrixGame(payoffs), None)[-1]
    for i, payoff in enumerate(payoffs):
        one = states(solver, 10, mg.MatrixGame(payoff), None)[-1]
        np.testing.assert_allclose(batch.policy.probs[i], one.policy.probs, atol=1e-12)
        if "average" in one.memory:
            np.testing.assert_allclose(
                batch.memory["average"].probs[i], one.memory["average"].probs, atol=1e-12
            )


@pytest.mark.parametrize("solver", BATCHED, ids=range(len(BATCHED)))
@pytest.mark.parametrize("scale", [1e12, 1e-12])
def test_every_solver_stays_finite(solver: Any, scale: float) -> None:
    last = states(solver, 200, mg.MatrixGame(scale * A))[-1].policy
    assert np.isfinite(last.log_probs[last.legal]).all()
    assert np.all(last.probs[~last.legal] == 0.0)


@pytest.mark.parametrize("solver", [mg.RegretMatching(), mg.RegretMatching(True, True)])
def test_regret_matching_does_not_hide_nan(solver: Any) -> None:
    class Broken(mg.MatrixGame):
        def feedback(self, *args: Any, **options: Any) -> np.ndarray:
            return super().feedback(*args, **options) * np.nan

    last = states(solver, 3, Broken(A))[-1].policy
    assert np.isnan(last.probs).any()
