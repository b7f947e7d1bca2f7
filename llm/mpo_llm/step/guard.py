r"""A guard: a mirror step that does not lower its loss, or goes too far, goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import torch

from mpo_games.checks import require_count, require_positive
from mpo_llm.networks.workbench import Weights, Workbench
from mpo_llm.step.minimisers import Minimised
from mpo_llm.step.sample import Sample, predicted

ROUNDING = 1e-4
"""KLs below this, in nats a response, are rounding errors of single precision."""

IN_A_ROW = 8
"""After so many steps in a row that go all the way back a measured rate is halved."""

LITTLE = 0.01
"""The share of a way whose KL is rounding: of the true one it has a ten-thousandth."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Accepts a mirror step whose loss has fallen and which has not gone too far; else it shrinks.

    The loss is that of whole responses, whatever the objective. Too far is more than `far` times
    the KL of the closed form on the sample, beside what rounding adds: that is measured at a
    hundredth of the way, where it matters. Such a step goes back to a third of its way, again and
    again, and after `tries` measurements all the way; the optimiser then forgets its first moment,
    which led there. After `IN_A_ROW` steps that go all the way back the policy has stood still for
    long, and a rate that was measured (`Reaching`) is halved for good.

    `ValueError` for a `far` of 0 or less, and for less than one try.
    """

    far: float = 4.0
    tries: int = 6
    by_token: bool = False
    """Measure how far a step goes by the exact KLs of the next tokens along the responses, instead
    of at the responses. It is for texts that never come back: a network fits those of the sample
    far more than all others, so at them every useful step goes too far."""

    def __post_init__(self) -> None:
        require_positive("far", self.far)
        require_count("tries", self.tries)

    def __call__(
        self, bench: Workbench, samples: Sequence[Sample], minimise: Callable[[], Minimised], /
    ) -> tuple[Minimised, float]:
        """Minimise from the bench's present weights, and go back as far as need be.

        The mean of the `samples` is that of the step. Returns what the minimiser did, and the share
        of its way that is kept.
        """
        start = dict(bench.drafts)
        before, kl = predicted(samples)
        limit = self.far * kl + ROUNDING
        done = minimise()
        end, kept = dict(bench.drafts), 1.0
        for left in reversed(range(self.tries)):
            loss, kl = self._mean(samples)
            if kept == 1.0 and kl >= limit:
                bench.replace(_between(start, end, LITTLE))
                rounding = self._mean(samples)[1]
                # A limit of infinity would let everything pass.
                limit += rounding if isfinite(rounding) else 0.0
                bench.replace(_between(start, end, kept))
            if isfinite(loss) and loss < before and kl < limit:
                break
            kept = kept / 3.0 if left else 0.0
            bench.replace(_between(start, end, kept))
        moments = replace(done.moments, refused=0 if kept else done.moments.refused + 1)
        if kept < 1.0:
            moments = replace(moments, first={})
        if moments.refused == IN_A_ROW:
            moments = replace(moments, rate=moments.rate / 2.0, refused=0)
        return replace(done, moments=moments), kept

    def _mean(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """The loss and the KL to the old policy of the samples together."""
        found = [sample.measured(by_token=self.by_token) for sample in samples]
        loss, kl = np.mean(found, axis=0)
        return float(loss), float(kl)


def _between(start: Weights, end: Weights, share: float) -> Weights:
    """`start + share (end - start)`, in tensors that nobody else has."""
    found = {}
    for name, there in end.items():
        here = start[name].to(there.device, there.dtype)
        found[name] = torch.lerp(here, there, share) if share else here.clone()
    return found
