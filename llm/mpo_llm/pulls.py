"""The pull that only networks have: it says how the mirror step is solved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mpo_games.checks import require_callable
from mpo_games.choices.pull import Pull, proximal
from mpo_games.protocol import Number
from mpo_games.written import written
from mpo_llm.policy import TokenPolicy
from mpo_llm.step.guard import Guard
from mpo_llm.step.minimisers import Adam, Minimiser
from mpo_llm.step.objectives import Objective, SequenceLevel


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
    pull: Pull[Any] = proximal
    """How the magnet pulls."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_callable("pull", self.pull, "`proximal`")

    def __call__(
        self,
        policy: TokenPolicy,
        q: Any,
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
            minimise=self.minimise,
            minibatches=1,
            guard=self.guard,
        )
        stepped: TokenPolicy = self.pull(
            replace(policy, proximal=solve), q, magnet, eta=eta, alpha=alpha, player=player
        )
        return stepped
