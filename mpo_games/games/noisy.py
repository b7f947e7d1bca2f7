"""Tables with noisy or sampled feedback: an unbiased estimate. The gap stays exact.

All randomness comes from the `rng` that is passed to `feedback`. Shapes are those of the inner
game: policies and feedback are `(..., rows, actions)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpo_games.checks import (
    require_count,
    require_flag,
    require_game,
    require_share,
    require_weight,
)
from mpo_games.games.estimated import EstimatedGame, required
from mpo_games.games.preference import PreferenceGame
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, ExactGame, Indices, Mask, Mixture

Opponent = TabularPolicy | Mixture[TabularPolicy]


class TableGame(ExactGame[TabularPolicy, Array], Protocol):
    """An exact game played by tables, such as `MatrixGame` and `PreferenceGame`."""

    @property
    def legal(self) -> Mask:
        """Mask of the legal actions, `(..., rows, actions)`."""
        ...

    @property
    def bound(self) -> Array:
        """The largest absolute payoff of each game."""
        ...


@dataclass(frozen=True, repr=False)
class _EstimatedTables(EstimatedGame[TabularPolicy]):
    """An estimated game whose inner game is played by tables."""

    game: TableGame

    @property
    def legal(self) -> Mask:
        """The inner game's mask of legal actions."""
        return self.game.legal


@dataclass(frozen=True, repr=False)
class NoisyGame(_EstimatedTables):
    """Adds independent noise `N(0, sigma^2)` to the feedback of every legal action of `game`.

    This is the noisy feedback of Abe et al. 2023. `ValueError` unless `sigma` is finite and at
    least 0.

    >>> NoisyGame(load('comal'), sigma=0.1)
    NoisyGame(sigma=0.1) of comal: preferences among 3 responses
    """

    sigma: float
    """Standard deviation of the noise, in units of payoff."""

    def __post_init__(self) -> None:
        _require_tables(self.game)
        require_weight("sigma", self.sigma)

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: Opponent | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The inner game's feedback plus noise, `(..., rows, actions)`; `rng` is required."""
        q = self.game.feedback(policy, opponent, player=player)
        noise = self.sigma * required(rng).normal(size=q.shape)
        return np.asarray(q + np.where(_asked(self.game, policy.legal, player), noise, 0.0))


@dataclass(frozen=True, repr=False)
class SampledGame(_EstimatedTables):
    """Evaluates every own action of `game` against the same sampled actions of the opponent.

    In each row the opponent draws `samples` actions, and `q` is the mean over them. The policies of
    a `Mixture` are sampled separately but *with the same random numbers*. In `2 p - p_previous`
    most draws then coincide, and the estimate is hardly noisier than against `p` alone.

    >>> SampledGame(load('comal'), samples=8)
    SampledGame(samples=8) of comal: preferences among 3 responses
    """

    samples: int
    """Sampled actions of the opponent per row, at least 1."""

    def __post_init__(self) -> None:
        _require_tables(self.game)
        require_count("samples", self.samples)

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: Opponent | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The inner game's feedback against the frequencies of the draws; `rng` is required."""
        mixture = _mixture(policy if opponent is None else opponent)
        shape = np.broadcast_shapes(
            self.game.legal.shape, *(p.coordinates.shape for p in mixture.policies)
        )
        uniforms = required(rng).uniform(size=(self.samples, *shape[:-1]))
        # The feedback is linear in the opponent, so one call does for all draws of a policy.
        drawn = tuple(
            _frequencies(_inverse_cdf(p.probs, uniforms), p.legal) for p in mixture.policies
        )
        return self.game.feedback(policy, Mixture(drawn, mixture.weights), player=player)


@dataclass(frozen=True, repr=False)
class BanditGame(_EstimatedTables):
    r"""Reveals only the payoff of the action that was played in `game`, `samples` times a row.

    The side that learns draws its action from
    $b = (1-\text{exploration})\,p + \text{exploration}\cdot$uniform, and its opponent draws as in
    `SampledGame`. The payoff $r$ is divided by the probability of the action,
    $\hat q(a) = r\,1[a\text{ played}] / b(a)$. This is unbiased wherever $b > 0$. Its variance is
    of order `1 / b`, which `exploration` bounds. With `duels` a payoff is the outcome of one
    comparison.

    >>> BanditGame(load('comal'), samples=8)
    BanditGame(samples=8, exploration=0.0, duels=False) of comal: preferences among 3 responses
    """

    samples: int
    """Plays per row, at least 1; the feedback is their mean."""
    exploration: float = 0.0
    """The share of uniform play in the draws of the side that learns, in [0, 1]."""
    duels: bool = False
    """For a `PreferenceGame`: the payoff is the outcome of one comparison, 1/2 or -1/2, and not its
    probability less 1/2."""

    def __post_init__(self) -> None:
        _require_tables(self.game)
        require_flag("duels", self.duels)
        require_count("samples", self.samples)
        require_share("exploration", self.exploration)
        if self.duels and not isinstance(self.game, PreferenceGame):
            raise ValueError("`duels` needs a PreferenceGame: other payoffs are not win rates.")

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: Opponent | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The importance-weighted payoffs of the actions that were played; `rng` is required."""
        mixture = _mixture(policy if opponent is None else opponent)
        shape = np.broadcast_shapes(
            self.game.legal.shape,
            *(p.coordinates.shape for p in (policy, *mixture.policies)),
        )
        # Drawn once, so that all policies of a mixture meet the same random numbers.
        own, other, outcome = required(rng).uniform(size=(3, self.samples, *shape[:-1]))
        legal = policy.legal
        uniform = legal / legal.sum(axis=-1, keepdims=True)
        behaviour = (1.0 - self.exploration) * policy.probs + self.exploration * uniform
        action = _inverse_cdf(behaviour, own)[..., None]
        payoff = np.zeros(action.shape)
        for weight, opposed in zip(mixture.weights, mixture.policies, strict=True):
            met = _point_mass(_inverse_cdf(opposed.probs, other), opposed.legal)
            seen = np.take_along_axis(self.game.feedback(policy, met, player=player), action, -1)
            # The payoff is the probability of winning the comparison less 1/2.
            if self.duels:
                seen = np.where(outcome[..., None] < seen + 0.5, 0.5, -0.5)
            payoff += weight * seen
        chance = np.take_along_axis(np.broadcast_to(behaviour, (self.samples, *shape)), action, -1)
        q = np.zeros((self.samples, *shape))
        np.put_along_axis(q, action, payoff / chance, axis=-1)
        return np.asarray(np.where(_asked(self.game, legal, player), q.mean(axis=0), 0.0))


def _require_tables(game: object) -> None:
    """`ValueError` unless `game` is one that is played by tables."""
    require_game(game, "duality_gap")
    if not hasattr(game, "legal"):
        raise ValueError(
            f"`game` must be played by tables, like a MatrixGame, which a {type(game).__name__} "
            "is not: trees are sampled by `OutcomeSampling`."
        )


def _asked(game: TableGame, legal: Mask, player: int | None) -> Mask:
    """The legal actions of `player`, or of all if None, `(..., rows, actions)`."""
    # In a game of one player the rows are contexts, not players.
    if player is None or game.players == 1:
        return legal
    return np.asarray(legal & (np.arange(legal.shape[-2]) == player)[:, None])


def _mixture(opponent: Opponent) -> Mixture[TabularPolicy]:
    return opponent if isinstance(opponent, Mixture) else Mixture((opponent,), (1.0,))


def _inverse_cdf(probs: Array, uniforms: Array) -> Indices:
    """An action for each uniform number. An action of probability 0 is never drawn."""
    cdf = np.cumsum(probs, axis=-1)
    # Normalised, since with a last entry below 1 a number might lie above all of them.
    cdf /= cdf[..., -1:]
    return np.asarray((cdf <= uniforms[..., None]).sum(axis=-1))


def _point_mass(action: Indices, legal: Mask) -> TabularPolicy:
    probs = np.asarray(action[..., None] == np.arange(legal.shape[-1]), dtype=np.float64)
    return TabularPolicy.from_probs(probs, np.broadcast_to(legal, probs.shape))


def _frequencies(actions: Indices, legal: Mask) -> TabularPolicy:
    """The policy that plays each action by its share of the samples, which are the first axis."""
    probs = np.mean(actions[..., None] == np.arange(legal.shape[-1]), axis=0)
    return TabularPolicy.from_probs(probs, np.broadcast_to(legal, probs.shape))
