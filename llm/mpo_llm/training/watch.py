"""What happens within a step, seen from outside: wrappers of game, objective and minimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from mpo_games.protocol import Mixture
from mpo_llm.feedback import Pool
from mpo_llm.game import TextPreferenceGame
from mpo_llm.networks.processes import Processes
from mpo_llm.policy import TokenPolicy
from mpo_llm.step.minimisers import Loss, Minimiser, Moments
from mpo_llm.step.objectives import Batch, Objective
from mpo_llm.step.proximal import Proximal
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.training.ledger import Ledger


class Watch:
    """Keeps the last feedback, and the KLs of the last mirror step; counts gradients."""

    def __init__(self, ledger: Ledger, processes: Processes) -> None:
        self.ledger, self.processes = ledger, processes
        self.feedback: Rollouts | None = None
        self.kls: list[list[Tensor]] = []
        """For each gradient of the step, the KL to each reference, in nats a response; a part."""

    def game(self, game: TextPreferenceGame) -> Watched:
        """The game, its feedback kept."""
        return Watched(game, self)

    def proximal(self, proximal: Proximal) -> Proximal:
        """The inner solve, watched."""
        return Proximal(
            _Objective(proximal.objective, self),
            _Minimiser(proximal.minimise, self),
            proximal.minibatches,
            proximal.rows,
        )

    def drift(self) -> dict[str, float]:
        """KLs of the last mirror step, in nats a response: to the magnet before it, and of the old
        policy after all gradients but the last."""
        parts = [[float(kl) for kl in kls] for kls in (self.kls[0], self.kls[-1])]
        first, last = np.sum(self.processes.gather(parts), axis=0)
        names = ("kl_step", "kl_magnet")
        return dict(zip(names, (float(last[0]), *map(float, first[1:])), strict=False))


class Watched:
    """A game whose feedback is kept."""

    def __init__(self, game: TextPreferenceGame, watch: Watch) -> None:
        self.game, self.watch = game, watch

    @property
    def players(self) -> int:
        return self.game.players

    def initial_policy(self) -> TokenPolicy:
        return self.game.initial_policy()

    def feedback(
        self,
        policy: TokenPolicy,
        opponent: TokenPolicy | Mixture[TokenPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
        pool: Pool | None = None,
    ) -> Rollouts:
        with self.watch.ledger.time("scoring"):
            q = self.game.feedback(policy, opponent, rng=rng, pool=pool)
        self.watch.feedback = replace(q, reading=None)
        return q


@dataclass(frozen=True, slots=True, repr=False)
class _Objective:
    inner: Objective
    watch: Watch

    @property
    def potential(self) -> bool:
        return self.inner.potential

    @property
    def separable(self) -> bool:
        return self.inner.separable

    def __call__(self, batch: Batch, /) -> Tensor:
        seen = self.watch.kls[-1]
        for k, (_, _, kl) in enumerate(batch.pulls):
            part = batch.weights @ kl.detach().sum(1)
            if k < len(seen):
                seen[k] = seen[k] + part
            else:
                seen.append(part)
        return self.inner(batch)


@dataclass(frozen=True, slots=True, repr=False)
class _Minimiser:
    inner: Minimiser
    watch: Watch

    @property
    def searches(self) -> bool:
        return self.inner.searches

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Moments:
        self.watch.kls.clear()
        # Where all minibatches are one, its first part begins a gradient.
        begins = losses[:1] if self.searches else losses
        counted = [
            replace(loss, parts=[self._counted(loss.parts[0]), *loss.parts[1:]])
            if loss in begins
            else loss
            for loss in losses
        ]
        return self.inner(parameters, counted, moments)

    def _counted(self, part: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def begin() -> Tensor:
            self.watch.kls.append([])
            self.watch.ledger.counts["gradient_steps"] += 1
            return part()

        return begin
