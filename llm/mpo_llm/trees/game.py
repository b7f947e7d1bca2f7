"""The game of a tree that networks play in words: hidden information, and exact distances.

The tree is any two-player zero-sum tree of the core, and all that is computed on it is computed
there: this file asks the networks what they play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games import exact
from mpo_games.checks import require_callable, require_count, require_kind, require_share
from mpo_games.games.estimated import required
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.labelled import shown
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Mixture, Number, Solver
from mpo_llm.policy import TokenPolicy
from mpo_llm.trees.answers import Answers, Describe, Say
from mpo_llm.trees.drawing import Speaker
from mpo_llm.trees.episodes import Estimate, Log, counted_deals, estimated
from mpo_llm.trees.fitting import Fit
from mpo_llm.trees.policy import TreePolicy
from mpo_llm.trees.preset import ON_EPISODES, ON_TREES


@dataclass(frozen=True, eq=False)
class TextTreeGame:
    """A two-player zero-sum tree: its information states are prompts, its actions are answers.

    `describe(label)` gives the prompt of each of `tree.labels`, as token ids, and `say(label,
    action)` the answer of each of its legal actions. Answers may have several tokens and common
    beginnings. `start` is a `TokenPolicy` that plays both seats, or a pair of them, one a seat. Its
    play is normalised over the legal actions; how much of its probability is legal is measured
    (`legal`), and learned with every step.

    Gaps and best responses are exact, those of the tree. So is feedback, unless there are
    `episodes`: then it is estimated from so many episodes of self-play a step, at whose decisions
    uniform play among the legal actions takes the place of the network's with the probability
    `explore`. Only what has been seen counts. `Pooled` keeps the episodes of earlier steps. They
    are drawn from the play that is computed; with a `speaker` its engine draws every answer.

    `ValueError` for two information states with one description, an answer that begins with another
    one, a tree too large to be listed, and answers that the policy never gives.
    """

    tree: SequenceFormGame
    """The game of which the networks are players."""
    start: tuple[TokenPolicy, ...]
    """Where learning starts: the policy of both seats, or one a seat."""
    answers: Answers
    """The prompts and answers."""
    episodes: int | None
    """Episodes of self-play a feedback; None if feedback is exact."""
    explore: float
    """The share of uniform play in episodes, at every decision."""
    estimate: Estimate
    """What is made of the episodes."""
    fit: Fit
    """How networks are fitted to a mirror step."""
    speaker: Speaker | None
    """It draws the answers in episodes; None if they are drawn from the play that is computed."""

    def __init__(
        self,
        tree: SequenceFormGame,
        start: TokenPolicy | Sequence[TokenPolicy],
        describe: Describe,
        say: Say,
        episodes: int | None = None,
        *,
        explore: float = 0.5,
        estimate: Estimate = counted_deals,
        fit: Fit = Fit(),
        speaker: Speaker | None = None,
    ) -> None:
        require_kind("tree", tree, SequenceFormGame, "a tree, like `load('kuhn_poker')`")
        if episodes is not None:
            require_count("episodes", episodes)
        require_share("explore", explore)
        require_callable("estimate", estimate, "`balanced`")
        require_kind("fit", fit, Fit, "a `Fit()`")
        if speaker is not None:
            require_kind("speaker", speaker, Speaker, "a `Speaker(engine)`")
        seats = (start,) if isinstance(start, TokenPolicy) else tuple(_several(start))
        answers = Answers.of(tree.tree, len(seats), describe, say)
        answers.require_producible(seats)
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "start", seats)
        object.__setattr__(self, "answers", answers)
        object.__setattr__(self, "episodes", episodes)
        object.__setattr__(self, "explore", explore)
        object.__setattr__(self, "estimate", estimate)
        object.__setattr__(self, "fit", fit)
        object.__setattr__(self, "speaker", speaker)

    @property
    def players(self) -> int:
        """2: one `TreePolicy` holds the play of both seats."""
        return 2

    @property
    def self_tuning(self) -> Solver:
        """What `AutoMPO` is on this game: `ON_TREES`, or `ON_EPISODES` if feedback is sampled."""
        return ON_TREES if self.episodes is None else ON_EPISODES

    @property
    def bound(self) -> Array:
        """`max |A|` of the tree."""
        return self.tree.bound

    def initial_policy(self) -> TreePolicy:
        """What the networks play at the start."""
        return self.played(self.start)

    def played(self, tokens: TokenPolicy | Sequence[TokenPolicy]) -> TreePolicy:
        """What a network plays in both seats, or each of two in its own, in the tree's geometry."""
        several = (tokens,) if isinstance(tokens, TokenPolicy) else tuple(_several(tokens))
        if len(several) != len(self.start):
            raise ValueError(
                f"This game has {len(self.start)} policies, got {len(several)}: pass one for both "
                "seats or one a seat, as the game was made."
            )
        return TreePolicy.measured(self.answers, self.fit, several, self.tree.geometry)

    def feedback(
        self,
        policy: TreePolicy,
        opponent: TreePolicy | Mixture[TreePolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """The tree's gradient in sequence form, `(sequences,)`, or what new episodes tell of it.

        Episodes need `rng`, else `ValueError`; exact feedback does not use it.
        """
        met = policy if opponent is None else opponent
        if self.episodes is not None:
            return self.learned(self.play(policy, rng), met, player)
        return self.tree.feedback(policy.play, _at_table(met), player=player)

    def play(self, policy: TreePolicy, rng: np.random.Generator | None) -> Log:
        """New episodes, both seats played by `policy`, which explores. `ValueError` without `rng`,
        and in a game without `episodes`."""
        if self.episodes is None:
            raise ValueError("Episodes are played in a game with `episodes` only: pass them.")
        behaviour = policy.play.smooth(self.explore)
        if self.speaker is None:
            return Log.drawn(self.tree, behaviour, self.episodes, required(rng))
        seen = self.speaker.endings(
            self.tree,
            self.answers,
            policy.tokens,
            policy.play,
            self.explore,
            self.episodes,
            required(rng),
        )
        return Log.ended(self.tree, behaviour, seen, self.episodes)

    def learned(
        self, log: Log, opponent: TreePolicy | Mixture[TreePolicy], player: int | None = None
    ) -> Array:
        """The feedback against `opponent`, `(sequences,)`, of the tree that the log tells of."""
        met = _at_table(opponent)
        plan = met.policies[0] if isinstance(met, Mixture) else met
        told = estimated(self.tree, log, self.estimate)
        return told.feedback(plan, met, player=player)

    def smoothed(self, policy: TreePolicy) -> tuple[TreePolicy, float]:
        """The same play in the tree's smoothed geometry, and the evaluations that this costs."""
        play, evaluations = self.tree.smoothed(policy.play)
        return policy.within(play.geometry), evaluations

    def gap(self, policy: TreePolicy, q: Array) -> Number:
        """The duality gap, given the policy's own feedback `q`, without another evaluation."""
        return self.tree.gap(policy.play, q)

    def duality_gap(self, policy: TreePolicy) -> Number:
        """NashConv of what the networks play."""
        return self.tree.duality_gap(policy.play)

    def regularised_gap(self, policy: TreePolicy, magnet: TreePolicy, alpha: float) -> Number:
        """The duality gap of the game in which both seats pay for their distance to `magnet`."""
        return self.tree.regularised_gap(policy.play, magnet.play, alpha)

    def best_response(self, policy: TreePolicy) -> TreeplexPolicy:
        """A pure best response of each seat: a point of the tree that no network plays."""
        return self.tree.best_response(policy.play)

    def value(self, policy: TreePolicy, opponent: TreePolicy | None = None) -> Number:
        """What `policy` gets in the first seat, against `opponent` (itself if None) in the second.

        In units of payoff, in the mean over chance.
        """
        met = policy if opponent is None else opponent
        q = self.tree.feedback(policy.play, met.play, player=0)
        return np.asarray(policy.plan @ q)

    def advantage(self, policy: TreePolicy, opponent: TreePolicy) -> float:
        """What `policy` wins against `opponent` a game, in the mean over both seats."""
        return 0.5 * float(self.value(policy, opponent)) - 0.5 * float(self.value(opponent, policy))

    def divergence(self, policy: TreePolicy, other: TreePolicy) -> Number:
        """The dilated divergence of what both play, summed over the seats."""
        return self.tree.divergence(policy.play, other.play)

    def average(self, mixture: Mixture[TreePolicy]) -> TreeplexPolicy:
        """The point that plays like the mixture: no network plays it."""
        played = _at_table(mixture)
        assert isinstance(played, Mixture)
        return self.tree.average(played)


def _several(tokens: Sequence[TokenPolicy]) -> Sequence[TokenPolicy]:
    """Policies, one a seat; `ValueError` for anything else."""
    known = isinstance(tokens, Sequence) and all(isinstance(p, TokenPolicy) for p in tokens)
    if not known or len(tokens) not in (1, 2):
        raise ValueError(
            "`start` must be a policy for both seats, like `TokenPolicy.of(network, decoding)`, "
            f"or a pair of them, one a seat; got {shown(tokens)}."
        )
    return tokens


def _at_table(
    policy: TreePolicy | Mixture[TreePolicy],
) -> TreeplexPolicy | Mixture[TreeplexPolicy]:
    """What networks play, as the tree's own policies."""
    if isinstance(policy, Mixture):
        return Mixture(tuple(p.play for p in policy.policies), policy.weights)
    return policy.play


def legal(game: Any, state: Any) -> float:  # noqa: ARG001
    """A metric: the probability of a legal answer, in the mean over all information states."""
    return float(np.mean(state.policy.legal))


@exact.nash.register
def _(game: TextTreeGame) -> exact.Equilibrium[TreeplexPolicy]:
    return exact.nash(game.tree)
