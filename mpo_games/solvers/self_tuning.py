r"""MPO that tunes itself: no step size, no magnet weight, no period to choose.

Each ingredient is a value of one of `MMD`'s choices, and removes one thing that stops fixed
settings. With $b = 1/(k+2)$, `k` steps after the magnet moved to $\rho$, a step from the base $z$
is

$$p' = \Pi\big((1-b)\,(\nabla h(z) + \eta q) + b\,\nabla h(\rho)\big)$$

**An identity.** Anchoring by Halpern, mixing the start of every step with the anchor by the weight
`b`, is magnetic mirror descent: $p^{1-b}\rho^b e^{(1-b)\eta q}$ is MMD's step at `eta` with
`eta alpha = b / (1 - b) = 1 / (k + 1)`. The magnet weight anneals within an epoch.

**Theorems.** For a monotone operator in Euclidean space, Halpern's anchor with extrapolated
feedback gives the last iterate a gap of order `1/k` (Yoon & Ryu 2021; Popov's single call:
Tran-Dinh & Luo 2021). A bilinear game over polytopes is sharp, gap $\ge c\cdot$ distance to the
equilibria (Applegate et al. 2023), so restarting the anchor whenever the gap has fallen by a
constant factor turns `1/k` into a linear rate. A move of the magnet after an exact inner solve is a
proximal point step, $D(p^*\|\rho_{n+1}) \le D(p^*\|\rho_n) - D(\rho_{n+1}\|\rho_n)$, in every
geometry, and with summable errors it still converges (Rockafellar 1976). Along a direction in which
play drifts the gap of a mean is known without asking, since feedback is linear: a leap never raises
it.

**Observations.** That anchored steps keep the rate `1/k` in a smoothed entropy, and with a step
size that is measured instead of bounded, is not proved here: the Euclidean proofs use the
parallelogram law, which Bregman divergences lack. For `gamma` near 1 the smoothed entropy is
Euclidean to first order, and on random games of 10 to 100 actions the two were measured to end
alike. The number of evaluations before the last support is found has no useful bound for any
first-order method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpo_games.choices.feedback import alternating_popov, popov
from mpo_games.choices.geometry import self_tunable, smoothed
from mpo_games.choices.magnets import Leap, WhenGapFell
from mpo_games.choices.strength import Adaptive, Anchored, Measured
from mpo_games.metrics import Metric, Remembered, last_move, magnet_weight, step_size
from mpo_games.protocol import Game, P, Solver, State
from mpo_games.solvers.averaged import Averaged, PlayedAverage
from mpo_games.solvers.magnetic import MMD


@dataclass(frozen=True, slots=True)
class AutoMPO:
    """MPO with nothing to choose: its last iterate reaches machine precision on most games.

    MMD whose feedback is kept (`popov`; between two players `alternating_popov`, stable at larger
    steps), whose step size is measured (`Measured`), whose magnet weight anneals (`Anchored`),
    whose magnet moves when the gap has fallen or play drifts (`WhenGapFell`, `Leap`), in a geometry
    in which dead actions come back (`smoothed`). Each can be had alone: this is all of them.

    The first step asks twice for the same feedback. Where the answers differ they are samples: no
    last iterate converges at a rate worth having, and a gap that is looked at is noise. There it is
    `UNDER_NOISE`, whose policy is an average. `ValueError` for a game without `smoothed`.
    """

    @property
    def decisions(self) -> Mapping[str, Metric]:
        """What `solve` records beside the gap: the step size, the magnet's share in a step, when it
        last moved and how many of its moves were leaps (the others: the gap had fallen)."""
        return {
            "eta": step_size,
            "weight": magnet_weight,
            "moved": last_move,
            "leaps": Remembered("leaps"),
        }

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """A step of `ONE_SEAT`, `TWO_SEATS` or `UNDER_NOISE`."""
        if "noise" not in state.memory:
            self_tunable(game)
            q, again = (game.feedback(state.policy, rng=rng) for _ in range(2))
            noise = float(np.max(np.abs(q - again)))
            # Both answers were paid for: their mean opens the run.
            state = replace(state, q=0.5 * (q + again)).remember(noise=noise).charge(2.0)
        quiet: Solver = ONE_SEAT if game.players == 1 else TWO_SEATS
        return (UNDER_NOISE if state.memory["noise"] else quiet).step(game, state, rng)


ONE_SEAT = MMD(Measured(0.45), Anchored(), Leap(WhenGapFell(0.3, 1)), popov, geometry=smoothed)
"""`AutoMPO` where one policy plays both seats."""

TWO_SEATS = MMD(
    Measured(0.8), Anchored(), Leap(WhenGapFell(0.3, 1)), alternating_popov, geometry=smoothed
)
"""`AutoMPO` between two players."""

UNDER_NOISE = PlayedAverage(Averaged(MMD(Adaptive(0.3), 0.0, feedback=popov, geometry=smoothed)))
"""`AutoMPO` on samples."""
