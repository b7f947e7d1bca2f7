r"""The objective that fits a network to a distribution which is known.

$$\mathrm{KL}(b\|p) = \sum_i w_i\big(\log b(y_i) - \log p(y_i)\big)$$

Here b is the policy that the responses stand for, and a response's weight is its probability.
Unlike the objectives of `objectives`, whose KL is that of p, this one does not leave alone what p
has given up: its gradient at a response does not vanish with p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mpo_llm.step.objectives import Batch


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The cross-entropy to the policy that the responses stand for, less its entropy; 0 at best.

    `behaviour` are the log-probabilities of that policy, and `advantages` are not looked at.
    """

    potential: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __call__(self, batch: Batch, /) -> Tensor:
        return (batch.behaviour - batch.log_probs).sum(1)
