"""What games seen through samples have in common: the feedback is estimated, all else is exact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from mpo_games.protocol import Array, Mixture, P


@dataclass(frozen=True, eq=False)
class EstimatedGame(ABC, Generic[P]):
    """Estimates the feedback of an inner game and hands everything else to it, exactly."""

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
    def players(self) -> int:
        """The inner game's."""
        return int(self.game.players)

    @property
    def bound(self) -> Array:
        """The inner game's largest absolute payoff."""
        return np.asarray(self.game.bound)

    def initial_policy(self) -> P:
        """The inner game's."""
        policy: P = self.game.initial_policy()
        return policy

    def duality_gap(self, policy: P) -> Array:
        """The inner game's, exactly."""
        return np.asarray(self.game.duality_gap(policy))

    def gap(self, policy: P, q: Array) -> Array:
        """The inner game's: of an estimated `q` an estimate, and no evaluation."""
        return np.asarray(self.game.gap(policy, q))

    def smoothed(self, policy: P) -> tuple[P, float]:
        """The inner game's."""
        smooth: tuple[P, float] = self.game.smoothed(policy)
        return smooth

    def regularised_gap(self, policy: P, magnet: P, alpha: float) -> Array:
        """The inner game's, exactly."""
        return np.asarray(self.game.regularised_gap(policy, magnet, alpha))

    def best_response(self, policy: P) -> P:
        """The inner game's, exactly."""
        response: P = self.game.best_response(policy)
        return response

    def value(self, policy: P) -> Array:
        """The inner game's, exactly."""
        return np.asarray(self.game.value(policy))

    def divergence(self, policy: P, other: P) -> Array:
        """The inner game's."""
        return np.asarray(self.game.divergence(policy, other))

    def average(self, mixture: Mixture[P]) -> P:
        """The inner game's."""
        mean: P = self.game.average(mixture)
        return mean


def required(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng`; `ValueError` where there is none."""
    if rng is None:
        raise ValueError("`rng` is needed: the feedback of this game is sampled.")
    return rng


def against_each(
    mixture: Mixture[P],
    feedback: Callable[[P, np.random.Generator | None], Array],
    rng: np.random.Generator | None,
) -> Array:
    """The mixture's combination of the feedback against each of its policies.

    All of them meet the same random numbers, so that in `2 p - p_previous` most draws coincide.
    """
    seed = None if rng is None else int(rng.integers(2**63))
    terms = (
        weight * feedback(policy, None if seed is None else np.random.default_rng(seed))
        for weight, policy in zip(mixture.weights, mixture.policies, strict=True)
    )
    return np.asarray(sum(terms))
