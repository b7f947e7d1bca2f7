"""Fifth choice of a mirror-type solver: in which geometry it moves.

Each is a function `(game, state) -> state`, asked at the start and after every move of the magnet,
that returns the same play in the geometry it wants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mpo_games.protocol import P, State

Shape = Callable[[Any, State[Any]], State[Any]]
"""`shape(game, state) -> state`: the same play, in another geometry."""


def as_given(game: Any, state: State[P]) -> State[P]:
    """The geometry of the policy that the solver was given."""
    return state


def smoothed(game: Any, state: State[P]) -> State[P]:
    """A geometry in which dead actions come back: smoothed entropy, on trees dilated and scaled by
    the payoff at stake where play is now. Needs a game with `smoothed(policy)`."""
    require_smoothed(game)
    policy, evaluations = game.smoothed(state.policy)
    magnet, _ = (policy, 0.0) if state.magnet is state.policy else game.smoothed(state.magnet)
    return replace(state, policy=policy, magnet=magnet).charge(evaluations)


def require_smoothed(game: Any) -> None:
    """`ValueError` unless the game has this geometry."""
    if not hasattr(game, "smoothed"):
        raise ValueError(
            f"`game` must have `smoothed(policy)` and `gap(policy, q)` for this geometry; "
            f"a {type(game).__name__} has not."
        )
