"""The mean of policies that are tables."""

from __future__ import annotations

from mpo_games.checks import require_kind
from mpo_games.policies.tabular import TabularPolicy, probabilities, require_policies
from mpo_games.protocol import Mixture


def arithmetic_mean(mixture: Mixture[TabularPolicy]) -> TabularPolicy:
    """The policy whose probabilities are the mixture's; weights sum to 1."""
    require_kind("mixture", mixture, Mixture, "a `Mixture(policies, weights)`")
    first = mixture.policies[0]
    require_policies(*mixture.policies)
    probs = probabilities(mixture)
    return first.replace(first.geometry.coordinates(probs, first.legal))
