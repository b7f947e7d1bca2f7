"""Learning rates that are measured, because the rate that suits a network depends on its size."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mpo_games.checks import require_positive
from mpo_llm.networks.workbench import Weights, Workbench, single
from mpo_llm.step.sample import Sample

FIRST, LARGEST = 1e-4, 0.1
"""The first rate that is tried, and the largest that is found."""

LOOKS, LEAP, NEAR = 12, 30.0, 0.05
"""The most rates that are tried, the largest factor between two of them, and how close a factor is
to 1 when the rate is found."""

CLEAR, FAINT = 1e-3, 1e-5
"""In nats a response: a closed form that goes as far as the first can be relied on, and none counts
as less than the second."""


@dataclass(frozen=True, slots=True)
class Reaching:
    r"""A learning rate that is measured once, in the first mirror step, and then kept.

    Adam's first update changes every weight by the rate. Its KL to the old policy is therefore
    about `c rate^2`, with c a number of the network: small for narrow networks and adapters, large
    for wide and deep ones. The rate is such that this KL is `share` times that of the closed form
    on the sample (`Sample.predicted`): one update alone goes as far as the whole step should, in a
    direction that is not yet the right one. It costs one gradient and a few forward passes.
    A closed form that hardly goes anywhere, below `CLEAR`, says little: then the rate is measured
    again in the next step. `ValueError` for a `share` of 0 or less.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        require_positive("share", self.share)

    def measured(self, bench: Workbench, sample: Sample, epsilon: float) -> tuple[float, bool]:
        """The rate for the gradients that the bench has, and whether it is one to keep.

        The bench has its weights from before afterwards, and no gradients.
        """
        predicted = sample.predicted()
        target = self.share * max(predicted, FAINT)
        start, gradients = dict(bench.drafts), bench.take()
        rate = FIRST
        for _ in range(LOOKS):
            bench.replace(_moved(start, gradients, rate, epsilon))
            kl = sample.measured()[1]
            # Far off, the KL is no square of the rate, and below rounding errors it says nothing.
            factor = min(max((target / max(kl, FAINT * 1e-3)) ** 0.5, 1.0 / LEAP), LEAP)
            rate = min(rate * factor, LARGEST)
            if abs(factor - 1.0) < NEAR:
                break
        bench.replace(_moved(start, {}, 0.0, epsilon))
        return rate, predicted >= CLEAR


@torch.no_grad()
def _moved(start: Weights, gradients: Weights, rate: float, epsilon: float) -> Weights:
    """The weights after Adam's first update, in tensors that nobody else has."""
    found = {}
    for name, here in start.items():
        g = gradients.get(name)
        moved = here.to(single(here.dtype), copy=True)
        if g is not None:
            moved -= (rate * g / (g.abs() + epsilon)).to(moved.device)
        found[name] = moved
    return found
