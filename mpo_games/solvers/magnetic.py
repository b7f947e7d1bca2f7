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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mpo_games.checks import is_number, require_positive, require_takes, require_weight
from mpo_games.choices.feedback import AgainstMixture, Feedback, current, half_step, optimistic
from mpo_games.choices.geometry import Shape, as_given
from mpo_games.choices.magnets import Every, Fixed
from mpo_games.choices.pull import Pull, in_reward, mutation, proximal, squared
from mpo_games.choices.strength import Decaying, Setting, at
from mpo_games.protocol import Game, MagnetSchedule, Number, P, State
from mpo_games.written import Shorthand, first_that_makes, written

CHOICES = {
    "magnet": ("`Every(50)`", "game", "state"),
    "feedback": ("`optimistic`", "game", "state", "prox", "rng"),
    "pull": ("`in_reward`", "policy", "q", "magnet", "eta=", "alpha=", "player="),
    "geometry": ("`smoothed`", "game", "state"),
}
"""An example of each choice and what it is called with, for error messages."""


@dataclass(frozen=True, slots=True)
class MMD:
    """Magnetic mirror descent (Sokota et al., ICLR 2023, eq. 2): converges to the regularised
    equilibrium, linearly and in its last iterate, for `eta <= alpha / L^2`.

    `ValueError` for `eta <= 0` or `alpha < 0`, and for `eta alpha >= 1` with `pull=in_reward`.

    >>> game, solver = load('comal'), MMD(eta=0.3, alpha=0.1)
    >>> bool(game.divergence(exact.qre(game, 0.1).policy, solve(game, solver, 500).policy) < 1e-12)
    True
    """

    eta: Setting
    """Step size, in 1 / payoff: a number, or a function of the state."""
    alpha: Setting
    """Weight of the KL to the magnet, in units of payoff: a number, or a function of the state."""
    magnet: MagnetSchedule = Fixed()
    """When the magnet moves: `Fixed()`, `Every(50)`, `Ema(0.01)`, `WhenGapFell(0.3)` and others."""
    feedback: Feedback = current
    """At which policy the feedback is taken: `current`, `optimistic`, `half_step` and others."""
    pull: Pull[Any] = proximal
    """How the magnet pulls: by the KL in the step (`proximal`), or in the reward (`in_reward`)."""
    geometry: Shape = as_given
    """The geometry of a run: that of the policy (`as_given`), or `smoothed`."""

    __repr__ = written

    def shorthand(self) -> Shorthand | None:
        """The function below that makes this value, and its arguments; None if none does."""
        return first_that_makes(self, _readings(self))

    def __post_init__(self) -> None:
        if isinstance(self.eta, type) or not callable(self.eta):
            require_positive("eta", cast(float, self.eta))
        if isinstance(self.alpha, type) or not callable(self.alpha):
            require_weight("alpha", cast(float, self.alpha))
        for name, (example, *takes) in CHOICES.items():
            require_takes(name, getattr(self, name), example, *takes)
        if self.pull is in_reward and is_number(self.eta) and is_number(self.alpha):
            matched_step(cast(float, self.eta), cast(float, self.alpha))

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
    the regularised equilibria approach the Nash equilibrium (Wang et al., ICLR 2025).

    >>> solve(load('comal'), MPO(eta=0.3, alpha=0.1, period=50), 3000).gap < 1e-12
    True
    """
    return MMD(eta, alpha, magnet=Every(period))


def OptimisticMPO(eta: Setting, alpha: Setting, period: int) -> MMD:
    """MPO against the predicted opponent `2 p_t - p_{t-1}`: stable at much larger steps.

    >>> solve(load('comal'), OptimisticMPO(eta=1.0, alpha=0.1, period=50), 1000).gap < 0.001
    True
    """
    return MMD(eta, alpha, magnet=Every(period), feedback=optimistic)


def MPO_RT(eta: Setting, alpha: Setting, period: int) -> MMD:
    """MPO with the KL in the reward (Wang et al. 2025; R-NaD, Perolat et al. 2021). In tables it is
    `MPO` at step size `eta / (1 - eta alpha)`; the two differ for policies made of tokens.

    >>> solve(load('comal'), MPO_RT(eta=0.3, alpha=0.1, period=50), 3000).gap < 1e-12
    True
    """
    return MMD(eta, alpha, magnet=Every(period), pull=in_reward)


def MirrorDescent(eta: Setting) -> MMD:
    """Multiplicative weights, `p' = p exp(eta q) / Z`: its average converges, its last iterate
    circles. In self-play on preferences this is SPPO (Wu et al. 2024) and SPO (Swamy et al. 2024),
    whose output is the average iterate.

    >>> start = load('comal').policy([0.2, 0.5, 0.3])
    >>> solve(load('comal'), MirrorDescent(0.3), 1000, policy=start).gap > 0.1
    True
    """
    return MMD(eta, 0.0)


def OptimisticMD(eta: Setting) -> MMD:
    """Optimistic multiplicative weights (Daskalakis & Panageas 2019).

    >>> solve(load('comal'), OptimisticMD(1.0), 1000).gap < 0.01
    True
    """
    return MMD(eta, 0.0, feedback=optimistic)


def Extragradient(eta: Setting) -> MMD:
    """Mirror-prox (Nemirovski 2004): two evaluations a step.

    >>> solve(load('comal'), Extragradient(1.0), 2000).gap < 1e-6
    True
    """
    return MMD(eta, 0.0, feedback=half_step)


def EGPO(eta: float, alpha: float) -> MMD:
    """Regularised extragradient (Cen, Wei & Chi 2021; EGPO, Zhou et al. 2025) in its own step size:
    `h = p^(1 - eta alpha) rho^(eta alpha) exp(eta F(p)) / Z`, and `p'` is the same with `F(h)`.

    This is MMD's step at `eta / (1 - eta alpha)`; `ValueError` unless `eta alpha < 1`.

    >>> game, solver = load('comal'), EGPO(eta=0.3, alpha=0.1)
    >>> bool(game.divergence(exact.qre(game, 0.1).policy, solve(game, solver, 2000).policy) < 1e-12)
    True
    """
    return MMD(matched_step(eta, alpha), alpha, feedback=half_step)


def NashMD(eta: float, alpha: float) -> MMD:
    r"""Nash-MD (Munos et al., ICML 2024): the opponent is the geometric mixture of policy and
    magnet, and the step starts from it.

    $$p_{t+1} = \arg\max_p\; \eta\langle F(p_t\,|\,m_t), p\rangle - \mathrm{KL}(p\|m_t),\qquad
    m_t \propto p_t^{1-\eta\alpha}\,\rho^{\eta\alpha}$$

    This is MMD's step at `eta / (1 - eta alpha)` against `m_t`. It comes within `O(eta)` of the
    regularised equilibrium. `ValueError` unless `0 < eta`, `0 <= alpha` and `eta alpha < 1`.

    >>> round(solve(load('comal'), NashMD(eta=0.3, alpha=0.1), 2000).gap, 2)
    0.02
    """
    return MMD(matched_step(eta, alpha), alpha, feedback=AgainstMixture(eta * alpha))


def AnnealedMMD(eta: float, alpha: float, power: float = 0.5) -> MMD:
    """MMD whose `eta` and `alpha` both fall like `t^-power` (Sokota et al. 2023, section 5).

    >>> round(solve(load('comal'), AnnealedMMD(eta=1.0, alpha=1.0), 500).gap, 2)
    0.01
    """
    require_positive("eta", eta)
    require_weight("alpha", alpha)
    return MMD(Decaying(eta, power), Decaying(alpha, power))


def APMD(eta: Setting, alpha: Setting, period: int) -> MMD:
    """Adaptively perturbed mirror descent: a squared-distance perturbation towards a slingshot
    strategy that moves every `period` steps (Abe et al., ICML 2024).

    >>> solve(load('comal'), APMD(eta=0.3, alpha=0.1, period=20), 100).gap < 0.1
    True
    """
    return MMD(eta, alpha, magnet=Every(period), pull=squared)


def M2WU(eta: Setting, alpha: Setting, period: int | None = None) -> MMD:
    """Mutant multiplicative weights (Abe et al., AISTATS 2023). The magnet is the reference of the
    mutation; it moves every `period` steps, or never if that is None.

    >>> solve(load('comal'), M2WU(eta=0.3, alpha=0.1, period=50), 3000).gap < 1e-3
    True
    """
    return MMD(eta, alpha, magnet=Fixed() if period is None else Every(period), pull=mutation)


def _readings(method: MMD) -> Iterator[Shorthand]:
    """Functions of this file, with the arguments by which they might make `method`."""
    eta, alpha, magnet = method.eta, method.alpha, method.magnet
    yield from ((make, {"eta": eta}) for make in (MirrorDescent, OptimisticMD, Extragradient))
    if isinstance(magnet, Every):
        settings = {"eta": eta, "alpha": alpha, "period": magnet.period}
        # `MPO_RT` refuses settings that the others take.
        rewarded = (MPO_RT,) if method.pull is in_reward else ()
        yield from ((make, settings) for make in (*rewarded, MPO, OptimisticMPO, APMD, M2WU))
    yield M2WU, {"eta": eta, "alpha": alpha}
    if isinstance(eta, Decaying) and isinstance(alpha, Decaying):
        yield AnnealedMMD, {"eta": eta.start, "alpha": alpha.start, "power": eta.power}
    if is_number(eta) and is_number(alpha):
        # The inverse of `matched_step`, up to rounding.
        step, weight = cast(float, eta), cast(float, alpha)
        own = round(step / (1.0 + step * weight), 12)
        if own > 0.0 and own * weight < 1.0:
            yield from ((make, {"eta": own, "alpha": alpha}) for make in (EGPO, NashMD))


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
