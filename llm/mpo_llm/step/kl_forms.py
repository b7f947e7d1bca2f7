r"""Forms of the KL in a token-level loss, as values: which gradient each of them estimates.

The gradient of the KL of whole responses, at the policy that drew them, is

$$\nabla\,\mathrm{KL}(p\|r) = \mathbb E_{y\sim p}\sum_t\Big[\nabla\mathrm{KL}_t
  + \nabla\log p(y_t|y_{<t}) \sum_{s>t}\mathrm{KL}_s\Big]$$

with $\mathrm{KL}_t$ the divergence of the next-token distributions. Forms that only put something
into the loss miss the second term: they do not know that a token leads to where it will cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

KLForm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`form(log_ratio, kl, ratio) -> (loss, to_go)`, all `(N, T)` with 0 at padding.

`log_ratio` is `log p/r` of the tokens drawn, `kl` the full-vocabulary KL, `ratio` `p/b` against the
policy that drew. `loss` is differentiated as it stands; `to_go`, a constant, is subtracted from the
advantage of its token.
"""


def exact_unbiased(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The full-vocabulary KL, and what is to come of it as reward to go: unbiased, low variance."""
    cost = kl.detach()
    return kl, _onwards(cost) - cost


def exact_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The full-vocabulary KL in the loss alone: least variance, biased."""
    return kl, torch.zeros_like(kl)


def k1_in_reward(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The sampled log-ratio as reward to go: unbiased, most variance."""
    return torch.zeros_like(kl), _onwards(log_ratio.detach())


def k2_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared log-ratio: the mean gradient of `exact_in_loss`, with more variance."""
    return log_ratio.square() / 2.0, torch.zeros_like(kl)


def k3_in_loss(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """`r/p - 1 - log r/p`, differentiated as it stands: the gradient of the other KL, `KL(r || p)`,
    badly biased far from r."""
    return torch.expm1(-log_ratio) + log_ratio, torch.zeros_like(kl)


def k3_weighted(log_ratio: Tensor, kl: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """`k3_in_loss` times the importance ratio: the mean gradient of `exact_in_loss`."""
    loss, to_go = k3_in_loss(log_ratio, kl, ratio)
    return ratio * loss, to_go


def _onwards(per_token: Tensor) -> Tensor:
    return per_token.flip(1).cumsum(1).flip(1)
