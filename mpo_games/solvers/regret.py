r"""Regret matching in tables, and counterfactual regret minimisation (CFR) on trees.

CFR is regret matching at every information state, on counterfactual values (Zinkevich et al. 2007).
That is `RegretMatching` on a `SequenceFormGame`. On the view
`BehaviouralGame(tree, counterfactual_values)` it has the same iterates, as tables. The descendants
of CFR differ in five independent choices; an arrow is a power that changes as the run goes:

| method | plus | predictive | discount | updates | degree of the average |
| --- | --- | --- | --- | --- | --- |
| `CFR` | no | no | - | alternating | 0 |
| `CFRPlus` | yes | no | - | alternating | 1 |
| `DCFR` | no | no | 3/2, 0 | alternating | 2 |
| `HSDCFR` | no | no | 1 → 4, -1 → -3 | alternating | 30 → 25 |
| `PCFRPlus` | yes | yes | - | alternating | 2 |
| `HSPCFRPlus` | yes | yes | - | alternating | 30 → 25 |
| `PDCFRPlus` | yes | yes | 2.3, any | alternating | 5 |

For each of these the answer is the average, which `solve` measures and returns. Two things make the
last iterate converge instead: a moving magnet (`RTCFRPlus`), and regrets whose sum cannot vanish
(`SmoothPRMPlus`, `ExtragradientRMPlus`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np

from mpo_games.capabilities import Matching
from mpo_games.checks import (
    STEEPEST,
    WrongKind,
    has_verbs,
    is_number,
    require_callable,
    require_flag,
    require_kind,
    require_weight,
)
from mpo_games.choices.magnets import Every, Fixed
from mpo_games.choices.pull import require_table
from mpo_games.labelled import shown
from mpo_games.policies.mirror_maps import Euclidean
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Game, MagnetSchedule, Number, State
from mpo_games.solvers.averaged import Averaged, along
from mpo_games.solvers.schedules import LinearSchedule, Power, at_step, require_any_power
from mpo_games.written import Shorthand, first_that_makes, written

FALL = 5.0
"""By how much the degree of the average falls in the schedules of `HSDCFR` and `HSPCFRPlus`."""


@dataclass(frozen=True, slots=True)
class Discount:
    r"""Discounts regrets: after step t, positive ones are multiplied by $t^\alpha/(t^\alpha+1)$,
    negative ones by $t^\beta/(t^\beta+1)$ (Brown & Sandholm 2019).

    Papers also write the discount before the next regret is added. Play is the same: all regrets
    from which it is computed carry one common factor.
    """

    alpha: Power = 1.5
    beta: Power = 0.0

    __repr__ = written

    def __post_init__(self) -> None:
        for name, power in (("alpha", self.alpha), ("beta", self.beta)):
            # Infinite powers have a meaning: with `beta` at minus infinity this is CFR+.
            if isinstance(power, type) or not callable(power):
                require_any_power(name, cast(float, power), infinite=True)

    def __call__(self, regrets: Array, t: Number) -> Array:
        """The regrets after step `t`, counted from 1; an array if games of a batch differ."""
        powers = (at_step(n, p, t) for n, p in (("alpha", self.alpha), ("beta", self.beta)))
        if np.ndim(t):
            factors = (along(1.0 / (1.0 + t**-power), regrets.ndim) for power in powers)
        else:
            factors = (1.0 / (1.0 + float(t) ** -power) for power in powers)
        kept, repaid = factors
        return np.asarray(regrets * np.where(regrets > 0.0, kept, repaid))


M = TypeVar("M", bound=Matching)


@dataclass(frozen=True, slots=True)
class RegretMatching:
    r"""Regret matching and its independent improvements.

    $$R_{t+1} = R_t + r_t,\qquad p_{t+1} \propto [R_{t+1} + m_{t+1}]^+,\qquad
    r_t = q_t - \langle q_t, p_t\rangle$$

    Without any of the improvements this is the method of Hart & Mas-Colell (2000). A step costs one
    evaluation, or two with `half_step`. `ValueError` for choices that exclude each other, and with
    a `floor` for a policy that is not a table.

    >>> solve(load('comal'), Averaged(RegretMatching(plus=True)), 200).gap < 0.1
    True
    """

    plus: bool = False
    r"""Cut the regrets at 0 after every step, $R \leftarrow [R]^+$ (RM+, Tammelin 2014)."""
    predictive: bool = False
    """Add a prediction `m` of the next regret, which is the last one (Farina, Kroer & Sandholm
    2021)."""
    half_step: bool = False
    r"""Add the regrets of the policy one step ahead, $h \propto [R + r(p)]^+$ (extragradient)."""
    alternating: bool = False
    """Update the players one after the other, each against the newest opponent."""
    floor: float = 0.0
    r"""Project the regrets to the nearest point with $R \ge 0,\ \sum_a R_a \ge$ `floor`, and begin
    at `floor` $p$. The policy is then a smooth function of the regrets, and `1 / floor` acts as
    the step size (Farina, Grand-Clément, Kroer, Lee & Luo 2023)."""
    discount: Discount | None = None
    """Discount old regrets."""
    alpha: float = 0.0
    r"""Transform the rewards: $q - \alpha(p - \rho)$ pulls towards the magnet $\rho$."""
    magnet: MagnetSchedule = Fixed()
    """When the magnet moves."""

    __repr__ = written

    def __post_init__(self) -> None:
        for name in ("plus", "predictive", "half_step", "alternating"):
            require_flag(name, getattr(self, name))
        require_weight("floor", self.floor)
        require_weight("alpha", self.alpha)
        if self.discount is not None:
            require_kind("discount", self.discount, Discount, "a `Discount(alpha, beta)`")
        require_callable("magnet", self.magnet, "`Every(50)`")
        if self.floor and not self.plus:
            raise ValueError("`floor` needs `plus`: it is a floor of regrets cut at 0.")
        if self.half_step and (self.predictive or self.alternating):
            raise ValueError("`half_step` looks ahead by itself, and for both players at once.")

    def shorthand(self) -> Shorthand | None:
        """The function below that makes this value, and its arguments; None if none does."""
        readings: list[Shorthand] = []
        if self.floor:
            readings = [(m, {"floor": self.floor}) for m in (SmoothPRMPlus, ExtragradientRMPlus)]
        elif isinstance(self.magnet, Every):
            readings = [(RTCFRPlus, {"alpha": self.alpha, "period": self.magnet.period})]
        return first_that_makes(self, readings)

    def averages(self, degree: Power) -> Iterator[Shorthand]:
        """Functions below, with the arguments by which they might make the average of this."""
        yield from ((make, {}) for make in (CFR, CFRPlus, PCFRPlus))
        if isinstance(degree, LinearSchedule) and degree.first >= FALL:
            steps = {"steps": degree.steps, "gamma": degree.first}
            yield from ((make, steps) for make in (HSDCFR, HSPCFRPlus))
        elif self.discount is not None and not callable(degree):
            alpha, beta = self.discount.alpha, self.discount.beta
            yield DCFR, {"alpha": alpha, "beta": beta, "gamma": degree}
            yield PDCFRPlus, {"alpha": alpha, "gamma": degree}

    def step(
        self, game: Game[M, Array], state: State[M], rng: np.random.Generator | None = None
    ) -> State[M]:
        """Add the regrets of the current policy, then play in proportion to the positive part."""
        policy, regrets = state.policy, state.memory.get("regrets", 0.0)
        if "regrets" not in state.memory and not has_verbs(policy, "regrets", "matching"):
            raise WrongKind(
                "`RegretMatching` needs a policy with regrets, a table or that of a tree; a "
                f"{type(policy).__name__} has none."
            )
        if self.floor:
            require_table(policy)
            # With regrets of 0 the floor would play uniformly at first, whatever the start is.
            fresh = np.reshape(np.equal(state.step, 0), (*np.shape(state.step), 1, 1))
            regrets = np.where(fresh, self.floor * policy.probs, regrets)
        sides = range(game.players) if self.alternating and game.players > 1 else (None,)
        for player in sides:
            regret = self._regret(game, state, policy, player, rng)
            if self.half_step:
                half = policy.matching(self._cut(policy, regrets + regret))
                regret = self._regret(game, state, half, player, rng)
            total = regrets + regret
            if self.discount is not None:
                total = self.discount(total, state.step + 1)
            if self.plus:
                total = self._cut(policy, total)
            guess = self._cut(policy, total + regret) if self.predictive else total
            if player is not None and (self.discount or self.alpha or self.floor):
                # The other side's new regrets are 0, but these settings would change its old ones.
                total = np.where(policy.owned(player), total, regrets)
            policy, regrets = policy.matching(guess, player), total
        evaluations = 2.0 if self.half_step else 1.0
        # A magnet schedule such as `WhenInnerSolved` reads the weight of the pull from the state.
        if state.alpha is not self.alpha:
            state = replace(state, alpha=self.alpha)
        return self.magnet(game, state.advance(policy, evaluations, {"regrets": regrets}))

    def _regret(
        self,
        game: Game[M, Array],
        state: State[M],
        policy: M,
        player: int | None,
        rng: np.random.Generator | None,
    ) -> Array:
        """`r = q - <q, p>`, of transformed rewards where `alpha` is not 0."""
        regret = policy.regrets(game.feedback(policy, player=player, rng=rng), player)
        if self.alpha:
            regret = regret - self.alpha * policy.centred(policy.probs - state.magnet.probs)
        return regret

    def _cut(self, policy: M, regrets: Array) -> Array:
        """The nearest regrets that are not negative and whose sum is at least `floor`."""
        positive = np.maximum(regrets, 0.0)
        if not self.floor:
            return positive
        legal = cast(TabularPolicy, policy).legal
        # Where the sum is too small, this is a projection to a scaled simplex: the Euclidean step.
        scaled = np.where(legal, regrets / self.floor, -np.inf)
        nearest = Euclidean().step(scaled, np.zeros(scaled.shape), None, 1.0, 0.0)
        short = np.sum(positive * legal, axis=-1, keepdims=True) < self.floor
        return np.where(short, self.floor * Euclidean().probs(nearest), positive)


def CFR() -> Averaged:
    """Counterfactual regret minimisation (Zinkevich et al. 2007), players alternating.

    >>> solve(load('biased_rps'), CFR(), 200).gap < 0.2
    True
    """
    return Averaged(RegretMatching(alternating=True))


def CFRPlus() -> Averaged:
    """CFR+ (Tammelin 2014). Its average weights step `t` by `t`, without delay.

    >>> solve(load('biased_rps'), CFRPlus(), 200).gap < 0.1
    True
    """
    return Averaged(RegretMatching(plus=True, alternating=True), degree=1)


def DCFR(alpha: float = 1.5, beta: float = 0.0, gamma: float = 2.0) -> Averaged:
    """Discounted CFR (Brown & Sandholm 2019); `gamma` is the degree of the average.

    >>> solve(load('biased_rps'), DCFR(), 200).gap < 0.1
    True
    """
    return Averaged(RegretMatching(alternating=True, discount=Discount(alpha, beta)), gamma)


def HSDCFR(steps: int, gamma: float = 30.0) -> Averaged:
    """Discounted CFR with the hyperparameter schedules of Zhang, McAleer & Sandholm (AAAI 2026).

    The powers of the discount go from 1 to 4 and from -1 to -3 within `steps`, the whole length of
    the run, and the degree of the average from `gamma` to `gamma - 5`. The paper calls this
    HS-DCFR(`gamma`), with 30 or 15. `ValueError` unless `5 <= gamma <= 30`.

    >>> solve(load('biased_rps'), HSDCFR(200), 200).gap < 0.1
    True
    """
    discount = Discount(LinearSchedule(1.0, 4.0, steps), LinearSchedule(-1.0, -3.0, steps))
    matching = RegretMatching(alternating=True, discount=discount)
    return Averaged(matching, _falling(steps, gamma))


def PCFRPlus() -> Averaged:
    """Predictive CFR+ (Farina, Kroer & Sandholm 2021), quadratic average.

    >>> solve(load('biased_rps'), PCFRPlus(), 200).gap < 0.1
    True
    """
    return Averaged(RegretMatching(plus=True, predictive=True, alternating=True), degree=2)


def HSPCFRPlus(steps: int, gamma: float = 30.0) -> Averaged:
    """Predictive CFR+ with the average of `HSDCFR`: HS-PCFR+(`gamma`) of the same paper.

    >>> solve(load('biased_rps'), HSPCFRPlus(200), 200).gap < 0.1
    True
    """
    matching = RegretMatching(plus=True, predictive=True, alternating=True)
    return Averaged(matching, _falling(steps, gamma))


def PDCFRPlus(alpha: float = 2.3, gamma: float = 5.0) -> Averaged:
    r"""Predictive discounted CFR+ (Xu et al., IJCAI 2024); `gamma` is the degree of the average.

    $$R_t = [d_{t-1} R_{t-1} + r_t]^+,\qquad p_{t+1} \propto [d_t R_t + r_t]^+,\qquad
    d_t = t^\alpha / (t^\alpha + 1)$$

    >>> solve(load('biased_rps'), PDCFRPlus(), 200).gap < 0.1
    True
    """
    # The regrets that are kept are d_t R_t. None is negative, so the other power has no effect.
    matching = RegretMatching(
        plus=True, predictive=True, alternating=True, discount=Discount(alpha, 0.0)
    )
    return Averaged(matching, gamma)


def _falling(steps: int, gamma: float) -> LinearSchedule:
    """The degree of an average that falls by 5 within `steps`."""
    if not (is_number(gamma) and FALL <= gamma <= STEEPEST):
        raise ValueError(f"`gamma` must lie in [{FALL:g}, {STEEPEST:g}], got {shown(gamma)}.")
    return LinearSchedule(gamma, gamma - FALL, steps)


def SmoothPRMPlus(floor: float) -> RegretMatching:
    """Smooth predictive RM+ (Farina et al. 2023). Its last iterate converges, linearly with
    restarts (Cai et al. 2023): `Restarted(SmoothPRMPlus(floor))`.

    >>> solve(load('biased_rps'), SmoothPRMPlus(floor=10.0), 300).gap < 0.01
    True
    """
    return RegretMatching(plus=True, predictive=True, floor=floor)


def ExtragradientRMPlus(floor: float) -> RegretMatching:
    """Extragradient RM+ (Farina et al. 2023): two evaluations a step. The last iterate converges,
    linearly with restarts (Cai et al. 2023): `Restarted(ExtragradientRMPlus(floor))`.

    >>> solve(load('biased_rps'), ExtragradientRMPlus(floor=10.0), 300).gap < 0.01
    True
    """
    return RegretMatching(plus=True, half_step=True, floor=floor)


def RTCFRPlus(alpha: float, period: int) -> RegretMatching:
    """Reward-transformed CFR+ (Meng et al. 2023): CFR+ on feedback pulled towards a magnet that
    moves to the policy every `period` steps. The result is the last iterate.

    >>> solve(load('biased_rps'), RTCFRPlus(alpha=0.3, period=20), 300).gap < 0.5
    True
    """
    return RegretMatching(plus=True, alternating=True, alpha=alpha, magnet=Every(period))
