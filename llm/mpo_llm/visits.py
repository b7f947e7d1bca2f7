r"""Visits: the responses of a prompt's last visits, weighted so that they stand for any policy.

A visit is a step at which a prompt was asked. Each distinct text of a prompt's last visits counts
once, with the weight of Horvitz and Thompson (1952),

$$w(y) \propto \frac{p(y)}{\pi(y)},\qquad \pi(y) = 1 - (1 - \bar q(y))^N$$

where $\pi$ is the chance that the text is among the visits at all. N is the number of draws of
these visits, and $\bar q$ is the mean chance of the text in a draw of the visits that drew it.
Where texts repeat, these weights vary far less than importance weights $p / q$. Where no text
repeats, $\pi \approx N \bar q$, and they are importance weights.

Shapes: R records, N distinct texts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from mpo_games.protocol import Array, Indices, Mask
from mpo_llm.responses import Ids, Responses

SMALL = 1e-12
"""A chance below which `1 - (1 - q)^N` is `N q` up to rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """The R records of recent visits; each distinct response of a visit has one."""

    prompt_of: Indices
    """The index of the game's prompt that each response answers, `(R,)`."""
    tokens: Indices
    """Token ids, `(R, T)`."""
    lengths: Indices
    """Tokens of each response, `(R,)`."""
    times: Indices
    """How often each response was drawn in its visit, `(R,)`."""
    log_prob: Array
    """The log-chance of each response in a draw of its visit, `(R,)` in nats."""
    visit: Indices
    """The number of the visit among those of its prompt, `(R,)`; the first is 0."""

    @classmethod
    def empty(cls) -> Visits:
        """No visits."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, np.zeros((0, 1), dtype=np.int64), none, none, np.zeros(0), none)

    def __len__(self) -> int:
        return len(self.prompt_of)

    def responses(self, prompts: tuple[Ids, ...]) -> Responses:
        """The records as responses to the game's `prompts`."""
        return Responses(prompts, self.prompt_of, self.tokens, self.lengths)

    def take(self, rows: Mask) -> Self:
        """Some of the records."""
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))

    def joined(self, drawn: Responses, times: Indices, log_prob: Array, last: int) -> Visits:
        """The `last` visits of each prompt, with a new one of each prompt that was asked now.

        `drawn` are the distinct responses of the new visits, with their `times` and `log_prob`.
        """
        numbers = np.zeros(len(drawn.prompts), dtype=np.int64)
        np.maximum.at(numbers, self.prompt_of, self.visit + 1)
        both = self.responses(drawn.prompts).joined(drawn)
        visit = np.concatenate([self.visit, numbers[drawn.prompt_of]])
        found = Visits(
            both.prompt_of,
            both.tokens,
            both.lengths,
            np.concatenate([self.times, times]),
            np.concatenate([self.log_prob, log_prob]),
            visit,
        )
        return found.take(found.ages < last)

    @property
    def ages(self) -> Indices:
        """How many visits of its prompt came after that of each response, `(R,)`."""
        newest = np.zeros(self.prompt_of.max(initial=0) + 1, dtype=np.int64)
        np.maximum.at(newest, self.prompt_of, self.visit)
        return np.asarray(newest[self.prompt_of] - self.visit)


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """The N distinct responses of some visits, and for each how likely it was to be there."""

    responses: Responses
    """Each distinct response once, sorted by prompt."""
    visits: Visits
    """The records."""
    where: Indices
    """The index of each record's response, `(R,)`."""

    @classmethod
    def of(cls, visits: Visits, prompts: tuple[Ids, ...]) -> Texts:
        """The distinct responses of the visits to the game's `prompts`."""
        distinct, where = visits.responses(prompts).distinct()
        return cls(distinct, visits, where)

    def weights(self, log_probs: Array, rows: Mask | None = None) -> Array:
        """The weights `(N,)` by which the responses stand for a policy; 1 in total at each prompt.

        `log_probs` `(N,)` are those of the policy. Only the records `rows` `(R,)` count, or all;
        the weights are 0 at prompts without a record.
        """
        log_weight = log_probs - self.log_inclusion(rows)
        prompt_of, count = self.responses.prompt_of, len(self.responses.prompts)
        peak = np.full(count, -np.inf)
        np.maximum.at(peak, prompt_of, log_weight)
        # What is not among the records has weight 0, and a prompt without a record has no peak.
        peak = np.where(np.isfinite(peak), peak, 0.0)
        weight = np.exp(log_weight - peak[prompt_of])
        total = np.bincount(prompt_of, weight, minlength=count)
        return np.asarray(weight / np.where(total > 0.0, total, 1.0)[prompt_of])

    def unseen(self) -> float:
        """The chance that the next draw is a response that is not among the visits.

        Its estimate by Good and Turing (Good 1953): the share of draws whose response was drawn
        once. 1 without a draw.
        """
        times = np.bincount(self.where, self.visits.times)
        return float((times == 1).sum() / times.sum()) if len(times) else 1.0

    def log_inclusion(self, rows: Mask | None = None) -> Array:
        r"""$\log\pi$ of each response, `(N,)`; infinity for one that is not among the records."""
        visits = self.visits if rows is None else self.visits.take(rows)
        where = self.where if rows is None else self.where[rows]
        count = len(self.responses)
        hits = np.bincount(where, minlength=count)
        peak = np.full(count, -np.inf)
        np.maximum.at(peak, where, visits.log_prob)
        met = hits > 0
        peak = np.where(met, peak, 0.0)
        sums = np.bincount(where, np.exp(visits.log_prob - peak[where]), minlength=count)
        log_q = peak + np.log(np.where(met, sums / np.maximum(hits, 1), 1.0))
        prompts = len(self.responses.prompts)
        draws = np.bincount(visits.prompt_of, visits.times, minlength=prompts)
        return np.where(met, _log_any(log_q, draws[self.responses.prompt_of]), np.inf)


def _log_any(log_q: Array, draws: Indices) -> Array:
    """`log(1 - (1 - q)^draws)`: the chance that one of the draws is a text of chance q."""
    draws = np.maximum(draws, 1)
    # Rounding may bring a chance above 1, and the chance of a long text may be 0 as a float.
    q = np.minimum(np.exp(log_q), 1.0)
    with np.errstate(divide="ignore"):
        found = np.log(-np.expm1(draws * np.log1p(-q)))
    return np.where(q < SMALL, log_q + np.log(draws), found)
