"""A report on one policy of a language game, from samples, with standard errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpo_games.checks import require_count, require_generator, require_kind
from mpo_games.protocol import Array
from mpo_llm.engines import sample
from mpo_llm.estimates import Estimate
from mpo_llm.game import TextPreferenceGame
from mpo_llm.gap import Payoffs, estimated_gap
from mpo_llm.measures.averaging import Averaging, averaging, distinct
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Responses


@dataclass(frozen=True, slots=True)
class Report:
    """Sampled measurements of one policy. Errors are those of sampling, at the same prompts, if
    nothing else is said."""

    win_rate: Mapping[str, Estimate]
    """The probability that a response of the policy is preferred to one of each other policy; a tie
    counts 1/2."""
    kl: Mapping[str, Estimate]
    """The KL divergence of the policy from each other policy, in nats a response. At each token of
    the policy's responses it is computed over the whole vocabulary, and the tokens are summed."""
    entropy: Estimate
    """The entropy of whole responses, in nats."""
    length: Estimate
    """The length of the responses in tokens, `eos` included."""
    gap: Estimate | None
    """An estimate of the duality gap whose mean is a lower bound, see `mpo_llm.gap`. Rivals are all
    responses that were drawn, by any of the policies. Its error is for new prompts. None if all
    comparisons are ties."""
    averaging: Averaging
    """How cyclic the judge is on the policy's responses, and what a mean score loses on them. Its
    errors are for new prompts."""

    @property
    def cyclic_share(self) -> float:
        """The share of the triples of different responses to a prompt whose pairwise majorities
        form a cycle. It is averaged over the prompts with such triples; NaN if there are none."""
        return self.averaging.cyclic.value


def evaluate(
    game: TextPreferenceGame,
    policy: TokenPolicy,
    against: Mapping[str, TokenPolicy],
    samples: int,
    rng: np.random.Generator,
) -> Report:
    """Draw `samples` responses of every policy to every prompt, judge all pairs, and report.

    `against` holds the other policies by name, such as magnet, start or snapshots. Responses are
    drawn by the game's engine. `ValueError` for fewer than 4 samples, or if the judge fails.
    """
    example = "a game of texts, `TextPreferenceGame(...)`, or `.texts` of an `EnumerableGame`"
    require_kind("game", game, TextPreferenceGame, example)
    require_kind("policy", policy, TokenPolicy, "a policy, like `solution.policy`")
    example = 'policies by name, like `{"start": game.start}`'
    require_kind("against", against, Mapping, example)
    for other in against.values():
        require_kind("against", other, TokenPolicy, example)
    require_count("samples", samples, least=4)
    require_generator(rng)
    prompts, engine = game.prompts, game.engine
    own = sample(policy, prompts, samples, rng, engine)
    others = {n: sample(other, prompts, samples, rng, engine) for n, other in against.items()}
    tables = {name: _table(game, own, met, samples) for name, met in others.items()}
    self_play = _table(game, own, own, samples)
    rivals = [-table.swapaxes(1, 2) for table in tables.values()]
    surprise = -policy.log_probs(own).sum(axis=1)
    return Report(
        {name: _win_rate(table) for name, table in tables.items()},
        {name: _mean(policy.kl(o, own).sum(axis=1), samples) for name, o in against.items()},
        _mean(surprise, samples),
        _mean(own.lengths.astype(np.float64), samples),
        _gap(self_play, rivals, rng),
        averaging(_preferences(game, own, self_play)),
    )


def _table(game: TextPreferenceGame, own: Responses, met: Responses, samples: int) -> Array:
    """The payoffs `P(own_i > met_j) - 1/2`, `(X, samples, samples)`."""
    # Equal responses are not compared; their 0 is a tie.
    i, j, payoff = game.compare(own, met)
    table = np.zeros((len(game.prompts), samples, samples))
    # The responses to a prompt stand together, `samples` of them.
    table[own.prompt_of[i], i % samples, j % samples] = payoff
    return table


def _mean(values: Array, samples: int) -> Estimate:
    # Lengths, entropies and divergences are not negative.
    return _over_prompts(values.reshape(-1, samples), bounds=(0.0, np.inf))


def _over_prompts(each: Array, *more: Array, bounds: tuple[float, float]) -> Estimate:
    """The mean of `each` `(X, samples)`, for these prompts.

    The variances of `more`, arrays of the same kind, are added to its own.
    """
    variances = sum(part.var(axis=1, ddof=1) / part.shape[1] for part in (each, *more))
    error = float(np.sqrt(np.sum(variances)) / len(each))
    # The draws are independent, also those to one prompt. Each prompt has a mean of its own.
    return Estimate(float(each.mean()), error, each.size, bounds, each.size - len(each))


def _win_rate(table: Array) -> Estimate:
    """The win rate from payoffs `(X, samples, samples)`.

    Both sides were drawn, so the error has two parts (a two-sample U-statistic).
    """
    return _over_prompts(0.5 + table.mean(axis=2), table.mean(axis=1), bounds=(0.0, 1.0))


def _gap(self_play: Array, rivals: Sequence[Array], rng: np.random.Generator) -> Estimate | None:
    """The estimated gap from the policy's payoffs against itself `(X, samples, samples)`.

    `rivals` has arrays of the same shape, `[x, r, i] = P(r > own_i) - 1/2`.
    """
    draws = np.ones(self_play.shape[1], dtype=np.int64)
    others = np.concatenate([self_play[:, :0], *rivals], axis=1)
    tables = zip(self_play, others, strict=True)
    return estimated_gap((Payoffs(own, draws, other) for own, other in tables), rng)


def _preferences(game: TextPreferenceGame, own: Responses, self_play: Array) -> Iterator[Array]:
    """The preferences of the policy's different responses to each prompt, from their payoffs."""
    for x, table in enumerate(self_play):
        rows = np.flatnonzero(own.prompt_of == x)
        ids = (game.start.decoding.content(own.ids(int(row))) for row in rows)
        yield distinct(0.5 + table, [game.decode(each) for each in ids])
