r"""Magnetic mirror descent, and the methods that differ from it in one or two choices.

$$p_{t+1} = \arg\max_p\; \eta\langle F(p_t), p\rangle - \eta\alpha\,\mathrm{KL}(p\|\rho_t)
- \mathrm{KL}(p\|p_t)$$

| method | feedback | alpha | pull | magnet moves |
| --- | --- | --- | --- | --- |
| `MirrorDescent` | current | 0 | - | - |
| `OptimisticMD` | optimistic | 0 | - | - |
| `Extragradient` | half step | 0 | - | - |
| `MMD` | current | alpha | proximal | never |
| `AnnealedMMD` | current | falls | proximal | never |
| `EGPO` | half step | alpha | proximal | never |
| `NashMD` | against the mixture | alpha | proximal | never |
| `MPO` | current | alpha | proximal | every `period` |
| `OptimisticMPO` | optimistic | alpha | proximal | every `period` |
| `MPO_RT` | current | alpha | in the reward | every `period` |
| `APMD` | current | alpha | squared distance | every `period` |
| `M2WU` | current | alpha | mutation | every `period` |

`self_tuning.AutoMPO` changes all of these choices but the pull.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.checks import require_positive, require_weight
from mpo_games.choices.feedback import AgainstMixture, Feedback, current, half_step, optimistic
from mpo_games.choices.geometry import Shape, as_given
from mpo_games.choices.magnets import Every, Fixed
from mpo_games.choices.pull import Pull, in_reward, mutation, proximal, squared
from mpo_games.choices.strength import Decaying, Setting, at
from mpo_games.protocol import Game, MagnetSchedule, Number, P, State

EXAMPLES = {
    "magnet": "`Every(50)`",
    "feedback": "`optimistic`",
    "pull": "`in_reward`",
    "geometry": "`smoothed`",
}
"""An example of each choice, for error messages."""


@dataclass(frozen=True, slots=True)
class MMD:
    """Magnetic mirror descent (Sokota et al., ICLR 2023, eq. 2): converges to the regularised
    equilibrium, linearly and in its last iterate, for `eta <= alpha / L^2`.

    `ValueError` for `eta <= 0` or `alpha < 0`.
    """

    eta: Setting
    """Step size."""
    alpha: Setting
    """Weight of the KL to the magnet, in units of payoff."""
    magnet: MagnetSchedule = Fixed()
    """When the magnet moves."""
    feedback: Feedback = current
    """Which feedback is followed."""
    pull: Pull[Any] = proximal
    """How the magnet pulls."""
    geometry: Shape = as_given
    """In which geometry."""

    def __post_init__(self) -> None:
        if not callable(self.eta):
            require_positive("eta", self.eta)
        if not callable(self.alpha):
            require_weight("alpha", self.alpha)
        for name in ("magnet", "feedback", "pull", "geometry"):
            # A class is callable too: `magnet=Fixed` would fail only in the first step.
            choice = getattr(self, name)
            if isinstance(choice, type) or not callable(choice):
                raise ValueError(
                    f"`{name}` must be a value that can be called, like {EXAMPLES[name]}, "
                    f"got {choice!r}."
                )

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """Follow the feedback by the pulled mirror step, then let the magnet move."""
        # Only at the start and after moves: in between the weights of a tree must not change.
        if self.geometry is not as_given and state.step == state.moved_at:
            state = self.geometry(game, state)
        eta = at("eta", self.eta, state) if callable(self.eta) else self.eta
        alpha: Number
        if callable(self.alpha):
            # `eta` comes first, for functions like `Anchored` that divide by it.
            alpha = at("alpha", self.alpha, state.at_strength(eta, state.alpha))
        else:
            alpha = self.alpha
        # Constant settings are the same objects in every step, so nothing is built for them.
        if eta is not state.eta or alpha is not state.alpha:
            state = state.at_strength(eta, alpha)
        pull, magnet = self.pull, state.magnet

        def prox(policy: P, q: Any, player: int | None = None) -> P:
            moved: P = pull(policy, q, magnet, eta=eta, alpha=alpha, player=player)
            return moved

        return self.magnet(game, self.feedback(game, state, prox, rng))


def MPO(eta: Setting, alpha: Setting, period: int) -> MMD:
    """Magnetic preference optimisation: the magnet moves to the policy every `period` steps, and
    the regularised equilibria approach the Nash equilibrium (Wang et al., ICLR 2025)."""
    return MMD(eta, alpha, magnet=Every(period))


def OptimisticMPO(eta: Setting, alpha: Setting, period: int) -> MMD:
    """MPO against the predicted opponent `2 p_t - p_{t-1}`: stable at much larger steps."""
    return MMD(eta, alpha, magnet=Every(period), feedback=optimistic)


def MPO_RT(eta: Setting, alpha: Setting, period: int) -> MMD:
    """MPO with the KL in the reward (Wang et al. 2025; R-NaD, Perolat et al. 2021). In tables it is
    `MPO` at step size `eta / (1 - eta alpha)`; the two differ for policies made of tokens."""
    return MMD(eta, alpha, magnet=Every(period), pull=in_reward)


def MirrorDescent(eta: Setting) -> MMD:
    """Multiplicative weights, `p' = p exp(eta q) / Z`: its average converges, its last iterate
    circles. In self-play on preferences this is SPPO (Wu et al. 2024) and SPO (Swamy et al. 2024),
    whose output is the average iterate."""
    return MMD(eta, 0.0)


def OptimisticMD(eta: Setting) -> MMD:
    """Optimistic multiplicative weights (Daskalakis & Panageas 2019)."""
    return MMD(eta, 0.0, feedback=optimistic)


def Extragradient(eta: Setting) -> MMD:
    """Mirror-prox (Nemirovski 2004): two evaluations a step."""
    return MMD(eta, 0.0, feedback=half_step)


def EGPO(eta: float, alpha: float) -> MMD:
    """Regularised extragradient (Cen, Wei & Chi 2021; EGPO, Zhou et al. 2025) in its own step size:
    `h = p^(1 - eta alpha) rho^(eta alpha) exp(eta F(p)) / Z`, and `p'` is the same with `F(h)`.

    This is MMD's step at `eta / (1 - eta alpha)`; `ValueError` unless `eta alpha < 1`.
    """
    return MMD(matched_step(eta, alpha), alpha, feedback=half_step)


def NashMD(eta: float, alpha: float) -> MMD:
    r"""Nash-MD (Munos et al., ICML 2024): the opponent is the geometric mixture of policy and
    magnet, and the step starts from it.

    $$p_{t+1} = \arg\max_p\; \eta\langle F(p_t\,|\,m_t), p\rangle - \mathrm{KL}(p\|m_t),\qquad
    m_t \propto p_t^{1-\eta\alpha}\,\rho^{\eta\alpha}$$

    This is MMD's step at `eta / (1 - eta alpha)` against `m_t`. It comes within `O(eta)` of the
    regularised equilibrium. `ValueError` unless `0 < eta`, `0 <= alpha` and `eta alpha < 1`.
    """
    return MMD(matched_step(eta, alpha), alpha, feedback=AgainstMixture(eta * alpha))


def AnnealedMMD(eta: float, alpha: float, power: float = 0.5) -> MMD:
    """MMD whose `eta` and `alpha` both fall like `t^-power` (Sokota et al. 2023, section 5)."""
    require_positive("eta", eta)
    require_weight("alpha", alpha)
    return MMD(Decaying(eta, power), Decaying(alpha, power))


def APMD(eta: Setting, alpha: Setting, period: int) -> MMD:
    """Adaptively perturbed mirror descent: a squared-distance perturbation towards a slingshot
    strategy that moves every `period` steps (Abe et al., ICML 2024)."""
    return MMD(eta, alpha, magnet=Every(period), pull=squared)


def M2WU(eta: Setting, alpha: Setting, period: int | None = None) -> MMD:
    """Mutant multiplicative weights (Abe et al., AISTATS 2023). The magnet is the reference of the
    mutation; it moves every `period` steps, or never if that is None."""
    return MMD(eta, alpha, magnet=Fixed() if period is None else Every(period), pull=mutation)


def matched_step(eta: float, alpha: float) -> float:
    """The step `eta / (1 - eta alpha)` at which MMD is the explicit update of step `eta`.

    That is `p^(1 - eta alpha) rho^(eta alpha) exp(eta q)`, as INPO, COMAL and EGPO write it.

    `ValueError` unless `0 < eta`, `0 <= alpha` and `eta alpha < 1`.
    """
    require_positive("eta", eta)
    require_weight("alpha", alpha)
    if not eta * alpha < 1.0:
        raise ValueError(f"`eta * alpha` must be below 1, got eta={eta} and alpha={alpha}.")
    return eta / (1.0 - eta * alpha)
