"""Estimates: means with their standard errors and 95 % confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np
from scipy.special import stdtrit

from mpo_games.protocol import Array, Indices

NORMAL = 1.959964
"""Half the width of a 95 % confidence interval, in standard errors, where the error is known."""

FEWEST = 8
"""The fewest independent values, such as prompts, from which an interval is computed.

The error is estimated from the same values, and from fewer it is hardly known.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, printed as the mean ± half its 95 % interval."""

    value: float
    error: float
    """The standard error, in the unit of `value`; NaN where it cannot be estimated."""
    independent: int | None = None
    """How many independent values it rests on, such as prompts; None where they are not counted."""
    bounds: tuple[float, float] = (-inf, inf)
    """The least and the largest mean that is possible."""
    freedom: int | None = None
    """The degrees of freedom of the error, if these are not one less than `independent`: X (K - 1)
    where the variances of K values at each of X prompts are averaged."""

    @property
    def half(self) -> float:
        """The error times the 97.5 % quantile of Student's t, or of the normal distribution where
        the values are not counted; NaN for fewer than `FEWEST` of them."""
        return self._quantile() * self.error

    @property
    def interval(self) -> tuple[float, float]:
        r"""The lower and upper end of the 95 % confidence interval, within `bounds`.

        Both are NaN where the error is, and for fewer than `FEWEST` independent values. The
        interval is the mean ± `half`. A share, whose `bounds` are finite, has Wilson's interval
        for the number of independent trials that have this error, $n = p (1 - p) / \text{error}^2$
        (Korn & Graubard 1998, with Wilson's form after Dean & Pagano 2015). If all values are equal
        their error is 0, which does not show that no other value is possible: then n is the number
        of values.
        """
        low, high = self.bounds
        t, error = self._quantile(), self.error
        if not isfinite(t * error):
            return nan, nan
        if not (isfinite(low) and isfinite(high)):
            return max(low, self.value - t * error), min(high, self.value + t * error)
        # Rounding may have brought a mean out of its bounds.
        p = min(max((self.value - low) / (high - low), 0.0), 1.0)
        spread = error / (high - low)
        varies = p * (1.0 - p) * spread > 0.0
        n = p * (1.0 - p) / spread**2 if varies else self.independent or inf
        more = t * t / n
        centre = (p + 0.5 * more) / (1.0 + more)
        half = sqrt(more * (p * (1.0 - p) + 0.25 * more)) / (1.0 + more)
        ends = (max(0.0, centre - half), min(1.0, centre + half))
        return low + (high - low) * ends[0], low + (high - low) * ends[1]

    def _quantile(self) -> float:
        if self.independent is None:
            return NORMAL
        freedom = self.independent - 1 if self.freedom is None else self.freedom
        return float(stdtrit(freedom, 0.975)) if self.independent >= FEWEST else nan

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {f'{self.half:.2g}' if isfinite(self.half) else 'unknown'}"

    def with_interval(self, form: str) -> str:
        """`value [low, high]` in the format `form`; `[unknown]` without an interval."""
        ends = self.interval
        said = ", ".join(f"{end:{form}}" for end in ends)
        return f"{self.value:{form}} [{said if isfinite(ends[0]) else 'unknown'}]"


def clustered(
    values: Array, cluster_of: Indices, bounds: tuple[float, float] = (-inf, inf)
) -> Estimate:
    r"""The mean of `values` `(N,)` with a cluster-robust standard error.

    `cluster_of` `(N,)` numbers the cluster of each value, such as the prompt of a comparison.
    Values of one cluster may depend on each other; the clusters are independent. With the sum $s_c$
    of the deviations from the mean in each of C clusters, the error is
    $\sqrt{\tfrac{C}{C-1}\sum_c s_c^2} / N$, NaN for a single cluster. It is the error for new
    clusters of the same kind. `bounds` are those of the values.
    """
    mean = float(values.mean())
    _, where = np.unique(cluster_of, return_inverse=True)
    # Summed within a cluster before they are squared, because its values depend on each other.
    sums = np.bincount(where, values - mean)
    n = len(sums)
    correction = n / (n - 1) if n > 1 else np.nan
    return Estimate(mean, float(np.sqrt(correction * np.sum(sums**2)) / len(values)), n, bounds)


def plain(found: Any) -> Any:
    """Results as JSON has them: dataclasses as objects, and no number for what is not known.

    An estimate is an object with `value`, `error` and the ends of its interval, `low` and `high`.
    """
    if isinstance(found, Estimate):
        low, high = found.interval
        return plain({"value": found.value, "error": found.error, "low": low, "high": high})
    if is_dataclass(found):
        return {f.name: plain(getattr(found, f.name)) for f in fields(found)}
    if isinstance(found, Mapping):
        return {name: plain(item) for name, item in found.items()}
    if isinstance(found, list | tuple):
        return [plain(item) for item in found]
    return None if isinstance(found, float) and not isfinite(found) else found
