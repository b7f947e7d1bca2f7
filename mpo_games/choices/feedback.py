"""First choice of a mirror-type solver: which feedback it follows.

Each function is one line of its paper. It asks the game for feedback, takes the proximal steps
`prox(policy, q)` and returns `(next policy, what to remember, evaluations spent)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from mpo_games.protocol import Mixture, P, State

Update = tuple[P, Mapping[str, Any], float]


class Prox(Protocol[P]):
    """`prox(policy, q)`: the solver's mirror step from `policy` along `q`, one side or both."""

    def __call__(self, policy: P, q: Any, player: int | None = None, /) -> P: ...


class Feedback(Protocol):
    """Which feedback to follow, as a function of the state."""

    def __call__(
        self, game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None, /
    ) -> Update[P]: ...


def current(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """`p' = prox(p, F(p))`: plain self-play."""
    return prox(state.policy, game.feedback(state.policy, rng=rng)), {}, 1.0


def optimistic(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """`p' = prox(p, F(p | 2 p - p_previous))`: feedback against the predicted opponent (OMWU).

    Feedback is linear in the opponent, so in tables this is `2 F(p) - F(p_previous)`
    (Daskalakis & Panageas 2019).
    """
    p = state.policy
    predicted = Mixture((p, state.memory.get("previous", p)), (2.0, -1.0))
    q = game.feedback(p, predicted, rng=rng)
    return prox(p, q), {"previous": p.snapshot()}, 1.0


def popov(game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None) -> Update[P]:
    """`p' = prox(z, q), z' = prox(z, q'), q' = F(p')`: single-call extragradient (Popov 1980).

    The feedback `q` of the policy that is played is kept, and so its duality gap is free. The first
    step only looks and the second only tries, so that a start is left with a step size that was
    measured there. When the magnet moves the base point `z` goes with it.
    """
    if "previous" not in state.memory:
        return _opening(game, state, prox, rng)
    base, q = _base(state), state.memory["q"]
    policy = prox(base, q)
    seen = game.feedback(policy, rng=rng)
    memory = {"base": prox(base, seen), "q": seen, "previous": state.policy, "previous_q": q}
    return policy, memory, 1.0


def half_step(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """`h = prox(p, F(p)), p' = prox(p, F(p | h))`: extragradient (Korpelevich 1976)."""
    p = state.policy
    half = prox(p, game.feedback(p, rng=rng))
    return prox(p, game.feedback(p, half, rng=rng)), {}, 2.0


@dataclass(frozen=True, slots=True)
class Mixed:
    r"""`p' = prox(p, F(p | m))`: feedback against the mixture $m \propto p^{1-w}\rho^w$ with the
    magnet, `w` the `weight` (Nash-MD, Munos et al. 2024). `ValueError` unless `0 <= weight <= 1`.
    """

    weight: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"`weight` must lie in [0, 1], got {self.weight}.")

    def __call__(
        self, game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
    ) -> Update[P]:
        p = state.policy
        return prox(p, game.feedback(p, p.mix(state.magnet, self.weight), rng=rng)), {}, 1.0


def alternating(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """The players step one after the other, each against the newest opponent.

    Where one policy plays both seats there is nobody to wait for: that is `current`.
    """
    if game.players == 1:
        return current(game, state, prox, rng)
    p = state.policy
    for player in range(game.players):
        p = prox(p, game.feedback(p, player=player, rng=rng), player)
    return p, {}, 1.0


def alternating_popov(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """`popov`, the second player against the newest first: `x' = prox(z, q)`,
    `y' = prox(z, F(x'))`, `z' = (prox(z, F(y')), y')`. Where one policy plays both seats that is
    `popov`."""
    if game.players == 1 or "previous" not in state.memory:
        return popov(game, state, prox, rng)
    base, q = cast(Any, _base(state)), state.memory["q"]
    policy = prox(base, q, 0)
    second = game.feedback(policy, player=1, rng=rng)
    policy = prox(policy, second, 1)
    first = game.feedback(policy, player=0, rng=rng)
    base = prox(base.with_side(policy, 1), first, 0)
    memory = {"base": base, "q": first + second, "previous": state.policy, "previous_q": q}
    return policy, memory, 1.0


def _opening(
    game: Any, state: State[P], prox: Prox[P], rng: np.random.Generator | None
) -> Update[P]:
    """Two evaluations without a move: the feedback here, then that of a step that is not taken."""
    policy = state.policy
    if "q" not in state.memory:
        return policy, {"q": game.feedback(policy, rng=rng)}, 1.0
    tried = prox(policy, state.memory["q"])
    memory = {"previous": tried, "previous_q": game.feedback(tried, rng=rng)}
    return policy, memory, 1.0


def _base(state: State[P]) -> P:
    """The base point of `popov`: the policy itself at the start and after a move of the magnet."""
    if state.moved == state.step or "base" not in state.memory:
        return state.policy
    base: P = state.memory["base"]
    return base
