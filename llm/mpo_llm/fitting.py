"""The settings of `mpo-llm fit-preferences`, without the networks that they are for.

The command line reads them before it knows what it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated

import tyro


@dataclass(frozen=True, slots=True)
class Fit:
    """How a preference model is learned: AdamW minimises the log loss, and the best epoch is kept.

    `ValueError` for settings out of range.
    """

    planes: int = 4
    """Planes of the cyclic part; with 0 the model is a Bradley-Terry reward model."""
    epochs: int = 30
    """Passes over the comparisons that are learned from."""
    rate: float = 1e-3
    """Learning rate of the head."""
    # The flag goes on working under its name in release 0.1.0.
    encoder_rate: Annotated[float, tyro.conf.arg(aliases=("--fit.reader-rate",))] = 0.0
    """Learning rate of the encoder. At 0 it is not trained, and each response is encoded once."""
    decay: float = 0.01
    """Weight decay of AdamW."""
    batch: int = 64
    """Comparisons in one update."""
    held_out: float = 0.1
    """The share of the prompts whose comparisons are held out to measure the result. The same share
    of the other prompts chooses the epoch."""

    def __post_init__(self) -> None:
        if not (self.planes >= 0 and self.epochs >= 1 and self.batch >= 1):
            raise ValueError("`epochs` and `batch` must be at least 1, and `planes` at least 0.")
        if not 0.0 < self.held_out < 0.5:
            raise ValueError(f"`held_out` must lie between 0 and 1/2, got {self.held_out}.")
        rates = 0.0 < self.rate < inf and 0.0 <= self.encoder_rate < inf
        if not (rates and 0.0 <= self.decay < inf):
            raise ValueError(
                "Learning rates and decay must not be negative, and `rate` must be above 0."
            )
