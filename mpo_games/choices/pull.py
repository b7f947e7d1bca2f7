r"""Third choice of a mirror-type solver: how the magnet pulls.

The pull is either a term of the step, solved exactly, or a penalty in the feedback ("perturbed
payoffs", "reward transformation"). Each function is `(policy, q, magnet, eta, alpha, player) ->
policy`. `q` and `alpha` are in units of payoff, `eta` in 1 / payoff.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Number, P, Policy

LOG_RATIO_LIMIT = 40.0
"""The largest logarithm of a ratio of probabilities in `mutation`, `exp(40) ~ 2e17`."""


class Pull(Protocol[P]):
    """`pull(policy, q, magnet, ...)`: a step from `policy` along `q`, pulled to the magnet."""

    # `q` is whatever the game gives: an array, or the judged responses of a network.
    def __call__(
        self, policy: P, q: Any, magnet: P, *, eta: Number, alpha: Number, player: int | None
    ) -> P: ...


def proximal(policy: P, q: Any, magnet: P, *, eta: Number, alpha: Number, player: int | None) -> P:
    r"""KL in the step: $p' \propto [p\,\rho^{\eta\alpha} e^{\eta q}]^{1/(1+\eta\alpha)}$ (MMD).

    >>> MMD(eta=0.3, alpha=0.1, pull=proximal) == MMD(eta=0.3, alpha=0.1)
    True
    """
    return policy.mirror_step(q, magnet, eta=eta, alpha=alpha, player=player)


def in_reward(policy: P, q: Any, magnet: P, *, eta: Number, alpha: Number, player: int | None) -> P:
    r"""KL in the reward: $p' \propto p\,e^{\eta(q - \alpha\log p/\rho)}$ (MPO-RT, R-NaD).

    In tables the same map as `proximal` at step size $\eta/(1-\eta\alpha)$. `ValueError` unless
    `eta alpha < 1`: beyond that the step would go to the other side of the magnet.

    >>> MMD(eta=0.3, alpha=0.1, magnet=Every(50), pull=in_reward)
    MPO_RT(eta=0.3, alpha=0.1, period=50)
    """
    reach = eta * alpha
    # `np.all` takes as long as a step on a small game, so it is called for arrays only.
    if not (reach < 1.0 if isinstance(reach, float) else np.all(reach < 1.0)):
        raise ValueError(
            f"`eta * alpha` must be below 1 with `pull=in_reward`, got eta={eta} and alpha={alpha}."
        )
    penalised = policy.penalise(q, magnet, alpha=alpha)
    # No magnet and no `alpha`, here and below: the pull is in the feedback already.
    return policy.mirror_step(penalised, None, eta=eta, alpha=0.0, player=player)


def mutation(
    policy: TabularPolicy,
    q: Array,
    magnet: TabularPolicy,
    *,
    eta: Number,
    alpha: Number,
    player: int | None,
) -> TabularPolicy:
    r"""Mutation towards the magnet: $q(a) + \alpha(\rho(a)/p(a) - 1)$ (M2WU, Abe et al. 2023).

    This is the gradient of the reverse KL. The ratio is unbounded. It is cut at
    `exp(LOG_RATIO_LIMIT)`, because it would overflow and end as NaN. `ValueError` for a policy that
    is not a table.

    >>> MMD(eta=0.3, alpha=0.1, magnet=Every(50), pull=mutation)
    M2WU(eta=0.3, alpha=0.1, period=50)
    """
    require_table(policy)
    # Log-probabilities are -inf at illegal actions, and -inf - -inf is NaN.
    legal = policy.legal
    drift = np.where(legal, magnet.log_probs, 0.0) - np.where(legal, policy.log_probs, 0.0)
    ratio = np.where(legal, np.exp(np.minimum(drift, LOG_RATIO_LIMIT)) - 1.0, 0.0)
    return policy.mirror_step(q + alpha * ratio, None, eta=eta, alpha=0.0, player=player)


def squared(
    policy: TabularPolicy,
    q: Array,
    magnet: TabularPolicy,
    *,
    eta: Number,
    alpha: Number,
    player: int | None,
) -> TabularPolicy:
    r"""Squared distance in the feedback: $q - \alpha(p - \rho)$ (APMD, Abe et al. 2024).

    `ValueError` for a policy that is not a table.

    >>> MMD(eta=0.3, alpha=0.1, magnet=Every(50), pull=squared)
    APMD(eta=0.3, alpha=0.1, period=50)
    """
    require_table(policy)
    # Illegal actions need no mask here: both probabilities are 0.
    perturbed = q - alpha * (policy.probs - magnet.probs)
    return policy.mirror_step(perturbed, None, eta=eta, alpha=0.0, player=player)


def require_table(policy: Policy[Any]) -> None:
    """`ValueError` unless `policy` is a table, in whose probabilities the feedback is linear."""
    if not isinstance(policy, TabularPolicy):
        raise ValueError(
            f"This method is for tables, not for a {type(policy).__name__}: "
            "pass a tree as the table `BehaviouralGame(game)`."
        )
