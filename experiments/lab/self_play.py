r"""Policy gradient in self-play, and PPO: what the field trains networks with at tables of cards.

Neither is a mirror step, so they are no part of the library. Both ascend what the episodes of a
step have earned, over all legal actions of the states that were visited:

$$\max_p\;\sum_{j,a} \min\Big(\tfrac{p}{b}A,\;\mathrm{clip}\big(\tfrac{p}{b}\big)A\Big)
+ \tau \sum_j n_j H(p_j)$$

with b the policy that played. Policy gradient takes one gradient a step, where the clip does
nothing, and subtracts a baseline for each role, a running mean of its returns. PPO takes several
gradients of the clipped ratio, and its critic is a running mean of returns for each information
state: the best that a network could learn of it. Advantages are divided by their root mean square.
The entropy keeps its weight: in first trials, where the weight fell to 0 over the run, policy
gradient ended farther from equilibrium. With exact feedback the chances of all endings take the
place of the shares of the episodes that ended there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mpo_games import State
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.protocol import Array, Indices
from mpo_llm import Adam, Proximal, Rollouts, constant
from mpo_llm.step.objectives import Batch
from mpo_llm.trees import TextTreeGame, TreePolicy
from mpo_llm.trees.episodes import rows_of

MEMORY = 50.0
"""Visits over which the critic's means run."""

FADING = 0.1
"""The weight of a step in a role's running mean."""


@dataclass(frozen=True, eq=False)
class Clipped:
    """The objective above, for all legal actions of some states; every weight of a row is 1."""

    gains: Tensor
    """Positive advantages of each action, summed over the episodes' shares, `(N,)`."""
    losses: Tensor
    """The same for negative ones, `(N,)`."""
    visits: Tensor
    """The share of episodes that came to the action's state, `(N,)`."""
    entropy: float
    """The weight of the entropy."""
    clip: float
    """How far a ratio counts from 1; infinite for policy gradient."""

    potential: ClassVar[bool] = True
    # Probabilities are divided by their sum over the legal actions.
    separable: ClassVar[bool] = False

    def __call__(self, batch: Batch, /) -> Tensor:
        raw = batch.log_probs.sum(1)
        legal = raw.new_zeros(int(batch.prompt_of.max()) + 1)
        legal = legal.index_add(0, batch.prompt_of, raw.exp())
        log_p = raw - legal[batch.prompt_of].log()
        ratio = torch.exp(log_p - batch.behaviour.sum(1))
        worth = self.gains * ratio.clamp(max=1.0 + self.clip)
        worth = worth + self.losses * ratio.clamp(min=1.0 - self.clip)
        return self.entropy * self.visits * log_p.exp() * log_p - worth


@dataclass(frozen=True, eq=False)
class Paths:
    """Which moves lead to which ending: a row for each pair of an ending and a move before it."""

    end: Indices
    """The ending, `(pairs,)`."""
    move: Indices
    """The sequence whose last action is the move, `(pairs,)`."""

    @classmethod
    def of(cls, game: SequenceFormGame) -> Paths:
        """Those of a game."""
        tree, state_of = game.tree, game.tree.state_of
        ends, moves = [], []
        for last in (rows_of(game), game.column):
            end, move = np.arange(last.size), last
            while (made := move >= 2).any():
                end, move = end[made], move[made]
                ends.append(end)
                moves.append(move)
                move = tree.parent[state_of[move]]
        return cls(np.concatenate(ends), np.concatenate(moves))


@dataclass(frozen=True, eq=False)
class SelfPlay:
    """A solver: policy gradient, or PPO if there are several `epochs`, a `clip` and a `critic`."""

    paths: Paths
    rate: float
    """Adam's."""
    entropy: float
    """The weight of the entropy, in units of the advantages' root mean square."""
    epochs: int = 1
    """Gradients a step."""
    clip: float = float("inf")
    critic: bool = False

    def step(
        self, game: TextTreeGame, state: State[TreePolicy], rng: np.random.Generator | None
    ) -> State[TreePolicy]:
        """Play, and follow what the play has earned."""
        policy, tree = state.policy, game.tree.tree
        shares, count = _endings(game, policy, rng)
        end, move = self.paths.end, self.paths.move
        at, seat = tree.state_of[move], tree.owner[move]
        weight = shares[end]
        returns = (1.0 - 2.0 * seat) * (game.tree.payoff / game.tree.chance)[end]
        known = state.memory.get("baseline", np.zeros(tree.states if self.critic else 2))
        group = at if self.critic else seat
        visits = np.bincount(group, weight, known.size)
        mean = np.bincount(group, weight * returns, known.size) / np.maximum(visits, 1e-300)
        if self.critic:
            # With exact feedback the count is infinite, and the critic is right.
            speed = 1.0 / (1.0 + MEMORY / np.maximum(count * visits, 1e-300))
        else:
            speed = np.where(visits > 0.0, FADING, 0.0)
        advantages = returns - (known if np.isfinite(count) else mean)[group]
        total = max(float(weight.sum()), 1e-300)
        advantages /= max(float(weight @ advantages**2 / total) ** 0.5, 1e-12)
        gains, losses = (
            np.asarray(np.bincount(move, weight * part, tree.sequences), dtype=np.float64)
            for part in (np.maximum(advantages, 0.0), np.minimum(advantages, 0.0))
        )
        been = np.asarray(np.bincount(at, weight, tree.states), dtype=np.float64)
        after = self._ascended(game, policy, gains, losses, been)
        return state.advance(after, 1.0, {"baseline": known + speed * (mean - known)})

    def _ascended(
        self,
        game: TextTreeGame,
        policy: TreePolicy,
        gains: Array,
        losses: Array,
        been: Array,
    ) -> TreePolicy:
        """The network after the gradients of a step."""
        (answers,), (own,) = policy.answers.listed, policy.answers.sequences
        rows = np.flatnonzero(been[game.tree.tree.state_of[own]] > 0.0)
        own = own[rows]
        visits = been[game.tree.tree.state_of[own]]
        up, down, came = (torch.from_numpy(v).float() for v in (gains[own], losses[own], visits))
        objective = Clipped(up, down, came, self.entropy, self.clip)
        listed = answers.take(rows)
        behaviour = np.zeros(listed.tokens.shape)
        behaviour[:, 0] = np.log(np.maximum(policy.probs[own], 1e-300))
        q = Rollouts(listed, np.ones(rows.size), np.zeros(behaviour.shape), behaviour)
        (network,) = policy.tokens
        minimise = Adam(self.epochs, self.rate, constant, betas=(0.9, 0.999), keep_first=True)
        solved = Proximal(objective, minimise).solve(network, network.moments, q, ())
        return game.played(
            replace(
                network,
                parts=((1.0, solved.weights),),
                moments=solved.moments,
                report=solved.report,
            )
        )


def _endings(game: TextTreeGame, policy: TreePolicy, rng: Any) -> tuple[Array, float]:
    """The shares of the endings among new episodes and their number; with exact feedback their
    chances, of infinitely many."""
    if game.episodes is not None:
        log = game.play(policy, rng)
        return log.seen / log.episodes, log.episodes
    moves = policy.plan[rows_of(game.tree)] * policy.plan[game.tree.column]
    return game.tree.chance * moves, float("inf")
