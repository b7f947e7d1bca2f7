"""The mirror step of a token-level policy: what it runs, what it leaves, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mpo_llm as ml
from architectures import (
    LONG,
    RESPONSES,
    Whole,
    gemma2,
    gpt2,
    gpt_neo,
    llama,
    mpt,
    policy,
    rollouts,
    transformed,
)
from languages import FIXED, game, table_network
from mpo_llm.step import scoring


@pytest.mark.parametrize("kept", [0, 6, 100])
def test_chunks_change_nothing(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither log-probabilities nor the step, in whose backward pass none, some or all chunks are
    computed again."""
    p = policy(gpt2())
    q = rollouts(p)
    whole, step = p.log_probs(RESPONSES), p.mirror_step(q, p, eta=1.0, alpha=0.1)
    monkeypatch.setattr(scoring, "CHUNK", 2 * 11 * 8)
    monkeypatch.setattr(scoring, "KEPT", kept)
    np.testing.assert_allclose(p.log_probs(RESPONSES), whole, atol=1e-12)
    chunked = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    for name, w in step.weights.items():
        torch.testing.assert_close(chunked.weights[name], w, atol=1e-9, rtol=0.0)


def test_gradient_checkpointing_changes_neither_step_nor_cache() -> None:
    """Also with dropout in the model, which is never on."""
    plain, saving = gpt2(), gpt2(resid_pdrop=0.5)
    enable = "activation_checkpointing_enable"  # its name from transformers 5.2x on
    getattr(saving, enable if hasattr(saving, enable) else "gradient_checkpointing_enable")()
    p, s = policy(plain), policy(saving)
    one, two = (x.mirror_step(rollouts(x), x, eta=1.0, alpha=0.1) for x in (p, s))
    for name, w in one.weights.items():
        torch.testing.assert_close(two.weights[name], w, atol=1e-12, rtol=0.0)
    widths: list[int] = []
    saving.transformer.wpe.register_forward_hook(
        lambda module, inputs, output: widths.append(inputs[0].shape[-1])
    )
    ml.sample(s, LONG, 5, np.random.default_rng(0))
    assert widths == [4, 1, 1]


@pytest.mark.parametrize("build", [gpt2, llama, gemma2, gpt_neo, mpt])
def test_a_prompt_is_run_once(build: Any) -> None:
    """However many responses it has, and gradients flow through it. In double precision Gemma 2 and
    MPT return NaN for prompts that are padded, so the probe leaves this way out."""
    model = build()
    p = policy(model)
    q = rollouts(p)
    rows = q.responses.input_rows()
    answered = len(np.unique(q.responses.prompt_of))
    run: list[int] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: run.append(len(inputs[0]))
    )
    stepped = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    shared = [answered, len(rows[0])]
    assert run[:2] == (shared if build in (gpt2, llama, gpt_neo) else [len(rows[0])] * 2)

    whole = ml.TokenPolicy.of(ml.PlainNetwork(Whole(model)), p.decoding)
    whole = whole.restored(
        {key.replace("part 0 ", "part 0 model."): value for key, value in p.arrays().items()}
    )
    again = whole.mirror_step(q, whole, eta=1.0, alpha=0.1)
    for name, w in stepped.weights.items():
        torch.testing.assert_close(again.weights[f"model.{name}"], w, atol=1e-10, rtol=0.0)


def test_hidden_states_are_computed_once() -> None:
    """By the policy that drew the responses; those of some responses are as if they were alone."""
    p = replace(policy(llama()), proximal=ml.Proximal(micro_batch=2))
    language = ml.TextPreferenceGame(LONG, p, lambda _, a, b: np.full(len(a), 0.5), str, 4)
    q = language.feedback(p, rng=np.random.default_rng(0))
    assert q.hidden_states(p) is q.hidden
    other = replace(p, parts=(*p.parts, (0.0, p.weights)))
    assert q.hidden_states(other) is not q.hidden
    hotter = replace(p, decoding=replace(p.decoding, temperature=3.0))
    assert q.hidden_states(hotter).decoding.temperature == 3.0
    for rows in (slice(None), slice(1, 4), np.array([3, 0])):
        some = q.take(rows)
        again = scoring.hidden_states(p, some.responses).states[0]
        torch.testing.assert_close(some.hidden_states(p).states[0], again, atol=1e-12, rtol=0.0)
    np.testing.assert_allclose(q.behaviour, p.log_probs(q.responses), atol=1e-12)


def test_steps_do_not_change_what_came_before() -> None:
    p = policy(gpt2())
    before = p.log_probs(RESPONSES)
    magnet, opponent = p.snapshot(), p
    q = rollouts(p)
    for _ in range(2):
        stepped = p.mirror_step(q, magnet, eta=1.0, alpha=0.1)
        again = p.mirror_step(q, magnet, eta=1.0, alpha=0.1)
        np.testing.assert_array_equal(stepped.log_probs(RESPONSES), again.log_probs(RESPONSES))
        stepped.mirror_step(rollouts(stepped), magnet, eta=1.0, alpha=0.1)
    for unchanged in (p, magnet, opponent):
        np.testing.assert_array_equal(unchanged.log_probs(RESPONSES), before)


def test_a_step_from_a_mixture_is_pulled_to_the_mixture() -> None:
    """Nash-MD: with nothing to gain, the step from `m` is the nearest a network comes to `m`."""
    proximal = ml.Proximal(ml.SequenceLevel(), ml.LBFGS(300, 1e-8))
    language = game(table_network(), FIXED, proximal)
    mixed = language.start.mix(transformed(language.start), 0.4)
    q = language.feedback(mixed)
    nothing = replace(q, advantages=0.0 * q.advantages)
    stepped = mixed.mirror_step(nothing, None, eta=1.0, alpha=0.0)
    np.testing.assert_allclose(
        language.table(stepped).probs, language.table(mixed).probs, atol=1e-5
    )


def test_nan_never_travels() -> None:
    p = policy(gpt2())
    broken = replace(p, parts=((1.0, {n: w * torch.nan for n, w in p.weights.items()}),))
    for attempt in (
        lambda: broken.log_probs(RESPONSES),
        lambda: ml.sample(broken, LONG, 2, np.random.default_rng(0)),
        lambda: broken.mirror_step(rollouts(p), None, eta=1.0, alpha=0.0),
        lambda: p.mirror_step(rollouts(p), broken, eta=1.0, alpha=0.1),
    ):
        with pytest.raises(FloatingPointError):
            attempt()
    q = rollouts(p)
    with pytest.raises(FloatingPointError, match="The loss of a mirror step is nan"):
        p.mirror_step(replace(q, advantages=q.advantages * np.nan), None, eta=1.0, alpha=0.0)
    assert np.isfinite(p.log_probs(RESPONSES)).all()


def test_impossible_tokens_cost_nothing() -> None:
    """A network may forbid tokens by a logit of -inf: neither KL nor gradient becomes NaN."""

    class Forbidding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ml.SmallTransformer(6, 5, width=16).double()

        def forward(self, ids: Tensor) -> Tensor:
            logits: Tensor = self.inner(ids)
            return logits.masked_fill(torch.arange(6) == 2, -torch.inf)

    start = ml.TokenPolicy.of(ml.PlainNetwork(Forbidding()), ml.Decoding(2, vocabulary=4))
    drawn = ml.sample(start, [(4,)], 30, np.random.default_rng(0))
    assert not (drawn.tokens == 2).any()
    stepped = start.mirror_step(rollouts(start, drawn), start, eta=1.0, alpha=0.1)
    assert np.isfinite(stepped.kl(start, drawn)).all()
