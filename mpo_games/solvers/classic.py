"""The two classics: fictitious play, and gradient ascent on logits, which circles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mpo_games.checks import require_positive, require_verbs
from mpo_games.choices.pull import require_table
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, ExactGame, Game, Mixture, P, State
from mpo_games.written import written


@dataclass(frozen=True, slots=True)
class FictitiousPlay:
    """Best-respond to the opponents' average; the policy *is* the average (Brown 1951).

    `p_{t+1} = p_t + (best response to p_t - p_t) / (t + 2)`. It needs an `ExactGame`, else
    `ValueError`.

    >>> round(solve(load('comal'), FictitiousPlay(), 1000).gap, 1)
    0.0
    """

    __repr__ = written

    def step(
        self, game: Game[P, Any], state: State[P], rng: np.random.Generator | None = None
    ) -> State[P]:
        """Add one best response to the average."""
        # The start counts as the first play, so the first response weighs a half.
        weight = 1.0 / (state.step + 2)
        require_verbs(self, game, "best_response", "average")
        exact = cast(ExactGame[P, Any], game)
        response = exact.best_response(state.policy)
        policy = exact.average(Mixture((state.policy, response), (1.0 - weight, weight)))
        return state.advance(policy, 1.0)


@dataclass(frozen=True, slots=True)
class GradientAscent:
    r"""Simultaneous gradient descent-ascent on softmax logits: self-play policy gradient.

    $$\theta' = \theta + \eta\,\nabla_\theta\langle q, p_\theta\rangle
      = \theta + \eta\,p\circ(q - \langle q, p\rangle)$$

    `ValueError` unless `eta` is above 0, and for a policy that is not a table.

    >>> start = load('comal').policy([0.2, 0.5, 0.3])
    >>> solve(load('comal'), GradientAscent(0.3), 2000, policy=start).gap > 0.1
    True
    """

    eta: float

    __repr__ = written

    def __post_init__(self) -> None:
        require_positive("eta", self.eta)

    def step(
        self,
        game: Game[TabularPolicy, Array],
        state: State[TabularPolicy],
        rng: np.random.Generator | None = None,
    ) -> State[TabularPolicy]:
        """One gradient step of every player."""
        require_table(state.policy)
        p, q = state.policy.probs, game.feedback(state.policy, rng=rng)
        gradient = p * (q - np.sum(p * q, axis=-1, keepdims=True))
        # In log-probabilities the softmax gradient is a mirror step without a pull.
        policy = state.policy.mirror_step(gradient, None, eta=self.eta, alpha=0.0)
        return state.advance(policy, 1.0)
