"""The game of preferences between texts: a policy's responses compete for a judge's preference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpo_games.protocol import Array, Indices, Mixture
from mpo_llm.engines import Autoregressive, Generator
from mpo_llm.feedback import Pool
from mpo_llm.judges.protocol import Judge, judged
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids, Responses, require_prompts
from mpo_llm.step.rollouts import Rollouts

MISMATCH = 1e-3
"""Engine and network may differ by so many nats a response, in the mean, before responses are
reweighted: in single precision they stay well below."""


@dataclass(frozen=True, slots=True, eq=False)
class TextPreferenceGame:
    r"""Prompts and a judge, seen through `samples` responses to each prompt.

    The advantage of a response is its mean preference over the opponent's responses, every pair
    judged, less the mean of the other responses of its group: unbiased, and in self-play each
    response meets all the others.

    Who plays the opponent's responses: in self-play the policy's own; where another policy is
    asked for, fresh ones of it; for a `Mixture` (optimism), and for everyone where there is a
    `Pool`, the responses at hand, with self-normalised weights
    $\min(p(y')/p_\text{then}(y'),\ \text{truncation})$ that may be signed.

    Where the engine that drew the responses sees other log-probabilities than the network that
    learns from them, the responses get such weights too.
    """

    prompts: tuple[Ids, ...]
    """As token ids."""
    start: TokenPolicy
    """Where learning starts."""
    judge: Judge
    """Is asked once a step about each pair of distinct texts, in one order."""
    write: Callable[[Ids], str]
    """The text of token ids (without `eos`), as the judge reads it."""
    samples: int
    """Responses to each prompt, at least 2."""
    prompts_per_step: int | None = None
    """How many prompts a step draws, without repetition; all of them when None."""
    truncation: float = 4.0
    """The largest importance weight."""
    generate: Generator = Autoregressive()
    """The engine that draws responses."""

    def __post_init__(self) -> None:
        require_prompts(self.prompts)
        if self.samples < 2:
            raise ValueError(f"`samples` must be at least 2, got {self.samples}.")
        if self.prompts_per_step is not None and not (
            1 <= self.prompts_per_step <= len(self.prompts)
        ):
            raise ValueError(
                f"`prompts_per_step` must lie between 1 and the {len(self.prompts)} prompts, "
                f"got {self.prompts_per_step}."
            )
        if not self.truncation >= 1.0:
            raise ValueError(f"`truncation` must be at least 1, got {self.truncation}.")

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        return 1

    def initial_policy(self) -> TokenPolicy:
        """The supervised model."""
        return self.start

    def feedback(
        self,
        policy: TokenPolicy,
        opponent: TokenPolicy | Mixture[TokenPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
        pool: Pool | None = None,
    ) -> Rollouts:
        """Responses of `policy` and their advantages against `opponent`; `rng` is required.

        Raises `ValueError` if the judge fails; nothing has changed then.
        """
        if rng is None:
            raise ValueError("`rng` is needed: the feedback of this game is sampled.")
        asked = self._draw_prompts(rng)
        own, share, drawn = self._sample(policy, asked, rng)
        behaviour, reading = policy.scored(own)
        apart = behaviour.sum(axis=1) - drawn
        mismatch = float(share @ np.abs(apart))
        if not np.isfinite(mismatch):
            raise FloatingPointError(
                "The generator reported log-probabilities that are no numbers."
            )
        if mismatch > MISMATCH:
            share = self._corrected(own, share, apart)
        q = Rollouts(own, share, np.zeros(own.tokens.shape), behaviour)
        at = None
        if isinstance(opponent, TokenPolicy) and pool is None:
            met, weights, _ = self._sample(opponent, asked, rng)
        else:
            past = pool or Pool.empty()
            past = past.take(np.isin(past.of, asked)).joined(q, 0)
            drawer = None if pool else policy
            met, weights, where = self._reweighted(past, opponent or policy, drawer)
            at = where[-len(own) :]
        i, j, payoff = self.compare(own, met)
        gains = np.zeros(len(own))
        np.add.at(gains, i, len(asked) * weights[j] * payoff)
        advantages = _against_the_others(gains, own.of, share, self.samples)
        advantages = np.where(own.mask, advantages[:, None], 0.0)
        pairs = None if at is None else _among(len(own), len(met), at, i, j, payoff)
        return Rollouts(own, share, advantages, behaviour, pairs, mismatch, reading)

    def _draw_prompts(self, rng: np.random.Generator) -> Indices:
        if self.prompts_per_step is None:
            return np.arange(len(self.prompts))
        return np.sort(rng.choice(len(self.prompts), self.prompts_per_step, replace=False))

    def _sample(
        self, policy: TokenPolicy, asked: Indices, rng: np.random.Generator
    ) -> tuple[Responses, Array, Array]:
        """Distinct responses to the prompts asked, the share of each among all draws, and its
        log-probability as the engine saw it."""
        drawn = self.generate(policy, [self.prompts[x] for x in asked], self.samples, rng)
        rows = drawn.responses
        rows = Responses(self.prompts, asked[rows.of], rows.tokens, rows.lengths)
        distinct, where = rows.distinct()
        times = np.bincount(where)
        seen = np.bincount(where, drawn.log_probs.sum(axis=1)) / times
        return distinct, times / len(rows), seen

    def _corrected(self, own: Responses, share: Array, apart: Array) -> Array:
        """Shares as if the policy itself had drawn: truncated importance weights, normalised for
        each prompt."""
        weighed = share * np.exp(np.minimum(apart, np.log(self.truncation)))
        total, new = (np.bincount(own.of, w) for w in (share, weighed))
        return np.asarray(weighed * (total / np.where(new > 0.0, new, 1.0))[own.of])

    def _reweighted(
        self, past: Pool, opponent: TokenPolicy | Mixture[TokenPolicy], drawer: TokenPolicy | None
    ) -> tuple[Responses, Array, Indices]:
        """Distinct past responses with the signed weights that make them the opponent's, and where
        each of the pool's is among them. All of them were drawn by `drawer`, if there is one."""
        mixture = opponent if isinstance(opponent, Mixture) else Mixture((opponent,), (1.0,))
        responses, where = past.responses(self.prompts).distinct()
        weights = np.zeros(len(responses))
        prompts = len(np.unique(past.of))
        for sign, policy in zip(mixture.weights, mixture.policies, strict=True):
            ratio = np.ones(len(past))
            if policy is not drawer:
                now = policy.log_probs(responses).sum(axis=1)[where]
                ratio = np.exp(np.minimum(now - past.log_prob, np.log(self.truncation)))
            each = np.bincount(where, past.share * ratio)
            total = np.bincount(responses.of, each, minlength=len(self.prompts))
            weights += sign * each / (prompts * total[responses.of])
        return responses, weights, where

    def compare(self, own: Responses, met: Responses) -> tuple[Indices, Indices, Array]:
        """Rows i of `own` and j of `met` that answer the same prompt, and `P(own_i > met_j) - 1/2`.

        Equal responses are left out: they are worth 0 to each other. Each pair of texts is judged
        once. `ValueError` if the judge fails.
        """
        everyone, where = own.joined(met).distinct()
        mine, theirs = where[: len(own)], where[len(own) :]
        i, j = np.nonzero((own.of[:, None] == met.of) & (mine[:, None] != theirs))
        low, high = np.minimum(mine[i], theirs[j]), np.maximum(mine[i], theirs[j])
        pairs, which = np.unique(low * len(everyone) + high, return_inverse=True)
        first, second = np.divmod(pairs, len(everyone))
        texts = [self._text(everyone, row) for row in range(len(everyone))]
        prompts = [self.write(prompt) for prompt in self.prompts]
        said = judged(
            self.judge,
            [prompts[x] for x in everyone.of[first]],
            [texts[a] for a in first],
            [texts[b] for b in second],
        )
        return i, j, np.where(mine[i] == low, 1.0, -1.0) * (said[which] - 0.5)

    def _text(self, responses: Responses, row: int) -> str:
        ids, eos = responses.ids(row), self.start.decoding.eos
        return self.write(ids[:-1] if ids[-1] == eos else ids)


def _against_the_others(gains: Array, of: Indices, share: Array, samples: int) -> Array:
    """Gains less the mean gain of the *other* responses of each group."""
    total = np.bincount(of, share)
    mean = np.bincount(of, share * gains)[of] / total[of]
    return np.asarray(samples / (samples - 1) * (gains - mean))


def _among(own: int, met: int, at: Indices, i: Indices, j: Indices, payoff: Array) -> Array:
    """What of the comparisons `(i, j)` was among one's own, who stand `at` among those met."""
    place = np.full(met, -1)
    place[at] = np.arange(own)
    home = place[j] >= 0
    pairs = np.zeros((own, own))
    pairs[i[home], place[j[home]]] = payoff[home]
    return pairs
