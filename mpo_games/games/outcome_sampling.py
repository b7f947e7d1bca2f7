"""Trees seen through sampled play: outcome sampling (Lanctot et al. 2009), in sequence form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpo_games.checks import require_count, require_share
from mpo_games.games.estimated import EstimatedGame, against_each, required
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices, Mixture


@dataclass(frozen=True, eq=False)
class OutcomeSampling(EstimatedGame[TreeplexPolicy]):
    r"""A tree whose feedback is an unbiased estimate from `trajectories` played games a side.

    The side that learns plays $b$, its policy with a share `exploration` of uniform play mixed in
    at every information state; chance and the opponent play themselves. A game that ends with the
    own sequence $s$ and payoff $u$ counts

    $$\hat q(s) = u / b(s),\qquad \mathrm E\,\hat q = q$$

    with $b(s)$ the probability of the own moves: a variance of order $1/b$, which `exploration`
    bounds. The policies of a `Mixture` are met one by one with the same random numbers. Gaps,
    values and best responses are the exact ones. `ValueError` unless `trajectories >= 1` and
    `0 <= exploration <= 1`.
    """

    game: SequenceFormGame
    trajectories: int = 1
    exploration: float = 0.0

    def __post_init__(self) -> None:
        require_count("trajectories", self.trajectories)
        require_share("exploration", self.exploration)

    @property
    def tree(self) -> Tree:
        """The inner game's tree."""
        return self.game.tree

    @cached_property
    def _rows(self) -> Indices:
        """Player 0's sequence of every payoff entry."""
        return np.repeat(np.arange(self.tree.sequences), np.diff(self.game.row))

    def feedback(
        self,
        policy: TreeplexPolicy,
        opponent: TreeplexPolicy | Mixture[TreeplexPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """An estimate of the inner game's feedback, `(sequences,)`.

        `ValueError` without `rng`, and for a batch of policies.
        """
        rng = required(rng)
        if policy.plan.ndim != 1:
            raise ValueError("`policy` is a batch: outcome sampling takes one policy at a time.")
        if isinstance(opponent, Mixture):
            return against_each(
                opponent, lambda p, rng: self.feedback(policy, p, player=player, rng=rng), rng
            )
        game, rows = self.game, self._rows
        behaviour = policy.smooth(self.exploration).plan if self.exploration else policy.plan
        other = policy.plan if opponent is None else opponent.plan
        q = np.zeros(self.tree.sequences)
        for side, uniforms in enumerate(rng.uniform(size=(2, self.trajectories))):
            if player in (None, side):
                own, met = (rows, game.column) if side == 0 else (game.column, rows)
                reach = np.cumsum(game.chance * behaviour[own] * other[met])
                seen = np.searchsorted(reach, uniforms * reach[-1], side="right")
                payoff = game.payoff[seen] / game.chance[seen] / behaviour[own[seen]]
                np.add.at(q, own[seen], (1.0 - 2.0 * side) * payoff / self.trajectories)
        return q
