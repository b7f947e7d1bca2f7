"""The replay pool: recent responses that stand in for opponents, whoever is asked for.

Feedback needs a sample of the opponent's responses. Those of the last hundred steps are a much
larger one than the step's own, once reweighted to the opponent. Texts are stored, no models.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, Self, cast

import numpy as np

from mpo_games.choices.feedback import Feedback, Prox, current
from mpo_games.protocol import Array, Game, Indices, Mask, Mixture, P, State
from mpo_llm.responses import Ids, Responses
from mpo_llm.step.rollouts import Rollouts

IN_MEMORY = "pool/"
"""The pool's arrays stand in a state's memory under this and their names."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Responses of recent steps, each step's distinct ones once, `(N,)` rows."""

    of: Indices
    """Which of the game's prompts a row answers."""
    tokens: Indices
    """Token ids, `(N, T)`."""
    lengths: Indices
    share: Array
    """The share of its step's draws."""
    log_prob: Array
    """Log-probability of the response under the policy that drew it."""
    step: Indices
    """When it was drawn."""

    @classmethod
    def empty(cls) -> Pool:
        """A pool without responses."""
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(none, np.zeros((0, 1), dtype=np.int64), none, nothing, nothing, none)

    def __len__(self) -> int:
        return len(self.of)

    def responses(self, prompts: tuple[Ids, ...]) -> Responses:
        """The rows as responses to the game's prompts."""
        return Responses(prompts, self.of, self.tokens, self.lengths)

    def take(self, rows: Mask) -> Self:
        """Some of the rows."""
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))

    def joined(self, q: Rollouts, step: int) -> Pool:
        """The pool and the responses of `q`, drawn at `step`."""
        both = self.responses(q.responses.prompts).joined(q.responses)
        return Pool(
            both.of,
            both.tokens,
            both.lengths,
            np.concatenate([self.share, q.weights]),
            np.concatenate([self.log_prob, q.behaviour.sum(axis=1)]),
            np.concatenate([self.step, np.full(len(q.responses), step)]),
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """Any feedback, its opponents played by a pool of the responses of the last `steps` steps.

    The pool lives in the state's memory as arrays, so it is saved and restored with the run.
    """

    feedback: Feedback = current
    """Which feedback is followed."""
    steps: int = 100
    """How many steps back the pool goes."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"`steps` must be at least 1, got {self.steps}.")

    def __call__(
        self, game: Game[P, Any], state: State[P], prox: Prox[P], rng: np.random.Generator | None
    ) -> State[P]:
        """The inner feedback's next state; what it drew joins the pool."""
        names = [part.name for part in fields(Pool)]
        known = IN_MEMORY + names[0] in state.memory
        pool = Pool(*(state.memory[IN_MEMORY + n] for n in names)) if known else Pool.empty()
        pool = pool.take(pool.step > state.step - self.steps)
        replay = _Replay(cast(Replayable[P], game), pool, state.step)
        state = self.feedback(replay, state, prox, rng)
        return state.remember(**{IN_MEMORY + name: getattr(replay.pool, name) for name in names})


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
        """Responses of `policy` and their advantages against `opponent`, as `pool` plays it."""
        ...


class _Replay(Generic[P]):
    """The game for one step, with a pool that grows."""

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
        self.pool = self.pool.joined(q, self.step)
        return q


def against_start(
    game: Game[P, Any], state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> State[P]:
    """`p' = prox(p, F(p | start))`: no self-play, as in an ablation; only a best response to the
    start is learned."""
    q = game.feedback(state.policy, game.initial_policy(), rng=rng)
    return state.advance(prox(state.policy, q), 1.0)
