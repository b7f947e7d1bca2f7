r"""Terms of tokens from unnormalised log-probabilities, with the gradient in closed form.

With scores z of the policy p and z' of a reference r, a chosen token y and
$a_v = \log p_v - \log r_v$:

$$\log p_y = z_y - \log\sum_v e^{z_v},\qquad \mathrm{KL}(p\|r) = \sum_v p_v a_v,$$
$$\frac{\partial\log p_y}{\partial z} = \frac{\partial a_y}{\partial z} = e_y - p,\qquad
\frac{\partial\,\mathrm{KL}}{\partial z} = p\odot(a - \mathrm{KL}).$$

Arrays over all V ids are the largest of a run and passes over them take time, so there are few of
both: autograd would keep and make a dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Scores = Callable[[], Tensor]
"""Makes the unnormalised log-probabilities `(m, V)` of a reference, when it is their turn."""

ARRAYS = 6
"""Arrays `(m, V)` that are alive at the same time, with two references: the scores, `e^z`, an `a`
for each reference, and two for what is computed."""


def table(scores: Tensor, tokens: Tensor, references: Sequence[Scores]) -> Tensor:
    """Log-probabilities of the tokens `(m,)`, then log-ratio and KL of each reference.

    A tensor `(1 + 2 K, m)` in nats, differentiable in `scores` `(m, V)`. NaN stays NaN.
    """
    found: Tensor = _Table.apply(scores, tokens, references)  # type: ignore[no-untyped-call]
    return found


class _Table(torch.autograd.Function):
    """The table, and its gradient."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, tokens: Tensor, references: Sequence[Scores]) -> Tensor:
        chosen = tokens[:, None]
        peak, weights, total = _exponentials(scores)
        lines = [scores.gather(1, chosen) - peak - total.log()]
        aparts, means = [], []
        buffer = torch.empty_like(weights) if references else weights
        for reference in references:
            others = reference()
            other_peak, _, other_total = _exponentials(others, buffer)
            # What p forbids (-inf) costs nothing, as 0 log 0 = 0; floats give -inf or NaN. A true
            # NaN is in the totals.
            apart = (scores - others).nan_to_num_(nan=0.0, posinf=torch.inf, neginf=0.0)
            del others
            mean = torch.mul(weights, apart, out=buffer).sum(-1, keepdim=True) / total
            # Both differences are small where the policies are close, so they lose no digits.
            shift = (peak - other_peak) + (total.log() - other_total.log())
            lines += [apart.gather(1, chosen) - shift, mean - shift]
            aparts.append(apart)
            means.append(mean)
        ctx.save_for_backward(tokens, weights, total, *aparts, *means)
        return torch.cat(lines, dim=1).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        tokens, weights, total, *saved = ctx.saved_tensors
        aparts, means = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        columns = torch.split(gradient.T, 1, dim=1)
        kls = columns[2::2]
        drift = torch.stack([columns[0], *columns[1::2]]).sum(0)
        level = torch.stack([drift, *(kl * mean for kl, mean in zip(kls, means, strict=True))])
        slope = torch.empty_like(weights).copy_(-level.sum(0) / total)
        for kl, apart in zip(kls, aparts, strict=True):
            slope.addcmul_(apart, kl / total)
        return slope.mul_(weights).scatter_add_(1, tokens[:, None], drift), None, None


def _exponentials(scores: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The largest score of each row `(m, 1)`, `exp(score - largest)`, and their sums `(m, 1)`."""
    peak = scores.amax(-1, keepdim=True)
    weights = torch.sub(scores, peak, out=out).exp_()
    return peak, weights, weights.sum(-1, keepdim=True)
