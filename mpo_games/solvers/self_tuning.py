r"""MPO that tunes itself: there is no step size, magnet weight or period to choose.

Each ingredient is a value of one of `MMD`'s choices, and removes one obstacle on which fixed
settings fail. The magnet moved to $\rho$ `k` steps ago; let $b = 1/(k+2)$. A step from the base
point $z$ is

$$p' = \Pi\big((1-b)\,(\nabla h(z) + \eta q) + b\,\nabla h(\rho)\big)$$

**An identity.** Halpern's method mixes the start of every step with one constant point, the anchor,
by the weight `b`. This is magnetic mirror descent: $p^{1-b}\rho^b e^{(1-b)\eta q}$ is MMD's step at
`eta` with `eta alpha = b / (1 - b) = 1 / (k + 1)`. So the magnet is the anchor, and its weight
anneals between two moves.

**Theorems.** For a monotone operator in Euclidean space, Halpern's anchor with extrapolated
feedback gives the last iterate a gap of order `1/k` (Yoon & Ryu 2021; Popov's single call:
Tran-Dinh & Luo 2021). A bilinear game over polytopes is sharp: the gap is at least $c$ times the
distance to the equilibria (Applegate et al. 2023). So if the anchor restarts whenever the gap has
fallen by a constant factor, `1/k` becomes a linear rate. A move of the magnet after an exact inner
solve is a proximal point step, $D(p^*\|\rho_{n+1}) \le D(p^*\|\rho_n) - D(\rho_{n+1}\|\rho_n)$, in
every geometry; with summable errors it still converges (Rockafellar 1976). Feedback is linear, so
the gap at every point of a line through a mean of play is known without another evaluation. A leap
along the line goes only as far as the gap is not larger than at the mean.

**Observations.** Two things are not proved here: that anchored steps keep the rate `1/k` in a
smoothed entropy, and that they keep it with a step size that is measured instead of bounded. The
Euclidean proofs use the parallelogram law, which Bregman divergences lack. For `gamma` near 1 the
smoothed entropy is Euclidean to first order, and in measurements on random games of 10 to 100
actions both geometries gave similar results. No first-order method has a useful bound on the number
of evaluations until the final support is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpo_games.capabilities import answer_of
from mpo_games.choices.feedback import alternating_popov, popov
from mpo_games.choices.geometry import self_tunable, smoothed
from mpo_games.choices.magnets import Leap, WhenGapFell
from mpo_games.choices.strength import Adaptive, Anchored, Measured
from mpo_games.metrics import Metric, Remembered, last_move, magnet_weight, step_size
from mpo_games.protocol import Game, P, Solver, State
from mpo_games.solvers.averaged import Averaged, PlayedAverage
from mpo_games.solvers.magnetic import MMD
from mpo_games.written import written


@dataclass(frozen=True, slots=True)
class AutoMPO:
    """MPO with nothing to choose: its last iterate reaches machine precision on most games.

    It is `MMD` with these choices, each of which can also be used alone. The feedback is kept
    (`popov`; between two players `alternating_popov`, which is stable at larger steps). The step
    size is measured (`Measured`). The magnet's weight anneals (`Anchored`). The magnet moves when
    the gap has fallen or play drifts (`WhenGapFell`, `Leap`). The geometry is one in which actions
    of probability 0 come back quickly (`smoothed`).

    The first step asks twice for the same feedback. If the answers differ, they are samples. Then
    no last iterate converges at a useful rate, and a gap computed from samples is noise, so the
    solver is `UNDER_NOISE`, whose policy is an average.

    A `SelfTuned` game brings choices of its own: games of texts are played by `mpo_llm.ON_TOKENS`.
    `ValueError` for a game that is neither `SelfTuned` nor `SelfTunable`.

    >>> solve(load('comal'), AutoMPO(), 300).gap < 1e-12
    True
    """

    __repr__ = written

    @property
    def decisions(self) -> Mapping[str, Metric]:
        """The metrics that `solve` records beside the gap: the step size, the magnet's share in a
        step, the step of its last move, and how many of its moves were leaps."""
        return {
            "eta": step_size,
            "weight": magnet_weight,
            "moved": last_move,
            "leaps": Remembered("leaps"),
        }

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `ONE_SEAT`, `TWO_SEATS` or `UNDER_NOISE`, or of the game's own choices."""
        # By name: `isinstance` with a Protocol takes as long as a step of a small table.
        own: Solver | None = getattr(game, "self_tuning", None)
        if own is not None:
            return own.step(game, state, rng)
        if "noise" not in state.memory:
            # First of all: a game without the methods that self-tuning needs is refused here.
            self_tunable(game)
            q, again = (game.feedback(state.policy, rng=rng) for _ in range(2))
            noise = float(np.max(np.abs(q - again)))
            # Both answers are charged, so their mean opens the run.
            state = replace(state, q=0.5 * q + 0.5 * again).remember(noise=noise).charge(2.0)
        # Exact feedback repeats bit for bit, so any difference means samples.
        quiet: Solver = ONE_SEAT if game.players == 1 else TWO_SEATS
        return (UNDER_NOISE if state.memory["noise"] else quiet).step(game, state, rng)

    def answer(self, game: Game[P, Any], state: State[P]) -> P:
        """That of the game's own choices; on others the policy, which is a mean under noise."""
        own: Solver | None = getattr(game, "self_tuning", None)
        return state.policy if own is None else answer_of(own, game, state)


# `WhenGapFell` looks at every step, because the gap is free where feedback is kept.
ONE_SEAT = MMD(Measured(0.45), Anchored(), Leap(WhenGapFell(0.3, 1)), popov, geometry=smoothed)
"""`AutoMPO` where one policy plays both seats."""

TWO_SEATS = MMD(
    Measured(0.8), Anchored(), Leap(WhenGapFell(0.3, 1)), alternating_popov, geometry=smoothed
)
"""`AutoMPO` between two players."""

# No pull: the average is the result, and a pull would shift it.
UNDER_NOISE = PlayedAverage(Averaged(MMD(Adaptive(0.3), 0.0, feedback=popov, geometry=smoothed)))
"""`AutoMPO` on sampled feedback."""
