"""How much a step computes, where it learns from responses of earlier steps too."""

from __future__ import annotations

from dataclasses import dataclass

from mpo_games.checks import require_positive, require_weight

NEW = 0.95
"""From this chance on that the next response was never drawn before, responses count as new."""


def all_new(unseen: float | None) -> bool:
    """Whether responses do not come back, given that chance; False where it is not known."""
    return unseen is not None and unseen > NEW


@dataclass(frozen=True, slots=True)
class ByRepeats:
    r"""A number that grows as responses repeat.

    $$\text{least} + \text{slope}\,\frac{1 - u}{u}$$

    u is the chance that the next response was never drawn before. In a small language responses
    come back, and what was said about them is used again: it pays to learn from many of them, many
    times. Long texts never come back. Those of earlier steps have little weight, and the number is
    the least one. `ValueError` unless `least` is above 0 and `slope` is at least 0.
    """

    least: float
    """The number where no response was drawn twice."""
    slope: float
    """How much it grows with the odds that the next response was drawn before."""

    def __post_init__(self) -> None:
        require_positive("least", self.least)
        require_weight("slope", self.slope)

    def __call__(self, unseen: float) -> float:
        """The number, given u; infinity where every response was drawn before."""
        return self.least + self.slope * (1.0 - unseen) / unseen if unseen else float("inf")
