r"""Objectives: the losses that a mirror step can minimise.

$$\min_p\; -\langle q, p\rangle + \sum_k w_k\,\mathrm{KL}(p\|r_k),\qquad
\log p = \frac{1}{\sum_k w_k}\Big(q + \sum_k w_k\log r_k\Big) - \log Z$$

On the right is the minimum, the core's closed form. The references $r_k$ are the old policy, with
weight $w_k = 1/\eta$, and the magnet, with weight $\alpha$. Objectives differ in how they estimate
this from samples.
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
    """N judged responses and their terms. `(N, T)` tensors are 0 at padding."""

    log_probs: Tensor
    """Log-probability of each token by the policy p that is sought, `(N, T)`; differentiable."""
    behaviour: Tensor
    """Log-probability of each token by the policy b that drew it, `(N, T)`."""
    advantages: Tensor
    """The advantage of the response from each token on, in units of preference, `(N, T)`."""
    pulls: Sequence[tuple[float, Tensor, Tensor]]
    """For each reference its weight in units of preference, log-ratios and KLs, `(N, T)` each."""
    weights: Tensor
    """The share of each response, `(N,)`."""
    prompt_of: Tensor
    """The index of the prompt that each response answers, `(N,)`."""
    pairs: Tensor | None
    """`P(y_i > y_j) - 1/2` for responses to the same prompt, `(N, N)`; None if not compared."""

    @property
    def total(self) -> float:
        """The sum of the weights of all references."""
        return sum(weight for weight, _, _ in self.pulls)

    @property
    def drift(self) -> Tensor:
        """The weighted sum of each response's log-ratios, `(N,)`: how far p has moved it."""
        drifts = (weight * log_ratio.sum(1) for weight, log_ratio, _ in self.pulls)
        return torch.stack(list(drifts)).sum(0)

    @property
    def peers(self) -> Tensor:
        """A matrix `(N, N)` that turns values of responses into means over each one's prompt.

        Row i has the shares of the responses to the prompt of response i.
        """
        shares = (self.prompt_of[:, None] == self.prompt_of) * self.weights
        # Responses of weight 0, which a process without work of its own runs, have no mean: 0 / 0.
        return shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)


class Objective(Protocol):
    """A loss of judged responses."""

    @property
    def potential(self) -> bool:
        """Whether its gradient is the gradient of its value, as a line search needs."""
        ...

    @property
    def separable(self) -> bool:
        """Whether the loss of a response is the same whichever others are in the batch."""
        ...

    def __call__(self, batch: Batch, /) -> Tensor:
        """The losses of the responses, `(N,)`; the batch's loss is their sum with `weights`."""
        ...


@dataclass(frozen=True, slots=True)
class TokenLevel:
    r"""The practical surrogate: importance ratios of single tokens, on the drawn prefixes.

    $$-\sum_t \frac{p(y_t|y_{<t})}{b(y_t|y_{<t})}\,(A_t - \text{KL to go}) + \text{KL in the loss}$$

    At the policy that drew the responses its gradient is the true one if `kl` is unbiased.
    Elsewhere it is not, except with `k1_in_reward`, whose stationary point is the closed form.
    """

    kl: KLForm = exact_unbiased
    """How the KLs to the old policy and to the magnet enter."""
    separable: ClassVar[bool] = True

    @property
    def potential(self) -> bool:
        """Whether the KL form has no reward to go, which depends on p but is held constant."""
        # Two tokens, because the reward to go of `exact_unbiased` is 0 at the last one.
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
    r"""The objective itself: ratios of whole responses, and KLs on the new policy's prefixes.

    $$-\frac{p(y)}{b(y)}A(y) + \sum_t\frac{p(y_{<t})}{b(y_{<t})}\,\mathrm{KL}_t$$

    Its minimum over all distributions is the core's closed form. It is unbiased at every p, but the
    variance of the ratios grows with the length of the responses.
    """

    potential: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __call__(self, batch: Batch, /) -> Tensor:
        apart = batch.log_probs - batch.behaviour
        upto = apart.cumsum(1)
        # The ratio of a prefix is that of the tokens before t alone. At padding the KL is 0 anyway.
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

    with $\bar r$ the mean of r over the prompt's responses. It is half of INPO's mean over pairs,
    and SPPO's loss with a fitted partition constant. At the policy that drew the responses its
    gradient is that of `SequenceLevel`; if all residuals r of a prompt are equal, p is the closed
    form. There are no ratios: responses are weighted as they were drawn.
    """

    # The mean is held constant. Its gradient would multiply the sum of r - mean, which is 0.
    potential: ClassVar[bool] = True
    # The mean is taken over the responses in the batch.
    separable: ClassVar[bool] = False

    def __call__(self, batch: Batch, /) -> Tensor:
        residual = batch.advantages[:, 0] - batch.drift
        centred = residual - batch.peers @ residual.detach()
        return centred.square() / (2.0 * batch.total)


@dataclass(frozen=True, slots=True)
class Logistic:
    r"""DPO's loss over all judged pairs of responses to a prompt (Rafailov et al. 2023).

    $$-\frac{1}{2\sum_k w_k}\,\mathbb E_{y'}\big[P\log\sigma(d) + (1-P)\log\sigma(-d)\big],\quad
    d = \sum_k w_k\Big(\log\frac{p(y)}{r_k(y)} - \log\frac{p(y')}{r_k(y')}\Big)$$

    with $P = P(y\succ y')$. This is the mean of DPO's loss over random labels. If the preferences
    are those of a Bradley-Terry model with rewards r, its minimum is the closed form of the
    feedback r. If they cycle, no such rewards exist, but the loss fits some. At the policy that
    drew the responses, without a magnet, its gradient is the policy gradient. `ValueError` for
    responses that were not compared.
    """

    potential: ClassVar[bool] = True
    # Pairs are those among the responses in the batch.
    separable: ClassVar[bool] = False

    def __call__(self, batch: Batch, /) -> Tensor:
        if batch.pairs is None:
            raise ValueError(
                "`Logistic` needs the preferences among the responses themselves: let them meet in "
                "self-play, or use a pool."
            )
        apart = batch.drift[:, None] - batch.drift
        # softplus(d) - P d is -P log sigma(d) - (1 - P) log sigma(-d), and never overflows.
        losses = nn.functional.softplus(apart) - (0.5 + batch.pairs) * apart
        return (batch.peers * losses).sum(1) / (2.0 * batch.total)
