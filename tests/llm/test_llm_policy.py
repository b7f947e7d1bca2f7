"""The token-level policy against plain computations, and the bugs that others shipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mpo_llm as ml
from architectures import (
    LONG,
    RESPONSES,
    Whole,
    adapted,
    alone,
    gemma2,
    gpt2,
    gpt_neo,
    llama,
    mpt,
    policy,
    rollouts,
    transformed,
)
from languages import ENDED, FIXED, PROMPTS, game, table_network
from mpo_llm.step import scoring


@pytest.mark.parametrize("build", [gpt2, llama, gemma2, gpt_neo, mpt, lambda: adapted(gpt2())])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_each_response_alone(build: Any, temperature: float) -> None:
    """Positions under padding, the mask and the temperature."""
    model = build()
    p = policy(model, ml.Decoding(3, eos=0, temperature=temperature))
    found = p.log_probs(RESPONSES)
    for row, expected in enumerate(alone(model.eval(), RESPONSES, temperature)):
        np.testing.assert_allclose(found[row, : len(expected)], expected, atol=1e-10)
        assert not found[row, len(expected) :].any()


@pytest.mark.parametrize("build", [gpt2, llama, gemma2])
def test_the_cache_draws_what_the_whole_model_draws(build: Any) -> None:
    model = build()

    decoding = ml.Decoding(5, eos=0, temperature=1.3)
    cached = policy(model, decoding)
    whole = ml.TokenPolicy.of(ml.PlainNetwork(Whole(model)), decoding)
    one, two = (ml.sample(p, LONG, 50, np.random.default_rng(3)) for p in (cached, whole))
    np.testing.assert_array_equal(one.tokens, two.tokens)
    np.testing.assert_array_equal(one.lengths, two.lengths)
    assert len(set(one.lengths.tolist())) > 2


@pytest.mark.parametrize("decoding", [FIXED, ENDED, replace(ENDED, temperature=0.7)])
def test_samples_follow_the_exact_distribution(decoding: ml.Decoding) -> None:
    language = game(table_network(), decoding, prompts=PROMPTS)
    p = language.start
    drawn = ml.sample(p, PROMPTS, 20_000, np.random.default_rng(0))
    listed = {ids: i for i, ids in enumerate(ml.all_responses(decoding))}
    counts = np.zeros((2, len(listed)))
    np.add.at(counts, (drawn.prompt_of, [listed[drawn.ids(i)] for i in range(len(drawn))]), 1.0)
    probs = language.table(p).probs
    np.testing.assert_allclose(np.exp(p.log_probs(language.every).sum(1)).sum(), 2.0, atol=1e-9)
    deviation = (counts / 20_000 - probs) / np.sqrt(probs / 20_000)
    assert np.abs(deviation).max() < 5.0


def test_pad_and_eos_in_the_prompt_are_tokens_like_others() -> None:
    """Masks come from lengths: the pad id 0, which is also `eos`, may stand anywhere in a prompt,
    and another prompt's length changes nothing."""
    model = gpt2()
    prompts = ((0, 5, 0), (0,), (6, 1, 0, 0, 2))
    r = ml.Responses.of_ids(prompts, [0, 1, 2], [(3, 0), (0,), (4, 1, 0)])
    found = policy(model).log_probs(r)
    for row, expected in enumerate(alone(model.eval(), r)):
        np.testing.assert_allclose(found[row, : len(expected)], expected, atol=1e-10)


def test_a_response_goes_on_after_ids_that_mean_nothing() -> None:
    """Without `eos`, the pad id is a symbol like the others."""
    drawn = ml.sample(policy(gpt2(), ml.Decoding(4)), LONG, 40, np.random.default_rng(0))
    assert (drawn.lengths == 4).all()
    assert (drawn.tokens == 0).any()


def test_kl_is_over_tokens_and_not_over_padding() -> None:
    one, two = policy(gpt2()), transformed(policy(gpt2()))
    two = replace(one, parts=two.parts)
    kl = one.kl(two, RESPONSES)
    assert (kl[~RESPONSES.mask] == 0.0).all()
    assert (kl[RESPONSES.mask] > 0.0).all()
    for row in range(len(RESPONSES)):
        single = RESPONSES.take(np.array([row]))
        np.testing.assert_allclose(one.kl(two, single).sum(), kl[row].sum(), atol=1e-12)


def test_terms_of_tokens_are_those_of_each_pair() -> None:
    """Against two references at once as against one after the other."""
    p = policy(gpt2())
    others = [replace(p, parts=x.parts) for x in (transformed(p), transformed(transformed(p)))]
    terms = scoring.token_terms(p, RESPONSES, others)
    own = p.log_probs(RESPONSES)
    np.testing.assert_array_equal(scoring.per_token(RESPONSES, terms.log_probs), own)
    for other, ratio, kl in zip(others, terms.log_ratios, terms.kls, strict=True):
        apart = own - other.log_probs(RESPONSES)
        np.testing.assert_allclose(scoring.per_token(RESPONSES, ratio), apart, atol=1e-12)
        np.testing.assert_array_equal(scoring.per_token(RESPONSES, kl), p.kl(other, RESPONSES))
    none = scoring.token_terms(p, RESPONSES.take(slice(0, 0)), others)
    assert [len(x) for x in (none.log_probs, *none.log_ratios, *none.kls)] == [0] * 5


def test_exact_kl_of_responses() -> None:
    """The mean of the per-token KL over the policy's own responses is the KL of the responses."""
    language = game(table_network(), ENDED, prompts=PROMPTS)
    one, two = language.start, transformed(language.start)
    per_token = one.kl(two, language.every)
    weights = np.exp(one.log_probs(language.every).sum(1)) / 2
    np.testing.assert_allclose(
        weights @ per_token.sum(1), language.divergence(one, two), atol=1e-10
    )


def test_dropout_is_off() -> None:
    model = gpt2(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
    p = policy(model)
    np.testing.assert_array_equal(p.log_probs(RESPONSES), p.log_probs(RESPONSES))
    np.testing.assert_allclose(p.log_probs(RESPONSES), policy(gpt2()).log_probs(RESPONSES))


def test_a_mixture_mixes_next_token_distributions() -> None:
    p = policy(gpt2(), ml.Decoding(3, eos=0, temperature=0.7))
    r, s = transformed(p), transformed(transformed(p))
    mixed = p.mix(r, 0.3)
    prefix = ml.Responses.of_ids(LONG, [0] * 11, [(5, i) for i in range(11)])
    logs = {x: x.log_probs(prefix)[:, 1] for x in (p, r, s, mixed)}
    expected = 0.7 * logs[p] + 0.3 * logs[r]
    np.testing.assert_allclose(logs[mixed], expected - np.log(np.exp(expected).sum()), atol=1e-10)
    twice = mixed.mix(s, 0.5)
    assert [w for w, _ in twice.parts] == pytest.approx([0.35, 0.15, 0.5])
    np.testing.assert_allclose(p.mix(r, 0.0).log_probs(prefix), p.log_probs(prefix), atol=1e-12)
    assert len(mixed.mix(p, 0.5).parts) == 2
    np.testing.assert_array_equal(
        ml.sample(mixed, LONG, 9, np.random.default_rng(0)).tokens,
        ml.sample(mixed, LONG, 9, np.random.default_rng(0)).tokens,
    )


def test_refusals() -> None:
    p, other = policy(gpt2()), policy(gpt2())
    with pytest.raises(ValueError, match=r"`weight` must lie in \[0, 1\]"):
        p.mix(p, 1.5)
    with pytest.raises(ValueError, match="same network"):
        p.mix(other, 0.5)
    crowd = p
    for _ in range(7):
        crowd = crowd.mix(transformed(p), 0.5)
    with pytest.raises(ValueError, match="WeightEma"):
        crowd.mix(transformed(p), 0.5)
    with pytest.raises(ValueError, match="without a magnet"):
        p.mirror_step(rollouts(p), None, eta=1.0, alpha=0.1)
    with pytest.raises(ValueError, match="context is 12"):
        ml.sample(p, [(1,) * 10], 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="context is 12"):
        p.log_probs(ml.Responses.of_ids([(1,) * 10], [0], [(1, 2, 3)]))
    with pytest.raises(ValueError, match="Every prompt needs a token"):
        ml.sample(p, [()], 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="an empty text is an end alone"):
        ml.Responses.of_ids(LONG, [0], [()])
    with pytest.raises(ValueError, match="never produced"):
        policy(gpt2(), ml.Decoding(3, vocabulary=4)).log_probs(RESPONSES)
    with pytest.raises(ValueError, match="no parameter"):
        ml.TransformersNetwork(gpt2().requires_grad_(False))
    for wrong, match in (
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "temperature": 0.0}, "temperature"),
        ({"max_tokens": 3, "temperature": float("nan")}, "temperature"),
        ({"max_tokens": 3, "vocabulary": 0}, "vocabulary"),
        ({"max_tokens": 3, "eos": 5, "vocabulary": 5}, "eos"),
    ):
        with pytest.raises(ValueError, match=match):
            ml.Decoding(**wrong)
