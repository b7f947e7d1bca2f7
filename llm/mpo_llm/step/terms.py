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
from functools import cache
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mpo_llm.networks.errors import first_sentence

P = ParamSpec("P")
T = TypeVar("T")

Scores = Callable[[], Tensor]
"""Makes the unnormalised log-probabilities `(m, V)` of a reference, when it is their turn."""

ARRAYS = 5
"""Arrays `(m, V)` that are alive at the same time, with two references: the scores, `e^z`, an `a`
for each reference, and one for what is computed."""


def table(
    scores: Tensor, tokens: Tensor, references: Sequence[Scores], *, compiled: bool = False
) -> Tensor:
    """Log-probabilities of the tokens `(m,)`, then log-ratio and KL of each reference.

    A tensor `(1 + 2 K, m)` in nats, differentiable in `scores` `(m, V)`. NaN stays NaN. `compiled`:
    by kernels that `torch.compile` makes; the first calls then take long.
    """
    found: Tensor = _Table.apply(scores, tokens, references, compiled)  # type: ignore[no-untyped-call]
    return found


def require_compiler(device: torch.device) -> None:
    """`ValueError` unless `torch.compile` can make a kernel for the device. It takes seconds."""
    try:
        _kernel(_exponentials, True)(torch.zeros(2, 3, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"`torch.compile` can make no kernel for the device {device}: install a compiler of "
            f"C++ (on a GPU Triton), or leave out `model.compile`. It says: {first_sentence(error)}"
        ) from error


class _Table(torch.autograd.Function):
    """The table, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, tokens: Tensor, references: Sequence[Scores], compiled: bool
    ) -> Tensor:
        chosen = tokens[:, None]
        peak, weights, total = _kernel(_exponentials, compiled)(scores)
        lines = [scores.gather(1, chosen) - peak - total.log()]
        aparts, means = [], []
        for reference in references:
            apart, mean, shift = _kernel(_against, compiled)(
                scores, reference(), peak, weights, total, not compiled
            )
            lines += [apart.gather(1, chosen) - shift, mean - shift]
            aparts.append(apart)
            means.append(mean)
        ctx.compiled = compiled
        ctx.save_for_backward(tokens, weights, total, *aparts, *means)
        return torch.cat(lines, dim=1).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        tokens, weights, total, *saved = ctx.saved_tensors
        aparts, means = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        columns = torch.split(gradient.T, 1, dim=1)
        kls = columns[2::2]
        drift = torch.stack([columns[0], *columns[1::2]]).sum(0)
        level = torch.stack([drift, *(kl * mean for kl, mean in zip(kls, means, strict=True))])
        slope = _kernel(_slope, ctx.compiled)(weights, total, level.sum(0), list(kls), aparts)
        return slope.scatter_add_(1, tokens[:, None], drift), None, None, None


def _exponentials(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest score of each row `(m, 1)`, `exp(score - largest)`, and their sums `(m, 1)`."""
    peak = scores.amax(-1, keepdim=True)
    weights = (scores - peak).exp_()
    return peak, weights, weights.sum(-1, keepdim=True)


def _against(
    scores: Tensor,
    others: Tensor,
    peak: Tensor,
    weights: Tensor,
    total: Tensor,
    reuse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The differences d of the scores from the others' `(m, V)`, their mean under p, and the
    difference of the logarithms of the sums `(m, 1)`: `a = d - difference`. `reuse`: the array of
    the exponentials becomes that of d; a compiled kernel has no such array."""
    other_peak, powers, other_total = _exponentials(others)
    # What p forbids (-inf) costs nothing, as 0 log 0 = 0; floats give -inf or NaN. A true NaN is in
    # the totals.
    apart = torch.sub(scores, others, out=powers if reuse else None)
    apart = apart.nan_to_num_(nan=0.0, posinf=torch.inf, neginf=0.0)
    # The mean needs an array of its own, when that of the others is gone.
    del others
    mean = (weights * apart).sum(-1, keepdim=True) / total
    # Both differences are small where the policies are close, so they lose no digits.
    return apart, mean, (peak - other_peak) + (total.log() - other_total.log())


def _slope(
    weights: Tensor, total: Tensor, level: Tensor, kls: list[Tensor], aparts: list[Tensor]
) -> Tensor:
    """The gradient `(m, V)` but for the chosen tokens' own part."""
    slope = torch.empty_like(weights).copy_(-level / total)
    for kl, apart in zip(kls, aparts, strict=True):
        slope.addcmul_(apart, kl / total)
    return slope.mul_(weights)


@cache
def _kernel(function: Callable[P, T], compiled: bool) -> Callable[P, T]:
    return torch.compile(function, dynamic=True) if compiled else function
