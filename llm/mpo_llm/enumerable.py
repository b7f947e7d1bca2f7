"""Languages so small that every response is listed, and a network's duality gap is exact.

Here one can compute what cannot be seen on a large model: the exact distribution over responses,
the distance to the Nash equilibrium, the KL of whole responses. Feedback is sampled or exact, and
the tabular game that the network plays is at hand as its twin. Shapes: X prompts, Y responses to
each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpo_games import exact
from mpo_games.checks import require_kind
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import read
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Mixture, Solver
from mpo_llm.feedback import Pool
from mpo_llm.game import TextPreferenceGame
from mpo_llm.judges.table import Table
from mpo_llm.policy import TokenPolicy
from mpo_llm.preset import ON_EXACT_TOKENS, ON_TOKENS
from mpo_llm.responses import Decoding, Ids, Responses
from mpo_llm.step.rollouts import Rollouts

MOST_RESPONSES = 100_000
"""The largest number of responses of `max_tokens` tokens without an end that is listed."""


LONGEST = 3000
"""The largest `max_tokens` of a language that is listed."""


def all_responses(decoding: Decoding) -> tuple[Ids, ...]:
    """Every response that can be drawn.

    First come the responses that end, the shorter ones before the longer ones. Then come those of
    `max_tokens` tokens without an end. Equally long ones stand in the order of their ids.

    `ValueError` without a `vocabulary`, or for more than `MOST_RESPONSES`.
    """
    require_kind("decoding", decoding, Decoding, "a `Decoding(max_tokens=...)`")
    if decoding.vocabulary is None:
        raise ValueError("A language is enumerable only with a `vocabulary`.")
    never = {*decoding.ends, *decoding.unused}
    count = decoding.vocabulary - sum(i < decoding.vocabulary for i in never)
    longest = decoding.max_tokens
    # By logarithms, since the power may have millions of digits. One symbol alone makes few
    # responses, but long ones.
    if longest * log(max(count, 1)) > log(MOST_RESPONSES + 0.5) or longest > LONGEST:
        raise ValueError(f"There are more than {MOST_RESPONSES} responses to list.")
    symbols = [i for i in range(decoding.vocabulary) if i not in never]
    ended: list[Ids] = []
    ends = sorted(decoding.ends)
    for length in range(longest) if ends else ():
        ended += [(*ids, end) for ids in product(symbols, repeat=length) for end in ends]
    return tuple(ended) + tuple(product(symbols, repeat=longest))


@dataclass(frozen=True, eq=False)
class EnumerableGame:
    """A language game whose responses are all listed, so that its distances are exact.

    `preferences` is `(X, Y, Y)`, or `(Y, Y)` for all prompts, over `all_responses` in their order.
    With `samples` the feedback is that of `TextPreferenceGame` with this many responses to each
    prompt, at `prompts_per_step` of the prompts or at all of them. Without `samples` it is exact:
    all responses, each with its probability. Gaps are exact and over all prompts in both cases.
    `ValueError` for a table of another shape, and for `prompts_per_step` without `samples`.
    """

    start: TokenPolicy
    """Where learning starts."""
    prompts: tuple[Ids, ...]
    """The prompts as token ids."""
    twin: PreferenceGame
    """The same game for tables: its contexts are the prompts, its actions are the responses."""
    every: Responses
    """All responses to all prompts, X Y of them, prompt by prompt."""
    sampled: TextPreferenceGame | None
    """The game that draws samples; None if feedback is exact."""

    def __init__(
        self,
        start: TokenPolicy,
        prompts: tuple[Ids, ...],
        preferences: ArrayLike,
        samples: int | None = None,
        prompts_per_step: int | None = None,
    ) -> None:
        require_kind("start", start, TokenPolicy, "a policy, like `TokenPolicy.of(network)`")
        start.require_readable(prompts)
        listed = all_responses(start.decoding)
        table = read(preferences, "preferences").values
        if table.ndim == 2:
            table = np.repeat(table[None], len(prompts), axis=0)
        if table.shape != (len(prompts), len(listed), len(listed)):
            raise ValueError(
                f"`preferences` must be ({len(prompts)}, {len(listed)}, {len(listed)}), "
                f"got shape {table.shape}."
            )
        twin = PreferenceGame(table)
        prompt_of = [x for x in range(len(prompts)) for _ in listed]
        sampled = None
        if samples is None and prompts_per_step is not None:
            raise ValueError("`prompts_per_step` is for sampled feedback: pass `samples`, too.")
        if samples is not None:
            # Sampled feedback goes through texts and a judge, as for a large model.
            texts = [_text(ids) for ids in _unended(listed, start.decoding)]
            judge = Table([_text(prompt) for prompt in prompts], texts, table)
            sampled = TextPreferenceGame(prompts, start, judge, _text, samples, prompts_per_step)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "twin", twin)
        object.__setattr__(
            self, "every", Responses.of_ids(prompts, prompt_of, listed * len(prompts))
        )
        object.__setattr__(self, "sampled", sampled)

    @property
    def title(self) -> str:
        """The size of the language."""
        return f"a language of {self.twin.payoff.shape[-1]} responses"

    def __repr__(self) -> str:
        how = "exact feedback" if self.sampled is None else f"{self.sampled.samples} samples"
        prompts, responses = self.twin.payoff.shape[-3:-1]
        return f"EnumerableGame: {responses} responses, prompts: {prompts}, {how}"

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        return 1

    @property
    def payoff(self) -> Array:
        """The twin's payoffs, `(X, Y, Y)`."""
        return self.twin.payoff

    @property
    def self_tuning(self) -> Solver:
        """What `AutoMPO` is on this game: `ON_TOKENS`, or `ON_EXACT_TOKENS` if it is exact."""
        return ON_EXACT_TOKENS if self.sampled is None else ON_TOKENS

    @property
    def texts(self) -> TextPreferenceGame:
        """The game that draws samples; `ValueError` if feedback is exact."""
        if self.sampled is None:
            raise ValueError("Responses are drawn in a game with `samples` only: pass them.")
        return self.sampled

    def initial_policy(self) -> TokenPolicy:
        """Where learning starts."""
        return self.start

    def table(self, policy: TokenPolicy) -> TabularPolicy:
        """The exact distribution of the policy over responses, `(X, Y)`, for the twin."""
        whole = policy.log_probs(self.every).sum(axis=1).reshape(len(self.prompts), -1)
        # In single precision the probabilities add up to 1 only within its last digits.
        whole -= np.log(np.exp(whole).sum(axis=1, keepdims=True))
        return TabularPolicy(whole)

    def feedback(
        self,
        policy: TokenPolicy,
        opponent: TokenPolicy | Mixture[TokenPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
        pool: Pool | None = None,
    ) -> Rollouts:
        """All responses with exact advantages; in a sampled game, drawn ones, which need `rng`."""
        if self.sampled is not None:
            return self.sampled.feedback(policy, opponent, rng=rng, pool=pool)
        # The exact opponent needs no sample, so a pool would add nothing and is left out.
        behaviour = policy.log_probs(self.every)
        weights = np.exp(behaviour.sum(axis=1)) / len(self.prompts)
        q = self.twin.feedback(self.table(policy), self._opposed(policy, opponent))
        q = q - np.sum(self.table(policy).probs * q, axis=1, keepdims=True)
        # Every token of a response has the advantage of the whole.
        advantages = np.where(self.every.mask, q.reshape(-1, 1), 0.0)
        return Rollouts(self.every, weights, advantages, behaviour)

    def duality_gap(self, policy: TokenPolicy) -> Any:
        """The duality gap of the network's exact distribution over responses."""
        return self.twin.duality_gap(self.table(policy))

    def regularised_gap(self, policy: TokenPolicy, magnet: TokenPolicy, alpha: float) -> Any:
        """The duality gap of the game in which each seat pays `alpha KL(own policy || magnet)`."""
        return self.twin.regularised_gap(self.table(policy), self.table(magnet), alpha)

    def value(self, policy: TokenPolicy) -> Any:
        """0, since a policy wins one half against itself."""
        return self.twin.value(self.table(policy))

    def win_rate(self, policy: TokenPolicy, opponent: TokenPolicy) -> Any:
        """The probability that `policy` is preferred to `opponent`, averaged over prompts."""
        return self.twin.win_rate(self.table(policy), self.table(opponent))

    def divergence(self, policy: TokenPolicy, other: TokenPolicy) -> Any:
        """The KL of whole responses in nats, averaged over prompts."""
        return self.twin.divergence(self.table(policy), self.table(other))

    def _opposed(
        self, policy: TokenPolicy, opponent: TokenPolicy | Mixture[TokenPolicy] | None
    ) -> TabularPolicy | Mixture[TabularPolicy]:
        if isinstance(opponent, Mixture):
            return Mixture(tuple(self.table(p) for p in opponent.policies), opponent.weights)
        return self.table(policy if opponent is None else opponent)


@exact.nash.register
def _(game: EnumerableGame) -> exact.Equilibrium[TabularPolicy]:
    return exact.nash(game.twin)


def _text(ids: Ids) -> str:
    return " ".join(map(str, ids))


def _unended(responses: tuple[Ids, ...], decoding: Decoding) -> tuple[Ids, ...]:
    return tuple(decoding.content(ids) for ids in responses)
