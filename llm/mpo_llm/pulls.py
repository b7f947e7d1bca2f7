"""Pulls that only networks have: they say how the mirror step is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mpo_games.checks import require_callable, require_kind
from mpo_games.choices.pull import Pull, proximal
from mpo_games.protocol import Number
from mpo_games.written import written
from mpo_llm.policy import TokenPolicy
from mpo_llm.repeats import ByRepeats, all_new
from mpo_llm.step.guard import Guard
from mpo_llm.step.minimisers import Adam, Minimiser, falling
from mpo_llm.step.objectives import Objective, SequenceLevel, TokenLevel
from mpo_llm.step.rates import Reaching
from mpo_llm.step.rollouts import Rollouts


@dataclass(frozen=True, slots=True)
class SolvedBy:
    """Any pull, with its mirror step solved in this way instead of the policy's own.

    How many responses are in memory at the same time stays as the policy has it. All responses are
    in each update. `ValueError` as for `Proximal`.
    """

    minimise: Minimiser = field(default_factory=Adam)
    """How the loss is minimised."""
    objective: Objective = SequenceLevel()
    """Which loss."""
    guard: Guard | None = None
    """What lets a step go back; None accepts every step."""
    updates: Callable[[float], float] | None = None
    """How many of its updates `Adam` makes at most: a function of the chance that the next response
    is a new one. Where it makes n of N, each goes `sqrt(N / n)` times as far, or
    `sqrt(1 + m / n)` times while it has made only m updates before. If None, and where that chance
    is not known, it makes them all."""
    pull: Pull[Any] = proximal
    """How the magnet pulls."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("pull", self.pull, "`proximal`")
        if self.updates is not None:
            require_callable("updates", self.updates, "`ByRepeats(2.0, 8.0)`")
            require_kind("minimise", self.minimise, Adam, "`Adam()`, where `updates` is given")

    def __call__(
        self,
        policy: TokenPolicy,
        q: Rollouts,
        magnet: TokenPolicy,
        *,
        eta: Number,
        alpha: Number,
        player: int | None,
    ) -> TokenPolicy:
        # At each step, because a policy that was read from a file is solved as its start was.
        solve = replace(
            policy.proximal,
            objective=self.objective,
            minimise=self._minimiser(q.unseen, policy.moments.count),
            minibatches=1,
            guard=self.guard,
        )
        stepped: TokenPolicy = self.pull(
            replace(policy, proximal=solve), q, magnet, eta=eta, alpha=alpha, player=player
        )
        return stepped

    def count(self, unseen: float | None) -> int | None:
        """How many updates `Adam` makes, given the chance that the next response is a new one.

        None for another minimiser.
        """
        if not isinstance(self.minimise, Adam):
            return None
        most = self.minimise.epochs
        if self.updates is None or unseen is None:
            return most
        return max(1, round(min(self.updates(unseen), most)))

    def _minimiser(self, unseen: float | None, made: int) -> Minimiser:
        """The minimiser of this step, where `made` updates went before it."""
        full, few = self.minimise, self.count(unseen)
        if few is None or not isinstance(full, Adam) or few == full.epochs:
            return full
        # A first moment that averages the noisy gradients of k steps is shorter by the root of k,
        # and may go that much further. The first step has nothing to average: at the full factor
        # it went far too far, and what the second moment met there slowed all later steps.
        further = min(full.epochs / few, 1.0 + made / few) ** 0.5
        return replace(full, epochs=few, schedule=lambda t: further * full.schedule(t))


UPDATES = 16
"""The most gradients of a step. Their rate falls to 0, because at a constant rate the last ones
overshoot: on one prompt the guard then went back in half of the steps."""

ACCURATELY = SolvedBy(
    Adam(UPDATES, Reaching(), falling, betas=(0.9, 0.99), keep_first=True),
    guard=Guard(),
    updates=ByRepeats(2.0, 8.0),
)


def doubled(progress: float) -> float:
    """A learning rate that falls linearly to 0, from twice its height."""
    return 2.0 * falling(progress)


# Where no text comes back, the first gradient is all that the responses say. Losses of whole
# responses are no good here: after one update some response of the sample is a thousand times as
# likely as before, and the second gradient is its own. The rate is what two updates need to go .2
# nats a response and more.
BOLDLY = SolvedBy(
    Adam(2, Reaching(), doubled, betas=(0.9, 0.99)),
    TokenLevel(),
    guard=Guard(8.0, by_token=True),
)


@dataclass(frozen=True, slots=True)
class ByNovelty:
    """One way to solve a step where responses come back, another where nearly all are new.

    They are new where the chance that the next response was never drawn before is above .95.
    """

    again: SolvedBy = ACCURATELY
    """Where responses come back, and where that chance is not known."""
    new: SolvedBy = BOLDLY
    """Where they do not."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_kind("again", self.again, SolvedBy, "`SolvedBy(Adam(16))`")
        require_kind("new", self.new, SolvedBy, "`SolvedBy(Adam(2))`")

    def of(self, unseen: float | None) -> SolvedBy:
        """The one of the two, given the chance that the next response is a new one."""
        return self.new if all_new(unseen) else self.again

    def __call__(
        self,
        policy: TokenPolicy,
        q: Rollouts,
        magnet: TokenPolicy,
        *,
        eta: Number,
        alpha: Number,
        player: int | None,
    ) -> TokenPolicy:
        pull = self.of(q.unseen)
        return pull(policy, q, magnet, eta=eta, alpha=alpha, player=player)
