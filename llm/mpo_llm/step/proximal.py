r"""The mirror step of a network: an objective, minimised from the old weights.

$$\min_p\; -\langle q, p\rangle + \alpha\,\mathrm{KL}(p\|\rho)
+ \tfrac1\eta\,\mathrm{KL}(p\|\text{old})$$

the core's objective in units of preference. Objective and minimiser are values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mpo_games.protocol import Array
from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import Processes, in_step, share
from mpo_llm.responses import Decoding
from mpo_llm.step.minimisers import Adam, Loss, Minimiser, Moments
from mpo_llm.step.objectives import Batch, Objective, TokenLevel
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.scoring import Reading, read, score

Reader = Callable[[Rollouts], Reading]
"""`TokenPolicy.recall` of a reference policy."""


@dataclass(frozen=True, slots=True)
class Proximal:
    """How a mirror step is solved.

    `ValueError` for an objective without a potential where the minimiser searches, and for parts of
    an objective that does not part.
    """

    objective: Objective = TokenLevel()
    minimise: Minimiser = Adam()
    minibatches: int = 1
    """Parts into which the responses are split; each update uses one."""
    rows: int | None = None
    """Responses of a minibatch whose activations stand in memory at once: gradients add up over
    such parts, with the same result. All when None."""

    def __post_init__(self) -> None:
        if self.minimise.searches and not self.objective.potential:
            raise ValueError(
                f"{type(self.minimise).__name__} compares values of the loss, and the gradient of "
                f"{self.objective} is not that of its value: use `SequenceLevel()` or `Adam()`."
            )
        if self.rows is not None and not (self.rows >= 1 and self.objective.separable):
            raise ValueError(
                f"`rows` must be at least 1, got {self.rows}, and {self.objective} a sum over "
                "responses."
            )

    def solve(
        self,
        network: Network,
        decoding: Decoding,
        start: Weights,
        moments: Moments,
        q: Rollouts,
        references: Sequence[tuple[float, Reader]],
    ) -> tuple[Weights, Moments]:
        """The new weights, from `start`, and the optimiser's memory.

        `references` are weights in units of preference and the policies pulled to, read once.
        Raises `FloatingPointError`, and returns nothing, if the loss is not finite.
        """
        losses = []
        for batch in q.minibatches(self.minibatches):
            parts = _shared(batch, network.processes).parts(self.rows)
            if network.sharded:
                idle = replace(batch.take(slice(0, 1)), weights=np.zeros(1))
                parts = tuple(part or idle for part in in_step(network.processes, parts))
            loss = [self.loss(network, decoding, part, references) for part in parts]
            losses.append(Loss(loss, network.processes, network.sharded))
        parameters = network.load(start)
        with network.training():
            moments = self.minimise(parameters, losses, moments)
        return network.weights(), moments

    def loss(
        self,
        network: Network,
        decoding: Decoding,
        q: Rollouts,
        references: Sequence[tuple[float, Reader]],
    ) -> Callable[[], Tensor]:
        """The loss at the workbench's weights, as a function to be called again and again."""
        responses, rows = q.responses, Inputs.of_responses(q.responses, network.device)
        pulls = [(weight, reader(q)) for weight, reader in references]
        mask = torch.from_numpy(responses.mask).to(network.device)
        tokens = torch.from_numpy(responses.tokens).to(network.device)[mask]
        of = torch.from_numpy(responses.of).to(network.device)

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(mask.shape).masked_scatter(mask, values)

        def loss() -> Tensor:
            reading = read(network, decoding, ((1.0, None),), rows)
            scores = score(reading, [r for _, r in pulls], tokens)
            log_probs = padded(scores.log_probs)

            def given(values: Array) -> Tensor:
                return torch.from_numpy(values).to(log_probs)

            apart = [
                (weight, padded(ratio), padded(kl))
                for (weight, _), ratio, kl in zip(pulls, scores.log_ratios, scores.kls, strict=True)
            ]
            pairs = None if q.pairs is None else given(q.pairs)
            batch = Batch(
                log_probs,
                given(q.behaviour),
                given(q.advantages),
                apart,
                given(q.weights),
                of,
                pairs,
            )
            return batch.weights @ self.objective(batch)

        return loss


def _shared(q: Rollouts, processes: Processes) -> Rollouts:
    """The rows of this process's prompts; one that counts nothing where it has none."""
    if processes.size == 1:
        return q
    prompts = np.unique(q.responses.of)
    rows = np.isin(q.responses.of, prompts[share(processes, len(prompts))])
    if rows.any():
        return q.take(np.flatnonzero(rows))
    return replace(q.take(slice(0, 1)), weights=np.zeros(1))
