"""Means with their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpo_games.protocol import Array, Indices

NORMAL = 1.959964
"""Standard errors in a 95 % interval, to each side."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error."""

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The normal 95 % confidence interval."""
        return self.value - NORMAL * self.error, self.value + NORMAL * self.error

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {NORMAL * self.error:.2g}"


def clustered(values: Array, of: Indices) -> Estimate:
    """The mean of `values` `(N,)`, for new clusters of the kind of those that `of` numbers.

    Values of one cluster (comparisons of one prompt) may depend on each other, those of different
    ones do not: the error is that of the clusters' sums, NaN for a single cluster.
    """
    mean = float(values.mean())
    _, where = np.unique(of, return_inverse=True)
    sums = np.bincount(where, values - mean)
    n = len(sums)
    correction = n / (n - 1) if n > 1 else np.nan
    return Estimate(mean, float(np.sqrt(correction * np.sum(sums**2)) / len(values)))
