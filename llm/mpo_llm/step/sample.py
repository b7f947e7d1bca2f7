r"""What the judged responses of a step say beside the gradient: the loss itself, and distances.

The sample tells how far the step should go. With shares w, advantages A and references $r_k$ of
weights $w_k$, the closed form on the drawn responses is

$$\hat p(y) \propto w(y)\,e^{z(y)},\qquad
z(y) = \frac{1}{\sum_k w_k}\Big(A(y) - \sum_k w_k\log\frac{p(y)}{r_k(y)}\Big)$$

and its KL to the old policy is known before the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mpo_games.protocol import Array
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.step.objectives import Batch, SequenceLevel


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The judged responses of a step, as functions of the workbench's weights."""

    parts: Sequence[Callable[[], Batch]]
    """Each can be called again and again, at other weights."""
    processes: Processes = OneProcess()
    """The whole sample is that of all processes together."""

    def measured(self, *, by_token: bool = False) -> tuple[float, float]:
        """The loss of whole responses, and KL(new || old) in nats a response.

        The KL is estimated at the responses alone; or, `by_token`, it adds up the exact KLs of the
        next tokens along them. Infinity where the network returns no finite numbers.
        """
        loss, kl = 0.0, 0.0
        with torch.no_grad():
            for part in self.parts:
                try:
                    batch = part()
                except FloatingPointError:
                    # The other parts are run all the same: processes must run equally often.
                    loss = kl = np.inf
                    continue
                loss += float(batch.weights @ SequenceLevel()(batch))
                kl += float(batch.weights @ (_by_token if by_token else _by_response)(batch))
        found = np.sum(self.processes.gather((loss, kl)), axis=0)
        return float(found[0]), float(found[1])

    def begun(self) -> tuple[float, list[Array]]:
        """At the weights of the old policy: the loss, and the prompt, weight and z of each response
        of this process."""
        loss = 0.0
        columns: list[list[Array]] = []
        with torch.no_grad():
            for part in self.parts:
                batch = part()
                loss += float(batch.weights @ SequenceLevel()(batch))
                z = (batch.advantages[:, 0] - batch.drift) / batch.total
                rows = (batch.prompt_of, batch.weights, z)
                columns.append([column.double().cpu().numpy() for column in rows])
        whole = float(np.sum(self.processes.gather(loss)))
        return whole, [np.concatenate(c) for c in zip(*columns, strict=True)]


def _by_response(batch: Batch) -> Tensor:
    """The loss of a step that is pulled to the old policy by weight 1 alone."""
    still = replace(
        batch,
        advantages=torch.zeros_like(batch.advantages),
        pulls=[(1.0, *batch.pulls[0][1:])],
    )
    return SequenceLevel()(still)


def _by_token(batch: Batch) -> Tensor:
    _, _, kl = batch.pulls[0]
    return kl.sum(1)


def predicted(samples: Sequence[Sample]) -> tuple[float, float]:
    """The loss at the weights of the old policy, and KL(closed form || old) in nats a response.

    Both are those of the mean of the `samples`. The closed form is one distribution over all of
    their responses to a prompt.
    """
    losses, columns = zip(*(sample.begun() for sample in samples), strict=True)
    prompt_of, weights, z = (np.concatenate(c) for c in zip(*columns, strict=True))
    own = closed_form_kl(prompt_of, weights / len(samples), z)
    return float(np.mean(losses)), float(np.sum(samples[0].processes.gather(own)))


def closed_form_kl(prompt_of: Array, weights: Array, z: Array) -> float:
    """The mean of `KL(w e^z / Z || w)` over prompts, each counted by its total weight, in nats.

    All are `(N,)`: the prompt, the share and the exponent of each response.
    """
    _, row = np.unique(prompt_of, return_inverse=True)
    total = np.bincount(row, weights)
    # Responses of weight 0, which a process without work of its own runs, have no share: 0 / 0.
    share = weights / np.where(total > 0.0, total, 1.0)[row]
    peak = np.full(len(total), -np.inf)
    np.maximum.at(peak, row, np.where(weights > 0.0, z, -np.inf))
    peak = np.where(np.isfinite(peak), peak, 0.0)
    # Responses of share 0 may lie above the peak.
    power = np.exp(np.minimum(z - peak[row], 0.0))
    mass = np.bincount(row, share * power)
    mass = np.where(mass > 0.0, mass, 1.0)
    log_ratio = z - peak[row] - np.log(mass)[row]
    return float(np.sum(weights * power / mass[row] * log_ratio))
