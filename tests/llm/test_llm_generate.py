"""Engines: what is drawn does not depend on how, and who sees other numbers is corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import mpo_llm as ml
from languages import ENDED, PROMPTS, preferences, transformer
from mpo_llm.responses import Ids

LONG = ((4,), (5, 1), (4, 2), (5,))
"""Of different lengths, out of order."""


def start(**options: float) -> ml.TokenPolicy:
    return ml.TokenPolicy.of(transformer(), replace(ENDED, **options))


@pytest.mark.parametrize("batch", [1, 7, 12, 100])
def test_batches_do_not_matter(batch: int) -> None:
    """Nor that rows leave when they have ended."""
    p = start()
    one, two = (
        engine(p, LONG, 6, np.random.default_rng(0))
        for engine in (ml.Autoregressive(), ml.Autoregressive(batch))
    )
    assert len(set(one.responses.lengths.tolist())) > 1
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
    np.testing.assert_array_equal(one.responses.prompt_of, np.repeat(np.arange(4), 6))
    np.testing.assert_allclose(one.log_probs, two.log_probs, atol=1e-12)


def test_an_engine_reports_the_log_probs_it_drew_with() -> None:
    p = start(temperature=0.7)
    drawn = ml.Autoregressive()(p, LONG, 6, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.log_probs, p.log_probs(drawn.responses), atol=1e-12)


class Hotter:
    """An engine that draws at another temperature, and says so."""

    def __call__(
        self, policy: ml.TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
    ) -> ml.Drawn:
        decoding = replace(policy.decoding, temperature=1.5)
        return ml.Autoregressive()(replace(policy, decoding=decoding), prompts, count, rng)


def test_responses_of_another_distribution_are_reweighted() -> None:
    """With many samples the shares become the policy's probabilities, and the mismatch is said."""
    p = start()
    game = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2), 4000)
    assert game.sampled is not None
    sampled = replace(game.sampled, truncation=100.0, engine=Hotter())
    q = sampled.feedback(p, rng=np.random.default_rng(0))
    expected = np.exp(q.behaviour.sum(axis=1)) / 2
    np.testing.assert_allclose(q.weights, expected, atol=0.01)
    np.testing.assert_allclose(np.bincount(q.responses.prompt_of, q.weights), [0.5, 0.5])
    assert q.mismatch > 0.3
    plain = game.feedback(p, rng=np.random.default_rng(0))
    assert plain.mismatch < 1e-12
    assert np.abs(plain.weights - np.exp(plain.behaviour.sum(axis=1)) / 2).max() < 0.01


def test_without_the_correction_they_would_not_be() -> None:
    """The engine is far enough off for the test above to mean something."""
    p = start()
    drawn = Hotter()(p, PROMPTS, 4000, np.random.default_rng(0)).responses
    distinct, where = drawn.distinct()
    share = np.bincount(where) / len(drawn)
    assert np.abs(share - np.exp(p.log_probs(distinct).sum(axis=1)) / 2).max() > 0.02


def test_a_pool_of_other_prompts_does_not_shrink_advantages() -> None:
    """A step that asks one of two prompts, both of them in the pool: advantages are the exact
    ones."""
    p = start()
    game = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2), 1000)
    exact = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2)).feedback(p)
    known = {
        (int(of), exact.responses.ids(i)): a
        for i, (of, a) in enumerate(
            zip(exact.responses.prompt_of, exact.advantages[:, 0], strict=True)
        )
    }
    assert game.sampled is not None
    rng = np.random.default_rng(0)
    pool = ml.Pool.empty().joined(game.feedback(p, rng=rng), 0)
    q = replace(game.sampled, prompts_per_step=1).feedback(p, rng=rng, pool=pool)
    assert len(np.unique(q.responses.prompt_of)) == 1
    expected = [known[int(of), q.responses.ids(i)] for i, of in enumerate(q.responses.prompt_of)]
    np.testing.assert_allclose(q.advantages[:, 0], expected, atol=0.05)
    assert np.abs(expected).max() > 0.2
