"""Learning rates that are measured, because the rate that suits a network depends on its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpo_games.checks import require_positive
from mpo_llm.networks.workbench import Weights, Workbench, single

FIRST, LARGEST = 1e-5, 0.1
"""The first rate that is tried, and the largest that is found."""

LOOKS, LEAP, NEAR = 12, 30.0, 0.05
"""The most rates that are tried, the largest factor between two of them, and how close a factor is
to 1 when the rate is found."""


@dataclass(frozen=True, slots=True)
class Reaching:
    r"""A learning rate that is measured once, in the first mirror step, and then kept.

    Adam's first update changes every weight by the rate. Its KL to the old policy is therefore
    about `c rate^2`, with c a number of the network: small for narrow networks and for adapters,
    large for wide and deep ones. The rate is the one at which this update alone goes `kl` far, in
    nats a response. That costs one gradient and some six forward passes.

    In half precision the least change of the weights seems to go some way already, because it
    moves what is rounded: .06 nats for SmolLM2 in bfloat16 and 24 tokens. The KL at a tenth of the
    first rate should be a hundredth. Where it is much more, it is rounding, and does not count.

    The default is what a small transformer of width 32 needs, whose rate is 4e-3 to 7e-3. It gives
    1.4e-3 at width 64, and on SmolLM2 (135 million weights, responses of 24 tokens) 2e-4 for
    adapters of rank 8. `ValueError` for a `kl` of 0 or less.
    """

    kl: float = 0.045

    def __post_init__(self) -> None:
        require_positive("kl", self.kl)

    def measured(
        self, bench: Workbench, kl: Callable[[], float], epsilon: float
    ) -> tuple[float, bool]:
        """The rate, given gradients on the bench, and whether it has been found.

        `kl` measures the KL to the old policy at the bench's weights. It is not found where no rate
        goes that far, because all responses are worth the same. The bench has its weights from
        before afterwards, and no gradients.
        """
        start, gradients = dict(bench.drafts), bench.take()

        def gone(rate: float) -> float:
            bench.replace(_moved(start, gradients, rate, epsilon))
            return kl()

        rate, sure, there, near = FIRST, False, gone(FIRST), gone(FIRST / 10.0)
        rounding = near if near > there / 10.0 else 0.0
        for _ in range(LOOKS):
            # Far off, the KL is no square of the rate, and rounding may leave nothing of it.
            far = there - rounding
            factor = (self.kl / far) ** 0.5 if far > 0.0 else LEAP
            factor = min(max(factor, 1.0 / LEAP), LEAP)
            sure = abs(factor - 1.0) < NEAR
            if sure or (rate == LARGEST and factor > 1.0):
                break
            rate = min(rate * factor, LARGEST)
            there = gone(rate)
        bench.replace(_moved(start, {}, 0.0, epsilon))
        return rate, sure


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
