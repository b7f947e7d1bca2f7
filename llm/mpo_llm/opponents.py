"""The feedback that only alignment knows: responses against those of the model one began with."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpo_games.choices.feedback import Prox, Update
from mpo_games.protocol import P, State


def against_start(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """`p' = prox(p, F(p | start))`: no self-play, as in an ablation; only a best response to the
    start is learned."""
    return prox(state.policy, game.feedback(state.policy, game.initial_policy(), rng=rng)), {}, 1.0
