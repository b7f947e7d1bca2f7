r"""What a mirror step minimises, as values: losses whose minimum is the core's closed form.

$$\min_p\; -\langle q, p\rangle + \sum_k w_k\,\mathrm{KL}(p\|r_k),\qquad
\log p = \frac{1}{\sum_k w_k}\Big(q + \sum_k w_k\log r_k\Big) - \log Z$$

with the references $r_k$ the old policy, of weight $1/\eta$, and the magnet, of weight $\alpha$.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.step.kl_forms import KLForm, exact_unbiased


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Judged responses and their scores. `(N, T)` tensors are 0 at padding."""

    log_probs: Tensor
    """Log-probability of each token under the policy that is sought, `(N, T)`; differentiable."""
    behaviour: Tensor
    """The same under the policy that drew it, `(N, T)`."""
    advantages: Tensor
    """What was gained from each token on, `(N, T)`."""
    pulls: Sequence[tuple[float, Tensor, Tensor]]
    """For each reference its weight, in units of preference, log-ratio and KL, `(N, T)`."""
    weights: Tensor
    """Each response's share, `(N,)`."""
    of: Tensor
    """Which prompt a row answers, `(N,)`."""
    pairs: Tensor | None
    """`P(y_i > y_j) - 1/2` among the responses to one prompt, `(N, N)`; None where not judged."""

    @property
    def total(self) -> float:
        """The weights of all references together."""
        return sum(weight for weight, _, _ in self.pulls)

    @property
    def drift(self) -> Tensor:
        """How far each response has been moved: the weighted sum of its log-ratios, `(N,)`."""
        drifts = (weight * log_ratio.sum(1) for weight, log_ratio, _ in self.pulls)
        return torch.stack(list(drifts)).sum(0)

    @property
    def peers(self) -> Tensor:
        """The share of each response (columns) among those to the prompt of each (rows), `(N, N)`:
        times a vector, the mean over the prompt's responses."""
        shares = (self.of[:, None] == self.of) * self.weights
        return shares / shares.sum(1, keepdim=True)


class Objective(Protocol):
    """The loss of each response."""

    @property
    def potential(self) -> bool:
        """Whether its gradient is that of its value, so that a line search may follow it."""
        ...

    @property
    def separable(self) -> bool:
        """Whether the loss of a response does not depend on which others are in the batch."""
        ...

    def __call__(self, batch: Batch, /) -> Tensor:
        """Losses `(N,)`, to be summed with the batch's weights."""
        ...


@dataclass(frozen=True, slots=True)
class TokenLevel:
    r"""The practical surrogate: every token's ratio for itself, over prefixes as they were drawn.

    $$-\sum_t \frac{p(y_t|y_{<t})}{b(y_t|y_{<t})}\,(A_t - \text{KL to go}) + \text{KL in the loss}$$

    At the policy that drew the responses its gradient is the true one if `kl` is unbiased. Away
    from it the two part, but for `k1_in_reward`, whose stationary point is the closed form.
    """

    kl: KLForm = exact_unbiased
    """How the KLs, to the magnet and to the old policy, enter."""
    separable: ClassVar[bool] = True

    @property
    def potential(self) -> bool:
        """False where a KL is a reward to go: that is not differentiated."""
        one = torch.ones(1, 2)
        return not self.kl(one, one, one)[1].any()

    def __call__(self, batch: Batch, /) -> Tensor:
        ratio = torch.exp(batch.log_probs - batch.behaviour)
        loss, worth = torch.zeros_like(ratio), batch.advantages
        for weight, log_ratio, kl in batch.pulls:
            in_loss, to_go = self.kl(log_ratio, kl, ratio)
            loss, worth = loss + weight * in_loss, worth - weight * to_go
        return (loss - ratio * worth).sum(1)


@dataclass(frozen=True, slots=True)
class SequenceLevel:
    r"""The objective itself: the ratio of whole responses, KL under the new policy's prefixes.

    $$-\frac{p(y)}{b(y)}A(y) + \sum_t\frac{p(y_{<t})}{b(y_{<t})}\,\mathrm{KL}_t$$

    Its minimum over all distributions is the core's closed form. Unbiased at every p; the variance
    of the ratios grows with the length of the responses.
    """

    potential: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __call__(self, batch: Batch, /) -> Tensor:
        apart = batch.log_probs - batch.behaviour
        upto = apart.cumsum(1)
        before = torch.exp(upto - apart)
        loss = -torch.exp(upto[:, -1]) * batch.advantages[:, 0]
        for weight, _, kl in batch.pulls:
            loss = loss + weight * (before * kl).sum(1)
        return loss


@dataclass(frozen=True, slots=True)
class Squared:
    r"""Regression on the closed form, as SPPO and INPO step (Wu et al. 2024; Zhang et al. 2025).

    $$\frac{1}{2\sum_k w_k}\big(r(y) - \bar r\big)^2,\qquad
    r(y) = A(y) - \sum_k w_k\log\frac{p(y)}{r_k(y)}$$

    with $\bar r$ the mean over the prompt's responses: half of INPO's mean over pairs, and SPPO's
    loss with its partition constant fitted. At the policy that drew the responses the gradient is
    that of `SequenceLevel`; where all residuals agree, p is the closed form. No ratios: it weighs
    responses as they were drawn.
    """

    potential: ClassVar[bool] = True
    """True: the mean, though held, has no gradient to give at first order."""
    separable: ClassVar[bool] = False
    """False: the mean is that of the batch."""

    def __call__(self, batch: Batch, /) -> Tensor:
        residual = batch.advantages[:, 0] - batch.drift
        centred = residual - batch.peers @ residual.detach()
        return centred.square() / (2.0 * batch.total)


@dataclass(frozen=True, slots=True)
class Logistic:
    r"""DPO's loss over all judged pairs of a prompt's responses (Rafailov et al. 2023).

    $$-\frac{1}{2\sum_k w_k}\,\mathbb E_{y'}\big[P\log\sigma(d) + (1-P)\log\sigma(-d)\big],\quad
    d = \sum_k w_k\Big(\log\frac{p(y)}{r_k(y)} - \log\frac{p(y')}{r_k(y')}\Big)$$

    in the mean over labels, with $P = P(y\succ y')$. The closed form of the feedback r, where
    preferences are Bradley and Terry's of rewards r; where they cycle there are no such rewards,
    and it fits some. At the policy that drew, without a magnet, it has the policy gradient.
    """

    potential: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    """False: pairs are those of the batch."""

    def __call__(self, batch: Batch, /) -> Tensor:
        if batch.pairs is None:
            raise ValueError(
                "`Logistic` needs the preferences among the responses, met in self-play or a pool."
            )
        apart = batch.drift[:, None] - batch.drift
        losses = nn.functional.softplus(apart) - (0.5 + batch.pairs) * apart
        return (batch.peers * losses).sum(1) / (2.0 * batch.total)
