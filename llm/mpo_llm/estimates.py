"""Estimates: means with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np

from mpo_games.protocol import Array, Indices

NORMAL = 1.959964
"""Half the width of a 95 % confidence interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, printed as the mean ± half its 95 % interval."""

    value: float
    error: float
    """The standard error, in the unit of `value`; NaN where it cannot be estimated."""

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and upper end of the normal 95 % confidence interval."""
        return self.value - NORMAL * self.error, self.value + NORMAL * self.error

    def __str__(self) -> str:
        half = "unknown" if isnan(self.error) else f"{NORMAL * self.error:.2g}"
        return f"{self.value:.4g} ± {half}"

    def with_interval(self, form: str) -> str:
        """`value [low, high]`, each number in the format `form`; `[unknown]` for a NaN error."""
        ends = (f"{end:{form}}" for end in self.interval)
        return f"{self.value:{form}} [{'unknown' if isnan(self.error) else ', '.join(ends)}]"


def clustered(values: Array, cluster_of: Indices) -> Estimate:
    r"""The mean of `values` `(N,)` with a cluster-robust standard error.

    `cluster_of` `(N,)` numbers the cluster of each value, such as the prompt of a comparison.
    Values of one cluster may depend on each other; the clusters are independent. With the sum $s_c$
    of the deviations from the mean in each of C clusters, the error is
    $\sqrt{\tfrac{C}{C-1}\sum_c s_c^2} / N$, NaN for a single cluster. It is the error for new
    clusters of the same kind.
    """
    mean = float(values.mean())
    _, where = np.unique(cluster_of, return_inverse=True)
    # Summed within a cluster before they are squared, because its values depend on each other.
    sums = np.bincount(where, values - mean)
    n = len(sums)
    correction = n / (n - 1) if n > 1 else np.nan
    return Estimate(mean, float(np.sqrt(correction * np.sum(sums**2)) / len(values)))
