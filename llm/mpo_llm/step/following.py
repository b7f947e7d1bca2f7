"""A minimiser for steps that become small: its rate follows how far there is to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch

from mpo_games.checks import require_kind, require_positive, require_share
from mpo_llm.networks.workbench import Workbench
from mpo_llm.step.minimisers import Adam, Gradient, Loss, Minimised, Moments, constant


@dataclass(frozen=True, slots=True)
class Following:
    r"""Adam at the rate `min(adam.rate, slope sqrt(loss))`, of the loss before the updates.

    It is for losses that are 0 at best and about quadratic there, such as a KL to a known target.
    Adam's updates have the length of the rate whatever the gradient is, so at a constant rate they
    keep a network at a distance of this length from every target, and a run that converges ends
    there. Here the rate falls with the steps, without a word about how long the run is to be. It
    costs a forward pass a step. `ValueError` for an `adam` without a rate of its own.
    """

    adam: Adam = field(
        default_factory=lambda: Adam(16, 3e-3, constant, betas=(0.9, 0.99), keep_first=True)
    )
    """Its `rate` is the largest."""
    slope: float = 0.1
    """The rate, in units of the root of the loss."""
    until: float | None = None
    """The share of the loss at which a step ends before all its updates are made; None makes all.
    It needs an `adam` that keeps both moments, at a constant rate."""

    searches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_kind("adam", self.adam, Adam, "an `Adam(rate=...)`")
        require_kind("adam.rate", self.adam.rate, float, "a number, the largest rate")
        require_positive("slope", self.slope)
        if self.until is not None:
            require_share("until", self.until)
            if not (self.adam.keep_first and self.adam.schedule is constant):
                raise ValueError(
                    "`until` needs `Adam(..., schedule=constant, keep_first=True)`: a step that "
                    "ends early has no end for a rate to fall to."
                )

    def __call__(self, bench: Workbench, losses: Sequence[Loss], moments: Moments, /) -> Minimised:
        first = losses[0]
        own = 0.0
        with torch.no_grad():
            bench.hold_drafts()
            for part in (part for loss in losses for part in loss.parts):
                own += float(part().loss) / len(losses)
        ahead = float(np.sum(first.processes.gather(own)))
        if not np.isfinite(ahead):
            raise FloatingPointError(
                f"The loss of a mirror step is {ahead}: lower the learning rate, or `eta`."
            )
        most = self.adam.rate
        assert isinstance(most, float)
        # A rate of 0 is none: at the target itself rounding may leave a loss below 0.
        rate = min(most, max(self.slope * max(ahead, 0.0) ** 0.5, 1e-6 * most))
        adam = replace(self.adam, rate=rate)
        if self.until is None:
            return adam(bench, losses, moments)
        found: list[Gradient] = []
        once = replace(adam, epochs=1)
        for _ in range(adam.epochs):
            done = once(bench, losses, moments)
            moments = done.moments
            found += done.gradients
            if found[-1].loss <= self.until * ahead:
                break
        return Minimised(moments, found)
