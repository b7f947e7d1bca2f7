"""The common part of games with sampled feedback. Only the feedback is an estimate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic

import numpy as np

from mpo_games.labelled import shown
from mpo_games.protocol import Array, Mixture, P
from mpo_games.written import written


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedGame(ABC, Generic[P]):
    """A game that estimates the feedback of an inner game.

    Every other method is that of the inner game, so values, gaps and divergences are exact, and
    have its units and shapes.
    """

    game: Any
    """The inner game: an `ExactGame` with a `bound`."""

    @abstractmethod
    def feedback(
        self,
        policy: P,
        opponent: P | Mixture[P] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """An unbiased estimate of the inner game's feedback; `ValueError` without `rng`."""

    @property
    def title(self) -> str:
        """The inner game, and that its feedback is sampled."""
        return f"{getattr(self.game, 'title', type(self.game).__name__)} with sampled feedback"

    def __repr__(self) -> str:
        kept = [f.name for f in fields(self) if f.init and f.name != "game"]
        settings = ", ".join(f"{name}={written(getattr(self, name))}" for name in kept)
        return f"{type(self).__name__}({settings}) of {self.game!r}"

    @property
    def players(self) -> int:
        """The number of sides of the inner game, 1 or 2."""
        return int(self.game.players)

    @property
    def bound(self) -> Array:
        """The inner game's largest absolute payoff."""
        return np.asarray(self.game.bound)

    def initial_policy(self) -> P:
        """The initial policy of the inner game."""
        # Annotated, here and below, because `game` is untyped.
        policy: P = self.game.initial_policy()
        return policy

    def duality_gap(self, policy: P) -> Array:
        """The exact duality gap in the inner game."""
        return np.asarray(self.game.duality_gap(policy))

    def gap(self, policy: P, q: Array) -> Array:
        """The duality gap of `policy`, given its own feedback `q`, without another evaluation.

        If `q` is an estimate, the gap is one too, and it is too large on average: a maximum of
        noisy numbers is biased upwards.
        """
        return np.asarray(self.game.gap(policy, q))

    def smoothed(self, policy: P) -> tuple[P, float]:
        """The same play in the smoothed entropy, and the evaluations that this costs."""
        # This method and `gap` make the game `SelfTunable`, so that `AutoMPO` runs on samples.
        smooth: tuple[P, float] = self.game.smoothed(policy)
        return smooth

    def regularised_gap(self, policy: P, magnet: P, alpha: float) -> Array:
        """The exact regularised gap in the inner game."""
        return np.asarray(self.game.regularised_gap(policy, magnet, alpha))

    def best_response(self, policy: P) -> P:
        """An exact best response in the inner game."""
        response: P = self.game.best_response(policy)
        return response

    def value(self, policy: P) -> Array:
        """The exact value in the inner game."""
        return np.asarray(self.game.value(policy))

    def divergence(self, policy: P, other: P) -> Array:
        """The divergence `D(policy || other)` of the inner game."""
        return np.asarray(self.game.divergence(policy, other))

    def average(self, mixture: Mixture[P]) -> P:
        """The policy that plays like `mixture` in the inner game."""
        mean: P = self.game.average(mixture)
        return mean


def required(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng`; `ValueError` if it is None, or no generator."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            "`rng` is needed, because the feedback of this game is sampled: "
            f"pass `rng=np.random.default_rng(0)`, got {shown(rng)}."
        )
    return rng


def against_each(
    mixture: Mixture[P],
    feedback: Callable[[P, np.random.Generator | None], Array],
    rng: np.random.Generator | None,
) -> Array:
    """The feedback against each policy of the mixture, combined with the mixture's weights.

    `feedback(policy, rng)` is called once per policy. All calls have the same random numbers, so
    most draws coincide in `2 p - p_previous`.
    """
    # One draw from `rng` whatever the mixture, so that later draws do not depend on its length.
    seed = None if rng is None else int(rng.integers(2**63))
    terms = (
        weight * feedback(policy, None if seed is None else np.random.default_rng(seed))
        for weight, policy in zip(mixture.weights, mixture.policies, strict=True)
    )
    return np.asarray(sum(terms))
