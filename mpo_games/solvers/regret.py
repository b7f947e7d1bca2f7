r"""Regret matching in tables, and by it CFR on trees.

Counterfactual regret minimisation is regret matching at every information state on counterfactual
values (Zinkevich et al. 2007): `RegretMatching` on a `SequenceFormGame`, or, the same iterates in a
table, on the view `BehaviouralGame(tree, counterfactual_values)`. Its descendants differ in five
independent choices:

| method | plus | predictive | discount | updates | average |
| --- | --- | --- | --- | --- | --- |
| `CFR` | no | no | - | alternating | uniform |
| `CFRPlus` | yes | no | - | alternating | linear |
| `DCFR` | no | no | 3/2, 0 | alternating | quadratic |
| `PCFRPlus` | yes | yes | - | alternating | quadratic |

For each of these the result is the average, `state.memory["average"]`, which `metrics.average_gap`
reads. A moving magnet makes the last iterate converge instead: `RTCFRPlus`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mpo_games.magnets import Every, Fixed
from mpo_games.protocol import Array, MagnetSchedule, State
from mpo_games.solvers.averaged import Averaged
from mpo_games.tabular import TabularPolicy
from mpo_games.treeplex import TreeplexPolicy


@dataclass(frozen=True, slots=True)
class Discount:
    r"""Forgets regrets: after step t, positive ones are multiplied by $t^\alpha/(t^\alpha+1)$,
    negative ones by $t^\beta/(t^\beta+1)$ (Brown & Sandholm 2019)."""

    alpha: float = 1.5
    beta: float = 0.0

    def __call__(self, regrets: Array, t: int) -> Array:
        """The regrets after step `t` (counted from 1)."""
        kept, repaid = (1.0 / (1.0 + float(t) ** -power) for power in (self.alpha, self.beta))
        return np.asarray(regrets * np.where(regrets > 0.0, kept, repaid))


P = TypeVar("P", TabularPolicy, TreeplexPolicy)


@dataclass(frozen=True, slots=True)
class RegretMatching:
    r"""Regret matching and its independent improvements.

    $$R_{t+1} = R_t + r_t,\qquad p_{t+1} \propto [R_{t+1} + m_{t+1}]^+,\qquad
    r_t = q_t - \langle q_t, p_t\rangle$$

    None of them: Hart & Mas-Colell (2000). A step of any costs one evaluation.
    """

    plus: bool = False
    r"""Cut the regrets at 0 after every step, $R \leftarrow [R]^+$ (RM+, Tammelin 2014)."""
    predictive: bool = False
    """Add the last regret as the guess `m` of the next (Farina, Kroer & Sandholm 2021)."""
    alternating: bool = False
    """Update the players one after the other, each against the newest opponent."""
    discount: Discount | None = None
    """Forget old regrets."""
    alpha: float = 0.0
    r"""Transform the rewards: $q - \alpha(p - \rho)$ pulls towards the magnet $\rho$."""
    magnet: MagnetSchedule = Fixed()
    """When the magnet moves."""

    def step(self, game: Any, state: State[P], rng: np.random.Generator | None = None) -> State[P]:
        """Add the regrets of the current policy, then play in proportion to the positive part."""
        policy, regrets = state.policy, state.memory.get("regrets", 0.0)
        sides = range(game.players) if self.alternating and game.players > 1 else (None,)
        for player in sides:
            regret = policy.regrets(game.feedback(policy, player=player, rng=rng), player)
            if self.alpha:
                regret = regret - self.alpha * policy.centred(policy.probs - state.magnet.probs)
            total = regrets + regret
            if self.discount is not None:
                total = self.discount(total, state.step + 1)
            if self.plus:
                total = np.maximum(total, 0.0)
            guess = total + regret if self.predictive else total
            if player is not None:
                total = np.where(policy.owned(player), total, regrets)
            policy, regrets = policy.matching(guess, player), total
        return self.magnet(game, state.advance(policy, 1.0, {"regrets": regrets}))


def CFR() -> Averaged:
    """Counterfactual regret minimisation (Zinkevich et al. 2007), players alternating."""
    return Averaged(RegretMatching(alternating=True))


def CFRPlus() -> Averaged:
    """CFR+ (Tammelin 2014), its linear average weighing step `t` by `t`, without delay."""
    return Averaged(RegretMatching(plus=True, alternating=True), degree=1)


def DCFR(alpha: float = 1.5, beta: float = 0.0, gamma: float = 2.0) -> Averaged:
    """Discounted CFR (Brown & Sandholm 2019); `gamma` is the degree of the average."""
    return Averaged(RegretMatching(alternating=True, discount=Discount(alpha, beta)), gamma)


def PCFRPlus() -> Averaged:
    """Predictive CFR+ (Farina, Kroer & Sandholm 2021), quadratic average."""
    return Averaged(RegretMatching(plus=True, predictive=True, alternating=True), degree=2)


def RTCFRPlus(alpha: float, period: int) -> RegretMatching:
    """Reward-transformed CFR+ (Meng et al. 2023): CFR+ on feedback pulled towards a magnet that
    moves to the policy every `period` steps. The result is the last iterate."""
    return RegretMatching(plus=True, alternating=True, alpha=alpha, magnet=Every(period))
