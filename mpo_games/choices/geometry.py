"""Fifth choice of a mirror-type solver: in which geometry it moves.

Each is a function `(game, state) -> state` that returns the same play in its geometry. A solver
calls it at the start and after every move of the magnet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, cast

from mpo_games.capabilities import SelfTunable
from mpo_games.protocol import Array, Game, P, State


class Shape(Protocol):
    """`shape(game, state) -> state`: the same play, in another geometry."""

    def __call__(self, game: Game[P, Any], state: State[P], /) -> State[P]: ...


def as_given(game: Game[P, Any], state: State[P]) -> State[P]:
    """The geometry of the policy that the solver was given.

    >>> MMD(eta=0.3, alpha=0.1, geometry=as_given) == MMD(eta=0.3, alpha=0.1)
    True
    """
    return state


def smoothed(game: Game[P, Any], state: State[P]) -> State[P]:
    """A geometry in which an action of probability 0 can come back as fast as it went.

    On tables this is the smoothed entropy. On trees it is the smoothed dilated entropy; its weights
    are the payoffs at stake under the present policy. `ValueError` unless the game is
    `SelfTunable`.

    >>> MMD(eta=Measured(0.45), alpha=Anchored(), feedback=popov, geometry=smoothed)
    MMD(eta=Measured(0.45), alpha=Anchored(), feedback=popov, geometry=smoothed)
    """
    tunable = self_tunable(game)
    policy, evaluations = tunable.smoothed(state.policy)
    # If the magnet is the policy, one conversion serves both, and they stay one object.
    magnet, _ = (policy, 0.0) if state.magnet is state.policy else tunable.smoothed(state.magnet)
    spent = state.evaluations + evaluations
    return replace(state, policy=policy, magnet=magnet, evaluations=spent)


def self_tunable(game: Game[P, Array]) -> SelfTunable[P]:
    """The game, if it is `SelfTunable`; else `ValueError`."""
    # By name: `isinstance` with a Protocol takes as long as a step, and this is asked at each move.
    if not all(callable(getattr(game, verb, None)) for verb in ("smoothed", "gap")):
        raise ValueError(
            f"`game` must have `smoothed(policy)` and `gap(policy, q)` for this geometry; "
            f"a {type(game).__name__} does not."
        )
    return cast(SelfTunable[P], game)
