"""Judged responses: the feedback that a token-level policy learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from mpo_games.protocol import Array, Indices
from mpo_llm.estimates import Estimate
from mpo_llm.responses import Responses
from mpo_llm.step.parts import Limits
from mpo_llm.step.scoring import (
    HiddenStates,
    Scorable,
    hidden_states,
    same_parts,
    states_of_each,
)


@dataclass(frozen=True, slots=True, eq=False)
class Rollouts:
    r"""N judged responses: the feedback q of a language game, as a sample or in full.

    They stand for $\langle q, p\rangle = \sum_i w_i\, \frac{p(y_i)}{b(y_i)}\, A_i$, with weights w,
    advantages A and the policy b that drew them.
    """

    responses: Responses
    """Each distinct response once."""
    weights: Array
    """The share of each response among all draws, or its exact probability, `(N,)`. They add up to
    1, and every prompt has the same total."""
    advantages: Array
    """The advantage of a response from each token on, in units of preference, `(N, T)`."""
    behaviour: Array
    """Log-probability of each token by the policy that drew it, `(N, T)` in nats, 0 at padding."""
    pairs: Array | None = None
    """`P(y_i > y_j) - 1/2` for responses to the same prompt, `(N, N)`, and 0 across prompts. None
    if the responses were not compared with each other."""
    mismatch: float = 0.0
    """The mean absolute difference between the log-probabilities of a response by the engine that
    drew it and by the network, in nats."""
    mismatch_ratio: float = 1.0
    """The probability of a token by the network over that by the engine, in the mean over all that
    were drawn."""
    hidden: HiddenStates | None = None
    """The states of the policy that drew the responses; None if they were not kept."""
    gap: Estimate | None = None
    """The estimated duality gap of the policy that drew the responses, see `mpo_llm.gap`; None if
    they were not compared with each other, are fewer than 4 to a prompt, or all tie."""
    unseen: float | None = None
    """The chance that the next response to these prompts is none of those that were drawn; None if
    it was not estimated."""

    def hidden_states(self, policy: Scorable) -> HiddenStates:
        """The states of `policy` over the responses: `hidden`, if it drew them, or new ones."""
        known = self._known(policy)
        return hidden_states(policy, self.responses) if known is None else known

    @classmethod
    def states_of_each(
        cls, policies: Sequence[Scorable], several: Sequence[Self]
    ) -> list[list[HiddenStates]]:
        """The states of each policy over each of several rollouts.

        One policy is run after the other, so that the weights of each are put in once.
        """
        read: list[list[HiddenStates]] = []
        for i, policy in enumerate(policies):
            # A magnet that has just moved is the policy itself.
            twins = (j for j in range(i) if same_parts(policies[j].parts, policy.parts))
            twin = next((j for j in twins if policies[j].decoding == policy.decoding), None)
            read.append(cls._read(policy, several) if twin is None else read[twin])
        return read

    @classmethod
    def _read(cls, policy: Scorable, several: Sequence[Self]) -> list[HiddenStates]:
        known = [q._known(policy) for q in several]
        new = [q.responses for q, states in zip(several, known, strict=True) if states is None]
        found = iter(states_of_each(policy, new))
        return [next(found) if states is None else states for states in known]

    def _known(self, policy: Scorable) -> HiddenStates | None:
        known = self.hidden
        if known is None or known.decoding != policy.decoding:
            return None
        return known if same_parts(known.parts, policy.parts) else None

    def take(self, rows: Indices | slice) -> Self:
        """Some of the responses, with the weights that they have."""
        hidden = self.hidden
        if hidden is not None:
            # States have a row a token.
            taken = torch.from_numpy(self.responses.tokens_of(rows))
            hidden = hidden.take(taken.to(hidden.states[0].device))
        return type(self)(
            self.responses.take(rows),
            self.weights[rows],
            self.advantages[rows],
            self.behaviour[rows],
            None if self.pairs is None else self.pairs[rows][:, rows],
            self.mismatch,
            self.mismatch_ratio,
            hidden,
            self.gap,
            self.unseen,
        )

    def parts(self, limits: Limits, *, shared: bool = False) -> tuple[Self, ...]:
        """Parts within the limits, which make up the whole; as `Limits.split`."""
        split = limits.split(self.responses, shared=shared)
        return (self,) if len(split) == 1 else tuple(self.take(rows) for rows in split)

    def minibatches(self, count: int, *, by_prompt: bool = False) -> tuple[Self, ...]:
        """At most `count` minibatches of about the same size, none of them empty; their mean is the
        whole.

        Weights are multiplied by the number of minibatches, so each is an estimate of the whole.
        With `by_prompt` all responses to a prompt are in the same minibatch.
        """
        rows = np.arange(len(self.weights))
        if by_prompt:
            rows = np.unique(self.responses.prompt_of, return_inverse=True)[1]
        # With more minibatches than responses some would be empty, and the others too heavy.
        count = min(count, int(rows.max()) + 1)
        if count == 1:
            return (self,)
        # Responses are sorted by prompt, so every `count`-th of them covers all prompts.
        parts = (self.take(np.flatnonzero(rows % count == i)) for i in range(count))
        return tuple(replace(part, weights=count * part.weights) for part in parts)
