"""Metrics that `solve` records: functions `(game, state) -> float` (or an array over a batch).

In the states that `solve` hands to them, `state.policy` is what the solver answers with: the last
iterate, or the average of an averaging method. The last iterate is `state.iterate`.

Each metric is defined once. Duality gap = NashConv = the sum over players of what a best response
would gain; exploitability = NashConv / 2. KL is in nats, payoffs in the game's units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.capabilities import Checkable
from mpo_games.checks import (
    WrongKind,
    has_verbs,
    require_kind,
    require_share,
    require_weight,
)
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import ExactGame, Game, Number, P, Policy, State

Metric = Callable[[Any, State[Any]], Number]
"""A function of the game and the state: a number, or one number for each game of a batch."""


def _require(state: object, game: object = None, verb: str | None = None) -> None:
    """`ValueError` unless `state` is that of a solver, and `game` has the method `verb`."""
    require_kind("state", state, State, "a state of a solver, like `solution.state`")
    if verb is not None and not has_verbs(game, verb):
        raise WrongKind(f"`game` must have `{verb}`; a {type(game).__name__} does not.")


def duality_gap(game: Checkable, state: State[P]) -> Number:
    """NashConv of `state.policy`; in a record of `solve` this is the solver's answer."""
    _require(state, game, "duality_gap")
    return game.duality_gap(state.policy)


def exploitability(game: Checkable, state: State[P]) -> Number:
    """Half the duality gap."""
    return duality_gap(game, state) / 2.0


def iterate_gap(game: Checkable, state: State[P]) -> Number:
    """The duality gap of the last iterate, whatever the solver answers with."""
    _require(state, game, "duality_gap")
    return game.duality_gap(state.iterate)


def average_gap(game: Checkable, state: State[P]) -> Number:
    """The duality gap of the average iterate; `ValueError` unless the solver is an `Averaged`."""
    _require(state, game, "duality_gap")
    # Before the first step there is no average yet, and the start stands for it.
    if state.step and "average" not in state.memory:
        raise ValueError("`average_gap` needs the average iterate: run the solver as `Averaged`.")
    return game.duality_gap(state.memory.get("average", state.policy))


def better_gap(game: Checkable, state: State[P]) -> Number:
    """The smaller of two gaps, that of the last iterate and that of the average.

    `Restarted(Averaged(...))` restarts from the policy with the smaller gap. `ValueError` unless
    the solver is an `Averaged`, or contains one.
    """
    return np.minimum(iterate_gap(game, state), average_gap(game, state))


@dataclass(frozen=True, slots=True)
class RegularisedGap:
    """Duality gap of the game in which each side pays `alpha KL(own policy || state.magnet)`."""

    alpha: float

    def __post_init__(self) -> None:
        require_weight("alpha", self.alpha)

    def __call__(self, game: ExactGame[P, Any], state: State[P]) -> Number:
        return game.regularised_gap(state.policy, state.magnet, self.alpha)


@dataclass(frozen=True, slots=True)
class DivergenceTo:
    """Bregman divergence from a target (an equilibrium, say) to the policy: `D(target || policy)`.

    In the entropy geometry this is the KL of the convergence theorem, summed over players and
    averaged over contexts.
    """

    target: Policy[Any]

    def __call__(self, game: ExactGame[Any, Any], state: State[Any]) -> Number:
        return game.divergence(self.target, state.policy)


def magnet_divergence(game: ExactGame[P, Any], state: State[P]) -> Number:
    """How far the policy has travelled from its magnet, `D(policy || magnet)`."""
    _require(state, game, "divergence")
    return game.divergence(state.policy, state.magnet)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The number in `state.memory[name]`; `unknown` as long as the solver has not written it."""

    name: str
    unknown: float = 0.0

    def __call__(self, game: Game[P, Any], state: State[P]) -> Number:
        # Before release 0.2 the step size was an entry of the memory.
        known = step_size(game, state) if self.name == "eta" and state.step else self.unknown
        number: Number = state.memory.get(self.name, known)
        return number


def step_size(_: Game[P, Any], state: State[P]) -> Number:
    """The step size of the last step; 0 before the first."""
    _require(state)
    return 0.0 if state.eta is None else state.eta


def last_move(_: Game[P, Any], state: State[P]) -> Number:
    """The step at which the magnet last moved."""
    _require(state)
    return state.moved_at


def magnet_weight(_: Game[P, Any], state: State[P]) -> Number:
    """`eta alpha / (1 + eta alpha)`: the magnet's share in the last step; 0 before the first.

    It is `1 / (k + 2)` in an `Anchored` step, `k` steps after the magnet's last move.
    """
    _require(state)
    if state.eta is None or state.alpha is None:
        return 0.0
    return state.eta * state.alpha / (1.0 + state.eta * state.alpha)


def entropy(_: Game[TabularPolicy, Any], state: State[TabularPolicy]) -> Number:
    """Shannon entropy of the policy in nats, averaged over its rows."""
    _require(state)
    p, log_p = state.policy.probs, state.policy.log_probs
    # 0 log 0 is 0, where NumPy says NaN.
    return np.asarray(-np.sum(p * np.where(p > 0, log_p, 0.0), axis=-1).mean(axis=-1))


@dataclass(frozen=True, slots=True)
class SupportSize:
    """The number of actions with a probability above `threshold`, averaged over the rows."""

    threshold: float = 1e-6

    def __post_init__(self) -> None:
        require_share("threshold", self.threshold)

    def __call__(self, game: Game[TabularPolicy, Any], state: State[TabularPolicy]) -> Number:
        return np.asarray(np.sum(state.policy.probs > self.threshold, axis=-1).mean(axis=-1))
