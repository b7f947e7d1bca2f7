"""The token-level policy against plain computations, and the bugs that others shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, FIXED, PROMPTS, game, table_network, transformer
from mpo_llm.step import scoring

LONG = ((7, 2, 9, 4), (3,), (5, 8))
"""Prompts of three lengths."""

RESPONSES = ml.Responses.of_ids(LONG, [0, 1, 1, 2], [(1, 2, 3), (4, 0), (6,), (2, 2, 2)])


def gpt2(**options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11,
        n_positions=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        **options,
    )
    return transformers.GPT2LMHeadModel(config).double()


def llama() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=12,
    )
    return transformers.LlamaForCausalLM(config).double()


def gemma2() -> Any:
    """Caps its logits after the head."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=12,
        final_logit_softcapping=0.5,
    )
    model = transformers.Gemma2ForCausalLM(config).double()
    with torch.no_grad():
        model.lm_head.weight.mul_(20.0)
    return model


def gpt_neo() -> Any:
    """Has windows that its configuration calls by another name."""
    torch.manual_seed(0)
    config = transformers.GPTNeoConfig(
        vocab_size=11,
        max_position_embeddings=12,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
    )
    return transformers.GPTNeoForCausalLM(config).double()


def mpt() -> Any:
    """Its biases count columns, masked ones too."""
    torch.manual_seed(0)
    config = transformers.MptConfig(
        vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=12
    )
    return transformers.MptForCausalLM(config).double()


class Whole(nn.Module):
    """The model without a cache: ids to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(ids, use_cache=False).logits
        return logits


def adapted(model: Any) -> Any:
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    return peft.get_peft_model(model, config)


def policy(
    model: nn.Module, decoding: ml.Decoding = ml.Decoding(3, eos=0), **options: Any
) -> ml.TokenPolicy:
    return ml.TokenPolicy.of(ml.TransformersNetwork(model, **options), decoding)


def alone(model: Any, responses: ml.Responses, temperature: float = 1.0) -> list[list[float]]:
    """Log-probabilities one response at a time: no padding, no mask, no chunk."""
    found = []
    for row in range(len(responses)):
        prompt, ids = responses.prompts[responses.prompt_of[row]], responses.ids(row)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0]
        logp = torch.log_softmax(logits / temperature, -1)
        found.append([logp[len(prompt) - 1 + t, y].item() for t, y in enumerate(ids)])
    return found


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


def transformed(p: ml.TokenPolicy) -> ml.TokenPolicy:
    """The same policy elsewhere."""
    generator = torch.Generator().manual_seed(1)
    moved = {
        n: w + 0.3 * torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for n, w in p.weights.items()
    }
    return replace(p, parts=((1.0, moved),))


def test_exact_kl_of_responses() -> None:
    """The mean of the per-token KL over the policy's own responses is the KL of the responses."""
    language = game(table_network(), ENDED, prompts=PROMPTS)
    one, two = language.start, transformed(language.start)
    per_token = one.kl(two, language.every)
    weights = np.exp(one.log_probs(language.every).sum(1)) / 2
    np.testing.assert_allclose(
        weights @ per_token.sum(1), language.divergence(one, two), atol=1e-10
    )


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither log-probabilities nor the step, whose chunks are recomputed in the backward pass."""
    p = policy(gpt2())
    q = rollouts(p)
    whole, step = p.log_probs(RESPONSES), p.mirror_step(q, p, eta=1.0, alpha=0.1)
    monkeypatch.setattr(scoring, "CHUNK", 2)
    np.testing.assert_allclose(p.log_probs(RESPONSES), whole, atol=1e-12)
    chunked = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    for name, w in step.weights.items():
        torch.testing.assert_close(chunked.weights[name], w, atol=1e-9, rtol=0.0)


def rollouts(p: ml.TokenPolicy, responses: ml.Responses = RESPONSES) -> ml.Rollouts:
    n = len(responses)
    gains = np.linspace(-1.0, 1.0, n)[:, None] * responses.mask
    return ml.Rollouts(responses, np.full(n, 1.0 / n), gains, p.log_probs(responses))


def test_lora_starts_at_its_base_and_leaves_it() -> None:
    """The first magnet is the base model; a step moves the policy away from it and the base, to
    which `get_base_model()` alone does *not* lead back, stays where it was."""
    base = gpt2()
    expected = alone(base.eval(), RESPONSES)
    p = policy(adapted(base))
    assert all("lora_" in name for name in p.weights)
    magnet = p.snapshot()
    for row, values in enumerate(expected):
        np.testing.assert_allclose(magnet.log_probs(RESPONSES)[row, : len(values)], values)
    stepped = replace(p, proximal=ml.Proximal(minimise=ml.Adam(rate=0.05))).mirror_step(
        rollouts(p), magnet, eta=1.0, alpha=0.1
    )
    assert stepped.kl(magnet, RESPONSES).sum() > 1e-3
    for row, values in enumerate(expected):
        np.testing.assert_allclose(magnet.log_probs(RESPONSES)[row, : len(values)], values)


def test_lora_is_the_merged_model() -> None:
    p = policy(adapted(gpt2()))
    stepped = replace(p, proximal=ml.Proximal(minimise=ml.Adam(rate=0.05))).mirror_step(
        rollouts(p), None, eta=1.0, alpha=0.0
    )
    fresh = adapted(gpt2())
    ml.TransformersNetwork(fresh).load(stepped.weights)
    merged = fresh.merge_and_unload().eval()
    for row, values in enumerate(alone(merged, RESPONSES)):
        np.testing.assert_allclose(
            stepped.log_probs(RESPONSES)[row, : len(values)], values, atol=1e-10
        )


def test_prompt_tuning_is_refused() -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match="injected adapters"):
        ml.TransformersNetwork(peft.get_peft_model(gpt2(), config))


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
    """However many responses it has, and gradients flow through it; not before a layer with a
    window, which would count what lies between."""
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
    assert run[:2] == (shared if build in (gpt2, llama) else [len(rows[0])] * 2)

    whole = ml.TokenPolicy.of(ml.PlainNetwork(Whole(model)), p.decoding)
    whole = whole.restored(
        {key.replace("part 0 ", "part 0 model."): value for key, value in p.arrays().items()}
    )
    again = whole.mirror_step(q, whole, eta=1.0, alpha=0.1)
    for name, w in stepped.weights.items():
        torch.testing.assert_close(again.weights[f"model.{name}"], w, atol=1e-10, rtol=0.0)


def test_what_was_read_is_not_read_again() -> None:
    """Where it was this policy that read it, and of some rows what is read of these alone."""
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


def test_dropout_is_off() -> None:
    model = gpt2(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train()
    p = policy(model)
    np.testing.assert_array_equal(p.log_probs(RESPONSES), p.log_probs(RESPONSES))
    np.testing.assert_allclose(p.log_probs(RESPONSES), policy(gpt2()).log_probs(RESPONSES))


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


def test_offloaded_copies_are_the_same_policies() -> None:
    p, q = policy(gpt2(), offload=True), policy(gpt2())
    one, two = (x.mirror_step(rollouts(x), x.snapshot(), eta=1.0, alpha=0.1) for x in (p, q))
    np.testing.assert_array_equal(
        one.snapshot().log_probs(RESPONSES), two.snapshot().log_probs(RESPONSES)
    )


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
    with pytest.raises(ValueError, match="an empty text is `eos` alone"):
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


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    """Policy, magnet, previous policy, optimiser, pool and random numbers: all in the file."""
    solver = mg.MMD(1.0, 0.1, magnet=mg.Every(2), feedback=ml.Replayed(mg.optimistic, steps=3))

    def language() -> ml.EnumerableGame:
        return game(transformer(), ENDED, prompts=PROMPTS, samples=8)

    whole = mg.solve(language(), solver, 5)
    path = mg.solve(language(), solver, 3).save(tmp_path / "run")
    fresh = language()
    loaded = mg.Solution.load(path, fresh)
    assert not np.array_equal(
        loaded.state.magnet.log_probs(fresh.every), loaded.policy.log_probs(fresh.every)
    )
    resumed = mg.solve(fresh, solver, 5, resume=loaded)
    for name, w in whole.policy.weights.items():
        torch.testing.assert_close(resumed.policy.weights[name], w, atol=0.0, rtol=0.0)
    for name, array in whole.state.policy.arrays().items():
        np.testing.assert_array_equal(resumed.state.policy.arrays()[name], array)
    np.testing.assert_array_equal(resumed.trace["gap"][-1], whole.trace["gap"][-1])


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = mg.solve(game(transformer()), mg.MPO(1.0, 0.1, 2), 1).save(tmp_path / "run")
    with pytest.raises(ValueError, match="not a saved solution of this game"):
        mg.Solution.load(path, game(transformer(layers=1)))


def test_half_precision_is_saved_bit_for_bit() -> None:
    p = policy(gpt2().to(torch.bfloat16))
    again = p.restored(p.arrays())
    for name, w in p.weights.items():
        assert again.weights[name].dtype == torch.bfloat16
        torch.testing.assert_close(again.weights[name], w, atol=0.0, rtol=0.0)
    stepped = p.mirror_step(rollouts(p), p, eta=1.0, alpha=0.1)
    assert all(v.dtype == torch.float32 for v in stepped.moments.second.values())


def test_masters_run_as_their_rounding() -> None:
    """In drawing, reading and scoring; the network's own weights stay as they were."""
    p = policy(gpt2().to(torch.bfloat16))
    q = rollouts(p)
    masters = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    halves = {n: w.to(torch.bfloat16) for n, w in masters.weights.items()}
    assert all(w.dtype == torch.float32 for w in masters.weights.values())
    before = {n: w.detach().clone() for n, w in p.network.trainable.items()}
    one, two = (
        ml.Autoregressive()(x, PROMPTS, 3, np.random.default_rng(0))
        for x in (masters, replace(masters, parts=((1.0, halves),)))
    )
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
    np.testing.assert_array_equal(one.log_probs, two.log_probs)
    read = masters.log_probs(q.responses)
    np.testing.assert_array_equal(
        read, replace(masters, parts=((1.0, halves),)).log_probs(q.responses)
    )
    assert not np.array_equal(read, p.log_probs(q.responses))
    for name, w in p.network.trainable.items():
        torch.testing.assert_close(w.detach(), before[name], atol=0.0, rtol=0.0)


def test_importing_the_core_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import mpo_games, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
