"""Trees with feedback from sampled play: outcome sampling (Lanctot et al. 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpo_games.checks import require_count, require_kind, require_share
from mpo_games.games.estimated import EstimatedGame, against_each, required
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices, Mixture


@dataclass(frozen=True, eq=False, repr=False)
class OutcomeSampling(EstimatedGame[TreeplexPolicy]):
    r"""A tree, `game`, whose feedback is an unbiased estimate from sampled games.

    Each side learns from `trajectories` games. The side that learns plays $b$, its policy with
    a share `exploration` of uniform play mixed in at every information state; chance and the
    opponent play by their own probabilities. A game that ends at the learner's sequence $s$, with
    payoff $u$ to the learner, contributes

    $$\hat q(s) = u / b(s),\qquad \mathrm E\,\hat q = q$$

    with $b(s)$ the probability of the learner's moves. The variance is of order $1/b$, and
    `exploration` bounds it. Against a `Mixture`, all its policies are sampled with the same random
    numbers. Gaps, values and best responses are exact. `ValueError` unless `trajectories >= 1` and
    `0 <= exploration <= 1`.

    >>> tree = build_tree(Decision(0, 'start', {'left': Payoff(1.0), 'right': Payoff(0.0)}))
    >>> OutcomeSampling(tree, trajectories=10).title
    'a tree of 4 sequences with sampled feedback'
    """

    game: SequenceFormGame
    trajectories: int = 1
    """Games played for each side's feedback."""
    exploration: float = 0.0
    """The share of uniform play of the side that learns."""

    def __post_init__(self) -> None:
        require_kind("game", self.game, SequenceFormGame, "a tree, like `load('kuhn_poker')`")
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
        """An estimate of the tree's feedback, `(sequences,)`.

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
        # Numbers are drawn for both sides even if one is asked for: its estimate stays the same.
        for side, uniforms in enumerate(rng.uniform(size=(2, self.trajectories))):
            if player in (None, side):
                own, met = (rows, game.column) if side == 0 else (game.column, rows)
                reach = np.cumsum(game.chance * behaviour[own] * other[met])
                # The probabilities of all leaves sum to 1 only up to rounding.
                seen = np.searchsorted(reach, uniforms * reach[-1], side="right")
                # An entry holds its payoff times its chance, which the draw has counted already.
                payoff = game.payoff[seen] / game.chance[seen] / behaviour[own[seen]]
                np.add.at(q, own[seen], (1.0 - 2.0 * side) * payoff / self.trajectories)
        return q
