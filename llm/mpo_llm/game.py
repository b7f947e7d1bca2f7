"""The game of preferences between texts: responses compete for a judge's preference.

Shapes: N responses of the policy, L responses that they meet, T tokens, C comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np

from mpo_games.checks import is_number, require_callable, require_count, require_kind
from mpo_games.labelled import shown
from mpo_games.protocol import Array, Indices, Mixture, Solver
from mpo_llm.engines import Autoregressive, Engine, draw_each
from mpo_llm.feedback import Pool
from mpo_llm.gap import by_prompt, estimated_gap
from mpo_llm.judges.protocol import Judge, judged
from mpo_llm.policy import TokenPolicy
from mpo_llm.preset import ON_TOKENS
from mpo_llm.responses import Ids, Responses
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.scoring import log_probs_and_states

MISMATCH = 1e-3
"""The mean difference between the log-probabilities of engine and network, in nats a response,
above which responses are reweighted. In single precision the difference stays well below it."""

LARGEST_RATIO = 50.0
"""The logarithm of the largest ratio of two probabilities of a token that is reported."""

EXAMPLES = {
    "judge": "`Higher(score)`",
    "engine": "`Autoregressive()`",
}
"""An example of each function, for error messages."""


@dataclass(frozen=True, slots=True, eq=False)
class TextPreferenceGame:
    r"""A judge compares responses to the same prompt; feedback is a sample of these comparisons.

    The policy draws `samples` responses to each prompt. The gain of a response is its mean
    `P - 1/2` over the opponent's responses to the prompt; every pair is judged. Its advantage is
    this gain less the mean gain of the other responses to the prompt. This estimate is unbiased.

    In self-play the opponent's responses are the policy's own, and each meets all the others. If
    the opponent is another policy, it draws responses of its own. For a `Mixture` (optimism), and
    whenever there is a `Pool`, nothing is drawn for the opponent: it plays the responses of this
    step and of the pool, with self-normalised weights
    $\min(p(y')/p_\text{then}(y'),\ \text{truncation})$, where $p_\text{then}$ drew y'. Policies
    of negative weight in a mixture make such weights negative.

    If the engine's log-probabilities differ from the network's by more than `MISMATCH`, the
    policy's responses get truncated weights as well. `ValueError` for settings out of range.
    """

    prompts: tuple[Ids, ...]
    """The prompts as token ids."""
    start: TokenPolicy
    """Where learning starts."""
    judge: Judge
    """Each feedback asks it once about each pair of distinct responses, in one order."""
    decode: Callable[[Ids], str]
    """From token ids without the end to the text that the judge reads; for prompts as well."""
    samples: int
    """Responses to each prompt, at least 2."""
    prompts_per_step: int | None = None
    """The number of prompts that a step draws, without repetition; all if None."""
    truncation: float = 4.0
    """The largest importance weight."""
    engine: Engine = Autoregressive()
    """The engine that draws responses, for `evaluate` too."""

    def __post_init__(self) -> None:
        # A response is compared with the mean of the others.
        require_count("samples", self.samples, least=2)
        require_kind("start", self.start, TokenPolicy, "a policy, like `TokenPolicy.of(network)`")
        self.start.require_readable(self.prompts)
        # A class will do, such as `str`.
        if not callable(self.decode):
            raise ValueError(
                f"`decode` must be a function, like `tokenizer.decode`, got {shown(self.decode)}."
            )
        for name in ("judge", "engine"):
            require_callable(name, getattr(self, name), EXAMPLES[name])
        if self.prompts_per_step is not None and not (
            is_number(self.prompts_per_step)
            and 1 <= self.prompts_per_step <= len(self.prompts)
            and self.prompts_per_step % 1 == 0
        ):
            raise ValueError(
                f"`prompts_per_step` must lie between 1 and the {len(self.prompts)} prompts, "
                f"got {shown(self.prompts_per_step)}."
            )
        if not (is_number(self.truncation) and self.truncation >= 1.0):
            raise ValueError(f"`truncation` must be at least 1, got {shown(self.truncation)}.")

    @property
    def title(self) -> str:
        """How many prompts there are."""
        return f"texts for {len(self.prompts)} prompts"

    def __repr__(self) -> str:
        # Only its kind: a judge may hold a model, or very many answers.
        judge = getattr(self.judge, "__name__", type(self.judge).__name__)
        many = f"prompts: {len(self.prompts)}, samples: {self.samples}"
        return f"TextPreferenceGame: {many}, judge: {judge}"

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        return 1

    @property
    def self_tuning(self) -> Solver:
        """What `AutoMPO` is on this game: `ON_TOKENS`."""
        return ON_TOKENS

    @property
    def texts(self) -> Self:
        """The game itself: it draws responses and compares them."""
        return self

    def initial_policy(self) -> TokenPolicy:
        """Where learning starts: the supervised model."""
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
        """Responses of `policy` and their advantages against `opponent`.

        `pool` holds responses of earlier steps. `ValueError` without `rng`; `JudgeError` if the
        judge fails, and nothing has changed then; `FloatingPointError` for log-probabilities that
        are not finite.
        """
        if rng is None:
            raise ValueError(
                "`rng` is needed, since the feedback of this game is sampled: pass "
                "`rng=np.random.default_rng(seed)`."
            )
        asked = self._draw_prompts(rng)
        # A policy that is met without a pool draws responses of its own, in the same batch.
        drawing = [policy]
        if isinstance(opponent, TokenPolicy) and pool is None:
            drawing.append(opponent)
        (own, share, drawn), *others = self._sample(drawing, asked, rng)
        draws = np.rint(share * self.samples * len(asked)).astype(np.int64)
        behaviour, hidden = log_probs_and_states(policy, own)
        tokens_apart = behaviour - drawn
        apart = tokens_apart.sum(axis=1)
        mismatch = float(share @ np.abs(apart))
        if not np.isfinite(mismatch):
            raise FloatingPointError(
                "The engine reported log-probabilities that are not finite: see `Drawn.log_probs`."
            )
        # An engine that says that a token was impossible would overflow.
        ratios = np.where(own.mask, np.exp(np.minimum(tokens_apart, LARGEST_RATIO)), 0.0)
        ratio = float(share @ ratios.sum(axis=1) / (share @ own.lengths))
        # A smaller difference is rounding, and all weights would be 1.
        if not mismatch <= MISMATCH:
            share = self._corrected(own, share, apart)
        q = Rollouts(own, share, np.zeros(own.tokens.shape), behaviour)
        at = gap = None
        if others:
            met, weights, _ = others[0]
        else:
            # Self-play without a pool is play against a pool of this step's responses alone.
            past = pool or Pool.empty()
            past = past.take(np.isin(past.prompt_of, asked)).joined(q, 0)
            drawn_by = None if pool else policy
            met, weights, where = self._reweighted(past, opponent or policy, drawn_by)
            # The policy's own responses stand last in the pool.
            at = where[-len(own) :]
        i, j, payoff = self.compare(own, met)
        gains = np.zeros(len(own))
        # Weights add up to 1 over all prompts, but a gain is a mean over the responses to one.
        np.add.at(gains, i, len(asked) * weights[j] * payoff)
        advantages = _against_the_others(gains, own.prompt_of, share, self.samples)
        advantages = np.where(own.mask, advantages[:, None], 0.0)
        pairs = None if at is None else _among(len(own), len(met), at, i, j, payoff)
        if at is not None:
            # Responses of earlier steps are rivals that these draws have not chosen.
            earlier = np.isin(np.arange(len(met)), where[: -len(own)])
            prompt_of = own.prompt_of, met.prompt_of
            tables = by_prompt(prompt_of, at, earlier, draws, share, (i, j, payoff))
            # By a copy, since the estimate must not change what training draws next.
            gap = estimated_gap(tables, deepcopy(rng))
        return Rollouts(own, share, advantages, behaviour, pairs, mismatch, ratio, hidden, gap)

    def _draw_prompts(self, rng: np.random.Generator) -> Indices:
        if self.prompts_per_step is None:
            return np.arange(len(self.prompts))
        return np.sort(rng.choice(len(self.prompts), self.prompts_per_step, replace=False))

    def _sample(
        self, policies: Sequence[TokenPolicy], asked: Indices, rng: np.random.Generator
    ) -> list[tuple[Responses, Array, Array]]:
        """Draw responses of each policy to the prompts with the indices `asked`.

        Returns for each the N distinct responses, the share of each among all draws, `(N,)`, and
        the log-probabilities of their tokens by the engine, `(N, T)`.
        """
        found = self._drawn(policies, asked, self.samples, rng)
        return [(own, times / times.sum(), drawn) for own, times, drawn in found]

    def drawn(
        self, policy: TokenPolicy, asked: Indices, count: int, rng: np.random.Generator
    ) -> tuple[Responses, Indices, Array]:
        """Draw `count` responses of `policy` to each of the prompts with the indices `asked`.

        Returns the N distinct responses, how often each was drawn, `(N,)`, and its log-probability
        by the engine, `(N,)`.
        """
        ((distinct, times, seen),) = self._drawn([policy], asked, count, rng)
        return distinct, times, seen.sum(axis=1)

    def _drawn(
        self,
        policies: Sequence[TokenPolicy],
        asked: Indices,
        count: int,
        rng: np.random.Generator,
    ) -> list[tuple[Responses, Indices, Array]]:
        """The distinct responses of each policy, how often each was drawn, `(N,)`, and the engine's
        log-probabilities of its tokens, `(N, T)`."""
        prompts = [self.prompts[x] for x in asked]
        found = []
        for drawn in draw_each(self.engine, policies, prompts, count, rng):
            rows = drawn.responses
            # All responses of a run refer to the game's prompts, so that steps can be pooled.
            rows = Responses(self.prompts, asked[rows.prompt_of], rows.tokens, rows.lengths)
            distinct, where = rows.distinct()
            times = np.bincount(where)
            # Draws of the same response may differ in rounding, so this is their mean.
            seen = np.zeros(distinct.tokens.shape)
            np.add.at(seen, where, drawn.log_probs)
            found.append((distinct, times, seen / times[:, None]))
        return found

    def _corrected(self, own: Responses, share: Array, apart: Array) -> Array:
        """The shares `(N,)` times truncated importance weights, normalised for each prompt.

        They estimate the shares that the responses would have if the network had drawn them.
        `apart` `(N,)` is the network's log-probability less the engine's.
        """
        weighed = share * np.exp(np.minimum(apart, np.log(self.truncation)))
        total, new = (np.bincount(own.prompt_of, w) for w in (share, weighed))
        # Where all weights of a prompt are 0, its responses stay at 0.
        return np.asarray(weighed * (total / np.where(new > 0.0, new, 1.0))[own.prompt_of])

    def _reweighted(
        self, past: Pool, opponent: TokenPolicy | Mixture[TokenPolicy], drawn_by: TokenPolicy | None
    ) -> tuple[Responses, Array, Indices]:
        """Reweight the responses of the pool so that they stand for the opponent's.

        Returns the L distinct responses of the pool, their signed weights `(L,)`, and for each
        response of the pool its index among them. `drawn_by` is the policy that drew the whole
        pool, or None.
        """
        mixture = opponent if isinstance(opponent, Mixture) else Mixture((opponent,), (1.0,))
        responses, where = past.responses(self.prompts).distinct()
        weights = np.zeros(len(responses))
        prompts = len(np.unique(past.prompt_of))
        for sign, policy in zip(mixture.weights, mixture.policies, strict=True):
            ratio = np.ones(len(past))
            # For the policy that drew them all ratios are 1, without a pass through the network.
            if policy is not drawn_by:
                now = policy.log_probs(responses).sum(axis=1)[where]
                ratio = np.exp(np.minimum(now - past.log_prob, np.log(self.truncation)))
            each = np.bincount(where, past.share * ratio)
            total = np.bincount(responses.prompt_of, each, minlength=len(self.prompts))
            # Where the opponent would draw none of a prompt's responses, they stay at 0.
            total = np.where(total > 0.0, total, 1.0)
            weights += sign * each / (prompts * total[responses.prompt_of])
        return responses, weights, where

    def compare(self, own: Responses, met: Responses) -> tuple[Indices, Indices, Array]:
        """All comparisons of responses to the same prompt: `own` i against `met` j.

        Returns i, j and `P(own_i > met_j) - 1/2`, `(C,)` each. Responses of equal text are left
        out, as they tie. Each pair of texts is judged once. `JudgeError` if the judge fails.
        """
        everyone, where = own.joined(met).distinct()
        texts = [self._text(everyone, row) for row in range(len(everyone))]
        # The judge reads texts, and different tokens can spell the same one: its first row stands
        # for all of them.
        firsts: dict[tuple[int, str], int] = {}
        keys = zip(everyone.prompt_of.tolist(), texts, strict=True)
        where = np.array([firsts.setdefault(key, row) for row, key in enumerate(keys)])[where]
        mine, theirs = where[: len(own)], where[len(own) :]
        same = own.prompt_of[:, None] == met.prompt_of
        i, j = np.nonzero(same & (mine[:, None] != theirs))
        # In self-play both orders of a pair occur: the judge is asked about one, and the payoff of
        # the other is its negative.
        low, high = np.minimum(mine[i], theirs[j]), np.maximum(mine[i], theirs[j])
        pairs, which = np.unique(low * len(everyone) + high, return_inverse=True)
        first, second = np.divmod(pairs, len(everyone))
        prompts = [self.decode(prompt) for prompt in self.prompts]
        said = judged(
            self.judge,
            [prompts[x] for x in everyone.prompt_of[first]],
            [texts[a] for a in first],
            [texts[b] for b in second],
        )
        return i, j, np.where(mine[i] == low, 1.0, -1.0) * (said[which] - 0.5)

    def _text(self, responses: Responses, row: int) -> str:
        return self.decode(self.start.decoding.content(responses.ids(row)))


def _against_the_others(gains: Array, prompt_of: Indices, share: Array, samples: int) -> Array:
    """Each response's gain less the mean gain of the *other* responses to its prompt, `(N,)`."""
    total = np.bincount(prompt_of, share)
    mean = np.bincount(prompt_of, share * gains)[prompt_of] / total[prompt_of]
    # With n samples, gain - mean of all = (n - 1) / n (gain - mean of the others).
    return np.asarray(samples / (samples - 1) * (gains - mean))


def _among(own: int, met: int, at: Indices, i: Indices, j: Indices, payoff: Array) -> Array:
    """The `payoff` of those comparisons `(i, j)` in which both are own responses, `(own, own)`.

    `own` and `met` are numbers of responses. `at` `(own,)` holds the index of each own response
    among those that are met.
    """
    place = np.full(met, -1)
    place[at] = np.arange(own)
    home = place[j] >= 0
    pairs = np.zeros((own, own))
    pairs[i[home], place[j[home]]] = payoff[home]
    return pairs
