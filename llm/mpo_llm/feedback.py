"""Feedback that only language games have: a replay pool, and play against the start model.

Feedback needs a sample of the opponent's responses. The responses of the last hundred steps,
reweighted to the opponent, are a much larger sample than those of one step. A pool holds token ids
and log-probabilities, not models.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, Self, cast

import numpy as np

from mpo_games.choices.feedback import Feedback, Prox, current
from mpo_games.protocol import Array, Game, Indices, Mask, Mixture, P, State
from mpo_llm.responses import Ids, Responses
from mpo_llm.step.rollouts import Rollouts

# Checkpoints of release 0.1.0 have these names, among them `of` for today's `prompt_of`.
IN_MEMORY = ("pool/of", "pool/tokens", "pool/lengths", "pool/share", "pool/log_prob", "pool/step")
"""Names of a pool's fields in a state's memory, and so in checkpoints, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """N responses of recent steps; each distinct response of a step stands once."""

    prompt_of: Indices
    """The index of the game's prompt that each response answers, `(N,)`."""
    tokens: Indices
    """Token ids, `(N, T)`."""
    lengths: Indices
    """Tokens of each response, `(N,)`."""
    share: Array
    """The share of each response among the draws of its step, `(N,)`."""
    log_prob: Array
    """Log-probability of each response by the policy that drew it, `(N,)` in nats."""
    step: Indices
    """The step at which each response was drawn, `(N,)`."""

    @classmethod
    def empty(cls) -> Pool:
        """A pool without responses."""
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(none, np.zeros((0, 1), dtype=np.int64), none, nothing, nothing, none)

    def __len__(self) -> int:
        return len(self.prompt_of)

    def responses(self, prompts: tuple[Ids, ...]) -> Responses:
        """The pool as responses to the game's `prompts`."""
        return Responses(prompts, self.prompt_of, self.tokens, self.lengths)

    def take(self, rows: Mask) -> Self:
        """Some of the responses."""
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))

    def joined(self, q: Rollouts, step: int) -> Pool:
        """The pool, then the responses of `q`, which were drawn at `step`."""
        both = self.responses(q.responses.prompts).joined(q.responses)
        return Pool(
            both.prompt_of,
            both.tokens,
            both.lengths,
            np.concatenate([self.share, q.weights]),
            np.concatenate([self.log_prob, q.behaviour.sum(axis=1)]),
            np.concatenate([self.step, np.full(len(q.responses), step)]),
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """Any feedback, with its opponents' responses taken from a pool of the last `steps` steps.

    `ValueError` for fewer than 1 step.
    """

    feedback: Feedback = current
    """The feedback that gets its opponents from the pool."""
    steps: int = 100
    """The number of steps in the pool, the present one included."""

    def __post_init__(self) -> None:
        if not self.steps >= 1:
            raise ValueError(f"`steps` must be at least 1, got {self.steps}.")

    def __call__(
        self, game: Game[P, Any], state: State[P], prox: Prox[P], rng: np.random.Generator | None
    ) -> State[P]:
        """The next state of the inner feedback, whose responses join the pool."""
        # The pool is kept as arrays in the state's memory, so that a run saves and restores it.
        known = IN_MEMORY[0] in state.memory
        pool = Pool(*(state.memory[name] for name in IN_MEMORY)) if known else Pool.empty()
        pool = pool.take(pool.step > state.step - self.steps)
        replay = _Replay(cast(Replayable[P], game), pool, state.step)
        state = self.feedback(replay, state, prox, rng)
        arrays = (getattr(replay.pool, part.name) for part in fields(Pool))
        return state.remember(**dict(zip(IN_MEMORY, arrays, strict=True)))


class Replayable(Protocol[P]):
    """A game whose opponents' responses can come from a pool."""

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        ...

    def initial_policy(self) -> P:
        """Where learning starts."""
        ...

    def feedback(
        self,
        policy: P,
        opponent: P | Mixture[P] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
        pool: Pool | None = None,
    ) -> Rollouts:
        """Responses of `policy` with their advantages against `opponent`, played by `pool`."""
        ...


class _Replay(Generic[P]):
    """The game during one step, with a pool that grows by each feedback."""

    def __init__(self, game: Replayable[P], pool: Pool, step: int) -> None:
        self.game, self.pool, self.step = game, pool, step

    @property
    def players(self) -> int:
        return self.game.players

    def initial_policy(self) -> P:
        return self.game.initial_policy()

    def feedback(
        self,
        policy: P,
        opponent: P | Mixture[P] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Rollouts:
        q = self.game.feedback(policy, opponent, rng=rng, pool=self.pool)
        # Feedback that asks twice in a step, like `half_step`, finds its first responses in the
        # pool.
        self.pool = self.pool.joined(q, self.step)
        return q


def against_start(
    game: Game[P, Any], state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> State[P]:
    """`p' = prox(p, F(p | start))`: no self-play, so only a best response to the start is learned.

    It is meant for ablations.
    """
    q = game.feedback(state.policy, game.initial_policy(), rng=rng)
    return state.advance(prox(state.policy, q), 1.0)
