r"""Forms of the KL in a token-level loss: functions that differ in the gradient they estimate.

The gradient of the KL of whole responses, at the policy that drew them, is

$$\nabla\,\mathrm{KL}(p\|r) = \mathbb E_{y\sim p}\sum_t\Big[\nabla\mathrm{KL}_t
  + \nabla\log p(y_t|y_{<t}) \sum_{s>t}\mathrm{KL}_s\Big]$$

with $\mathrm{KL}_t$ the KL of the next-token distributions. A form that only adds a term to the
loss misses the second part of the sum: it does not see that the choice of a token changes the KL of
later tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

KLForm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`form(log_ratio, kl, ratio) -> (loss, to_go)`, all `(N, T)` with 0 at padding, in nats.

`log_ratio` is `log p/r` of the drawn tokens and `kl` the KL over the whole vocabulary, both to one
reference r; `ratio` is `p/b` to the policy b that drew the tokens. `loss` is differentiated as it
stands. `to_go` is a constant, and is subtracted from the advantage of its token.
"""


def exact_unbiased(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The KL over the whole vocabulary, with the KL of later tokens as reward to go: unbiased, low
    variance."""
    cost = kl.detach()
    # A token's own KL is differentiated in the loss, so only the KL of later tokens is its cost.
    return kl, _onwards(cost) - cost


def exact_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The KL over the whole vocabulary, in the loss alone: least variance, biased."""
    return kl, torch.zeros_like(kl)


def k1_in_reward(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The log-ratio of the drawn tokens as reward to go: unbiased, most variance."""
    return torch.zeros_like(kl), _onwards(log_ratio.detach())


def k2_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared log-ratio: the mean gradient of `exact_in_loss`, with more variance."""
    return log_ratio.square() / 2.0, torch.zeros_like(kl)


def k3_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """`r/p - 1 - log r/p`, differentiated as it stands: its mean gradient is that of the other KL,
    `KL(r || p)`, which is badly biased far from r."""
    return torch.expm1(-log_ratio) + log_ratio, torch.zeros_like(kl)


def k3_weighted(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """`k3_in_loss` times the importance ratio: the mean gradient of `exact_in_loss`."""
    loss, to_go = k3_in_loss(log_ratio, kl, ratio)
    return ratio * loss, to_go


def _onwards(per_token: Tensor) -> Tensor:
    return per_token.flip(1).cumsum(1).flip(1)
