"""A magnet weight that only language games have: set by the noise in their advantages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mpo_games.checks import require_positive, require_weight
from mpo_games.labelled import shown
from mpo_games.protocol import State
from mpo_llm.repeats import all_new

NOISE = "visits/noise"
"""The name in a state's memory of the share of noise in the advantages, in [0, 1]. `Revisited`
writes it once a prompt has been asked twice."""

UNSEEN = "visits/unseen"
"""The name in a state's memory of the chance that the next response was never drawn before."""


@dataclass(frozen=True, slots=True)
class ByNoise:
    r"""`alpha` grows with the share of noise in the advantages, which `Revisited` measures.

    $$\alpha = \min\big(\max(\text{scale}\,\sqrt{\text{noise}},\ \text{least}),\ \text{most}\big)$$

    It is `most` as long as no prompt has been asked twice, or for a feedback that measures no
    noise. Where responses do not come back it is `new`: each step's noise is new, so it averages
    out over steps, and a strong pull would undo what they have in common. All four are in units of
    preference. `ValueError` unless `scale` is above 0, `0 <= least <= most` and `new >= 0`.
    """

    scale: float = 0.4
    least: float = 0.02
    most: float = 0.2
    new: float = 0.005

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        require_weight("least", self.least)
        require_weight("most", self.most)
        require_weight("new", self.new)
        if self.least > self.most:
            raise ValueError(
                f"`least` must be at most `most`, got {shown(self.least)} and {shown(self.most)}."
            )

    def __call__(self, state: State[Any]) -> float:
        if all_new(state.memory.get(UNSEEN)):
            return self.new
        noise = state.memory.get(NOISE)
        if noise is None:
            return self.most
        return min(max(self.scale * math.sqrt(noise), self.least), self.most)
