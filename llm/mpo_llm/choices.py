"""Choices of a configuration that have a number, and the words that need none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


class Choice:
    """A choice that has a number: `Every(50)` here, `{every: 50}` in YAML.

    Every kind is a dataclass with one field, and its name in YAML is the class name in snake case.
    """

    @classmethod
    def word(cls) -> str:
        """The name in YAML and on the command line: `weight_ema` of `WeightEma`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


# Not the solver's own values: those have fields that no language model can use (`Every.floor`),
# and with them judges and prompts, which read these settings, would import networks.
@dataclass(frozen=True)
class Every(Choice):
    """The magnet moves to the policy every `period` steps (MPO)."""

    period: int
    """Steps between two moves."""

    def __post_init__(self) -> None:
        if not self.period >= 1:  # NaN fails every comparison
            raise ValueError(f"`solver.magnet.every` must be at least 1, got {self.period}.")


@dataclass(frozen=True)
class WeightEma(Choice):
    """The magnet drifts towards the policy in weights: `magnet + rate (policy - magnet)`."""

    rate: float
    """The share of the distance to the policy that the magnet goes in a step, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"`solver.magnet.weight_ema` must lie in (0, 1], got {self.rate}.")


@dataclass(frozen=True)
class WhenGapFell(Choice):
    """The magnet moves to the policy when the exact duality gap has fallen to `ratio` times its
    value at the last move."""

    ratio: float
    """The share to which the gap must fall, in (0, 1)."""

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise ValueError(f"`solver.magnet.when_gap_fell` must lie in (0, 1), got {self.ratio}.")


@dataclass(frozen=True)
class AgainstMixture(Choice):
    """Responses meet the geometric mixture `policy^(1 - weight) magnet^weight` of next-token
    distributions (Nash-MD)."""

    weight: float
    """The magnet's share, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(
                f"`solver.feedback.against_mixture` must lie in [0, 1], got {self.weight}."
            )


MagnetChoice = Literal["fixed"] | Every | WeightEma | WhenGapFell
FeedbackChoice = (
    Literal["current", "optimistic", "half_step", "against_start", "against_mixture"]
    | AgainstMixture
)

Algorithm = Literal[
    "auto",
    "recipe",
    "mmd",
    "mpo",
    "optimistic_mpo",
    "mpo_rt",
    "nash_md",
    "self_play",
    "sppo",
    "inpo",
    "iterative_dpo",
    "comal",
]
"""Solvers by name: AutoMPO, the recipe for one prompt, and published methods."""

KlForm = Literal[
    "exact_unbiased", "exact_in_loss", "k1_in_reward", "k2_in_loss", "k3_in_loss", "k3_weighted"
]
"""How the KL enters a loss, by the names of `kl_forms`."""
