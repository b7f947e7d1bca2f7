"""Best responses of tables to feedback, and what they gain."""

from __future__ import annotations

import numpy as np

from mpo_games.checks import require_shape, require_weight
from mpo_games.kernels.tables import pure
from mpo_games.policies.mirror_maps import rows
from mpo_games.policies.tabular import TabularPolicy, require_policies
from mpo_games.protocol import Array


def greedy(policy: TabularPolicy, q: Array) -> TabularPolicy:
    """The policy that plays the first action of largest `q` in each row."""
    legal = rows(policy.legal, q.shape)
    probs = pure(rows(q, q.shape), legal).reshape(q.shape)
    return policy.replace(policy.geometry.coordinates(probs, legal.reshape(q.shape)))


def regularised_regret(
    policy: TabularPolicy, q: Array, magnet: TabularPolicy, alpha: float
) -> Array:
    r"""What each row gains by its regularised best response, shape `(..., rows)`.

    $\max_{p'} \langle q, p'\rangle - \alpha\,\mathrm{KL}(p'\|\rho)$ less the same at `policy`; the
    maximum is `alpha * logsumexp(log rho + q / alpha)`. At `alpha = 0` the plain regret.
    """
    require_weight("alpha", alpha)
    require_policies(policy, magnet)
    require_shape("magnet", magnet.coordinates, policy.coordinates)
    legal = policy.legal
    mean = np.sum(policy.probs * q, axis=-1)
    if alpha == 0.0:
        return np.asarray(np.where(legal, q, -np.inf).max(axis=-1) - mean)
    # alpha KL(policy || its regularised best response) is the same number without cancellation.
    response = magnet.mirror_step(q / alpha, None, eta=1.0, alpha=0.0)
    return np.asarray(alpha * policy.kl(response))
