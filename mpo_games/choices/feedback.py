"""First choice of a mirror-type solver: which feedback it follows.

Each function is one line of its paper. It asks the game for feedback, takes the proximal steps
`prox(policy, q)` and returns the next state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from mpo_games.capabilities import TwoSided
from mpo_games.checks import require_share
from mpo_games.protocol import Array, Game, Mixture, P, State
from mpo_games.written import written

Rng = np.random.Generator | None
"""The random generator that drives sampled feedback; None if feedback is exact."""


class Prox(Protocol[P]):
    """`prox(policy, q)`: the solver's mirror step from `policy` along `q`, one side or both."""

    def __call__(self, policy: P, q: Any, player: int | None = None, /) -> P: ...


class Feedback(Protocol):
    """Which feedback to follow: a function of the state that returns the next one."""

    def __call__(
        self, game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng, /
    ) -> State[P]: ...


def current(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`p' = prox(p, F(p))`: plain self-play.

    >>> MMD(eta=0.3, alpha=0.1, feedback=current) == MMD(eta=0.3, alpha=0.1)
    True
    """
    return state.advance(prox(state.policy, game.feedback(state.policy, rng=rng)), 1.0)


def optimistic(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`p' = prox(p, F(p | 2 p - p_previous))`: feedback against the predicted opponent (OMWU).

    Feedback is linear in the opponent, so in tables this is `2 F(p) - F(p_previous)`
    (Daskalakis & Panageas 2019).

    >>> MMD(eta=1.0, alpha=0.1, feedback=optimistic)
    MMD(eta=1.0, alpha=0.1, feedback=optimistic)
    """
    p = state.policy
    predicted = Mixture((p, state.memory.get("previous", p)), (2.0, -1.0))
    q = game.feedback(p, predicted, rng=rng)
    # A snapshot, which leaves out a network's optimiser: an opponent only has to be played.
    return state.advance(prox(p, q), 1.0, {"previous": p.snapshot()})


def popov(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`p' = prox(z, q), z' = prox(z, q'), q' = F(p')`: single-call extragradient (Popov 1980).

    The state keeps the feedback `q` of the policy that is played, so its duality gap is free. In
    the first two steps the policy stays where it is: the first asks for its feedback, the second
    for that of a trial step, and a step size can be measured from the two. When the magnet moves,
    the base point `z` moves to the policy.

    >>> solve(load('comal'), MMD(eta=1.0, alpha=0.0, feedback=popov), 1000).gap < 1e-3
    True
    """
    if "previous" not in state.memory:
        return _opening(game, state, prox, rng)
    base, q = _base(state), state.q
    policy = prox(base, q)
    seen = game.feedback(policy, rng=rng)
    memory = {"base": prox(base, seen), "previous": state.policy, "previous_q": q}
    return state.advance(policy, 1.0, memory, seen)


def reflected(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`p' = prox(p, 2 q - q_previous), q = F(p)`: `optimistic` that keeps its feedback (Malitsky &
    Tam 2020).

    As with `popov` the gap of the policy is free and a step size can be measured, by the same two
    opening steps. There is no base point: all that is kept are policies that were played. That is
    what a network needs, whose step does not end where it was meant to.

    >>> MMD(eta=0.5, alpha=0.1, feedback=reflected)
    MMD(eta=0.5, alpha=0.1, feedback=reflected)
    """
    if "previous" not in state.memory:
        return _opening(game, state, prox, rng)
    p, q = state.policy, state.q
    # The policy that the opening tried was not played, so there is no trend to go on with.
    ahead = 2.0 * q - state.memory["previous_q"] if "base" in state.memory else q
    policy = prox(p, ahead)
    memory = {"base": policy, "previous": p, "previous_q": q}
    return state.advance(policy, 1.0, memory, game.feedback(policy, rng=rng))


def half_step(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`h = prox(p, F(p)), p' = prox(p, F(p | h))`: extragradient (Korpelevich 1976).

    >>> MMD(eta=0.3, alpha=0.0, feedback=half_step)
    Extragradient(0.3)
    """
    p = state.policy
    half = prox(p, game.feedback(p, rng=rng))
    return state.advance(prox(p, game.feedback(p, half, rng=rng)), 2.0)


@dataclass(frozen=True, slots=True)
class AgainstMixture:
    r"""`p' = prox(p, F(p | m))`: feedback against the mixture $m \propto p^{1-w}\rho^w$ with the
    magnet, `w` the `weight` (Nash-MD, Munos et al. 2024). `ValueError` unless `0 <= weight <= 1`.

    >>> MMD(eta=0.3, alpha=0.1, feedback=AgainstMixture(0.03))
    MMD(eta=0.3, alpha=0.1, feedback=AgainstMixture(0.03))
    """

    weight: float

    __repr__ = written

    def __post_init__(self) -> None:
        require_share("weight", self.weight)

    def __call__(self, game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
        p = state.policy
        q = game.feedback(p, p.mix(state.magnet, self.weight), rng=rng)
        return state.advance(prox(p, q), 1.0)


def alternating(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """The players step one after the other, each against the newest opponent.

    Where one policy plays both seats this is `current`.

    >>> solve(load('biased_rps'), MMD(eta=0.1, alpha=0.3, feedback=alternating), 2).state.step
    2
    """
    if game.players == 1:
        return current(game, state, prox, rng)
    p = state.policy
    for player in range(game.players):
        p = prox(p, game.feedback(p, player=player, rng=rng), player)
    return state.advance(p, 1.0)


def alternating_popov(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """`popov` in which the second player answers the first one's newest policy.

    `x' = prox(z, q)`, `y' = prox(z, F(x'))`, `z' = (prox(z, F(y')), y')`. Where one policy plays
    both seats this is `popov`.

    >>> solver = MMD(eta=0.1, alpha=0.0, feedback=alternating_popov)
    >>> solve(load('biased_rps'), solver, 300).gap < 1.0
    True
    """
    if game.players == 1 or "previous" not in state.memory:
        return popov(game, state, prox, rng)
    base, q = _base(state), state.q
    # The first player uses the feedback that was kept: asking again would be half an evaluation.
    policy = prox(base, q, 0)
    second = game.feedback(policy, player=1, rng=rng)
    policy = prox(policy, second, 1)
    first = game.feedback(policy, player=0, rng=rng)
    joined = cast(P, cast(TwoSided, base).with_side(cast(TwoSided, policy), 1))
    memory = {"base": prox(joined, first, 0), "previous": state.policy, "previous_q": q}
    # Each side's feedback is 0 at the other side's actions, so their sum is that of both.
    return state.advance(policy, 1.0, memory, first + second)


def earlier(state: State[P]) -> tuple[P, Array, bool] | None:
    """The policy of the step before, its feedback, and whether `popov` only tried it.

    A policy that was only tried had a step size that was a guess. None as long as `popov` has only
    looked.
    """
    memory = state.memory
    if "previous" not in memory:
        return None
    return memory["previous"], memory["previous_q"], "base" not in memory


def _opening(game: Game[P, Any], state: State[P], prox: Prox[P], rng: Rng) -> State[P]:
    """The first two steps: the feedback of the policy, then that of a step that is not taken."""
    policy, q = state.policy, state.q
    if q is None:
        return state.advance(policy, 1.0, None, game.feedback(policy, rng=rng))
    # Two points and their feedback are what `Measured` needs for its first step size.
    tried = prox(policy, q)
    memory = {"previous": tried, "previous_q": game.feedback(tried, rng=rng)}
    return state.advance(policy, 1.0, memory, q)


def _base(state: State[P]) -> P:
    """The base point of `popov`: the policy itself at the start and after a move of the magnet."""
    # A base point from before the move would drag play back to where the old magnet pulled.
    if state.moved_at == state.step or "base" not in state.memory:
        return state.policy
    base: P = state.memory["base"]
    return base
