"""Feedback from all episodes that have been played so far, whatever the feedback's own method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, cast

import numpy as np

from mpo_games.checks import require_callable
from mpo_games.choices.feedback import Feedback, Prox, optimistic
from mpo_games.labelled import shown
from mpo_games.protocol import Array, Game, Mixture, P, State
from mpo_llm.trees.episodes import Log


class Playable(Protocol[P]):
    """A tree whose feedback is estimated from episodes; `TextTreeGame` with `episodes`."""

    @property
    def players(self) -> int:
        """2: one policy holds the play of both seats."""
        ...

    def initial_policy(self) -> P:
        """Where learning starts."""
        ...

    def play(self, policy: P, rng: np.random.Generator | None) -> Log:
        """New episodes of self-play."""
        ...

    def learned(self, log: Log, opponent: P | Mixture[P], player: int | None = None) -> Array:
        """The feedback against `opponent` that a log of episodes tells."""
        ...


@dataclass(frozen=True, slots=True)
class Pooled:
    """Any feedback, estimated from all episodes so far: those of earlier steps count as well.

    The episodes are kept in the state's memory, by their endings. The feedback is asked about the
    policy of the state, which plays new episodes first.
    """

    feedback: Feedback = optimistic
    """What is asked of the estimate."""

    def __post_init__(self) -> None:
        require_callable("feedback", self.feedback, "`optimistic`")

    def __call__(
        self,
        game: Game[P, Any],
        state: State[P],
        prox: Prox[P],
        rng: np.random.Generator | None,
    ) -> State[P]:
        """The next state of the inner feedback, whose episodes join the pool."""
        if not all(callable(getattr(game, verb, None)) for verb in ("play", "learned")):
            raise ValueError(
                "`Pooled` is for a `TextTreeGame(..., episodes=...)`, which plays episodes; got "
                f"{shown(game)}."
            )
        pool = _Pool(cast(Playable[P], game), Log.remembered(state.memory))
        after = self.feedback(pool, state, prox, rng)
        assert pool.log is not None
        return after.remember(**pool.log.as_memory())


class _Pool(Generic[P]):
    """The game during one step, with a log that grows by each feedback."""

    def __init__(self, game: Playable[P], log: Log | None) -> None:
        self.game, self.log = game, log

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
    ) -> Array:
        new = self.game.play(policy, rng)
        self.log = new if self.log is None else self.log.joined(new)
        met = policy if opponent is None else opponent
        return self.game.learned(self.log, met, player)
