r"""Bradley-Terry: each response has a score, and $i$ beats $j$ with probability
$\sigma(s_i - s_j)$."""

from __future__ import annotations

import numpy as np

from mpo_games.protocol import Array

RIDGE = 1e-6
"""Weight of the squared scores in the fit. It keeps scores finite where a response always wins."""

POLISHES = 3
"""Newton steps after the trust-region method, or from a start near the solution."""

TOLERANCE = 1e-9
"""The largest gradient that a fit to one comparison of every pair may have. Up to the ridge, the
gradient at a response is the difference between its wins in the model and in the data."""


def fit(wins: Array, ridge: float = RIDGE, start: Array | None = None) -> Array:
    r"""The scores of mean 0 that fit `wins`, `(Y, Y)`, best: `wins[i, j]` times `i` beat `j`.

    $$\min_s \sum_{ij} W_{ij} \log(1 + e^{s_j - s_i}) + \frac{\text{ridge}}{2} \|s\|^2$$

    Returns log-odds, `(Y,)`. The wins may be fractions: a draw is half a win for both, and a table
    of probabilities is one comparison of every pair. The problem is convex and smooth; a
    trust-region Newton method solves it; from a `start` near the solution a few plain Newton steps
    do. Raises `RuntimeError` if the fit fails.
    """
    # Imported here, because `import mpo_games` must not load scipy.optimize.
    from scipy.optimize import minimize
    from scipy.special import expit

    n, total = len(wins), wins + wins.T
    # In units of the comparisons of a pair, as rounding errors are.
    limit = TOLERANCE * max(1.0, float(total.sum(axis=1).max()) / n)

    def loss(s: Array) -> float:
        return float(np.sum(wins * np.logaddexp(0.0, s - s[:, None])) + ridge / 2.0 * (s @ s))

    def gradient(s: Array) -> Array:
        return np.asarray((total * expit(s[:, None] - s) - wins).sum(axis=1) + ridge * s)

    def hessian(s: Array) -> Array:
        p = expit(s[:, None] - s)
        curvature = total * p * p.T
        # The ridge also makes it regular: without it a shift of all scores would change nothing.
        return np.asarray(
            np.diag(curvature.sum(axis=1)) - curvature + ridge * np.eye(n), dtype=np.float64
        )

    def polished(s: Array) -> Array:
        for _ in range(POLISHES):
            s = s - np.linalg.solve(hessian(s), gradient(s))
        return s

    if start is not None:
        # Near the solution Newton's method needs no region of trust. NaN fails the comparison.
        scores = polished(start)
        if np.abs(gradient(scores)).max() <= limit:
            return np.asarray(scores - scores.mean())
    found = minimize(
        loss, np.zeros(n), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": limit}
    )
    # The minimiser may stop where the loss is flat up to rounding and the gradient is not yet 0.
    scores = polished(np.asarray(found.x, dtype=np.float64))
    if not np.abs(gradient(scores)).max() <= limit:
        raise RuntimeError(f"The Bradley-Terry fit did not converge: {found.message}")
    return np.asarray(scores - scores.mean())
