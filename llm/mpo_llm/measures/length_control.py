r"""Win rates at equal lengths: what is left of a win rate when length is no advantage.

$$\mathrm{logit}\,P = \theta + \phi \tanh(\Delta / \text{std}(\Delta))$$

is fitted to the preferences P and the differences $\Delta$ in length. The win rate at equal lengths
is $\sigma(\theta)$, its value at $\Delta = 0$ (after AlpacaEval 2, Dubois et al. 2024).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from mpo_games.protocol import Array, Indices
from mpo_llm.estimates import Estimate

RIDGE = 0.5
"""The weight of the penalty on the squared coefficients, in comparisons.

It keeps the fit finite if one side always wins.
"""

NEWTON_STEPS = 50
"""The most iterations of Newton's method."""


def length_controlled(preferences: Array, longer: Array, prompt_of: Indices) -> Estimate:
    """The win rate at equal lengths, with its standard error for new prompts of the same kind.

    `preferences`, `(N,)` in [0, 1], are those of a response over its rival; `longer`, `(N,)`, is
    the length of the response less that of its rival, in any unit; `prompt_of`, `(N,)`, numbers
    their prompts.
    """
    spread = longer.std()
    lead = np.tanh(longer / spread) if spread > 0.0 else np.zeros(len(longer))
    x = np.column_stack([np.ones(len(lead)), lead])
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        p = expit(x @ weights)
        gradient = x.T @ (preferences - p) - RIDGE * weights
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Newton from 0 can overshoot only where wins are near certain: no step above 1.
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-12:
            break
    p = expit(x @ weights)
    # Comparisons of one prompt depend on each other, so the sandwich estimator sums over prompts.
    _, where = np.unique(prompt_of, return_inverse=True)
    scores = np.stack([np.bincount(where, column) for column in (x * (preferences - p)[:, None]).T])
    inverse = np.linalg.inv((x * (p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(2))
    n = scores.shape[1]
    variance = (inverse @ scores @ scores.T @ inverse)[0, 0] * (n / (n - 1) if n > 1 else np.nan)
    # The delta method: the derivative of the sigmoid is value (1 - value).
    value = float(expit(weights[0]))
    error = float(value * (1.0 - value) * np.sqrt(variance))
    return Estimate(value, error, n, (0.0, 1.0))
