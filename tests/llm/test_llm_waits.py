"""Drawing and scoring compute little twice and wait seldom; the numbers stay the same."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

import mpo_llm as ml
import tiny
from architectures import (
    LONG,
    RESPONSES,
    alone,
    cohere,
    gemma2,
    gpt2,
    granite,
    llama,
    policy,
    rollouts,
    transformed,
)
from mpo_llm.config import StepConfig
from mpo_llm.engines import autoregressive
from mpo_llm.networks.final import Final
from mpo_llm.step import terms
from mpo_llm.step.parts import Limits
from mpo_llm.step.scoring import hidden_states
from mpo_llm.step.terms import table
from mpo_llm.training.assemble import network


@pytest.mark.parametrize("size", [5, 256, 600, 1024])
def test_the_inverse_cdf_is_exact(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks or in one, with ids that are impossible at both ends of blocks."""
    rng = np.random.default_rng(0)
    probs = torch.softmax(3 * torch.from_numpy(rng.standard_normal((3000, size))), -1)
    impossible = torch.from_numpy(rng.random((3000, size)) < 0.4)
    impossible[:, size // 2] = False
    probs = probs.masked_fill(impossible, 0.0)
    uniforms = torch.from_numpy(rng.random(3000))
    uniforms[:2] = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    cdf = probs.cumsum(-1)
    expected = (cdf / cdf[:, -1:] <= uniforms[:, None]).sum(-1)
    for block in (256, 7):
        monkeypatch.setattr(autoregressive, "BLOCK", block)
        for precise in (probs, probs.float()):
            ids = autoregressive.inverse_cdf(precise, uniforms)
            assert torch.equal(ids, expected)
            assert (precise.gather(1, ids[:, None]) > 0.0).all()


@pytest.mark.parametrize("references", [0, 1, 2])
def test_terms_have_the_gradient_of_their_definition(references: int) -> None:
    torch.manual_seed(0)
    z = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    others = [torch.randn(5, 7, dtype=torch.float64) for _ in range(references)]
    tokens = torch.tensor([0, 6, 3, 3, 1])
    given = [lambda r=r: r for r in others]
    assert torch.autograd.gradcheck(lambda x: table(x, tokens, given), z)
    log_p = torch.log_softmax(z, -1)
    lines = [log_p]
    for r in others:
        apart = log_p - torch.log_softmax(r, -1)
        lines += [apart, (log_p.exp() * apart).sum(-1, keepdim=True).expand(5, 7)]
    expected = torch.stack([line.gather(1, tokens[:, None])[:, 0] for line in lines])
    torch.testing.assert_close(table(z, tokens, given), expected, atol=1e-14, rtol=0.0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_kernels_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the graphs that are traced; what a compiler makes of them takes minutes here."""
    made = torch.compile
    monkeypatch.setattr(torch, "compile", partial(made, backend="aot_eager"))
    terms._kernel.cache_clear()
    torch.manual_seed(0)
    z = torch.randn(5, 700, dtype=torch.float64, requires_grad=True)
    others = [torch.randn(5, 700, dtype=torch.float64) for _ in range(2)]
    factors = torch.randn(5, 5, dtype=torch.float64)
    found = []
    for compiled in (False, True):
        values = table(z, torch.arange(5), [lambda r=r: r for r in others], compiled=compiled)
        found.append((values, *torch.autograd.grad((factors * values).sum(), z)))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, atol=1e-12, rtol=0.0)
    terms._kernel.cache_clear()


def test_a_compiler_that_fails_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def made(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found. Look elsewhere.")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: made)
    terms._kernel.cache_clear()
    given = tiny.config(tmp_path, model={"compile": True})
    with pytest.raises(ValueError, match=r"leave out `model.compile`. It says: No working C\+\+ "):
        network(given, torch.device("cpu"))
    terms._kernel.cache_clear()


def test_small_kls_keep_their_digits() -> None:
    """In single precision, of policies that are close together and far from 0."""
    torch.manual_seed(0)
    z = 20.0 + 3.0 * torch.randn(8, 5000)
    other = z + 0.01 * torch.randn(8, 5000) - 7.0
    tokens = torch.arange(8)
    single, double = (
        table(a, tokens, [lambda b=b: b])[2] for a, b in ((z, other), (z.double(), other.double()))
    )
    assert double.max() < 1e-4
    torch.testing.assert_close(single.double(), double, atol=1e-6, rtol=0.0)


def test_what_is_impossible_has_no_gradient_and_infinite_kls_stay() -> None:
    z = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]], dtype=torch.float64, requires_grad=True)
    both = torch.tensor([[1.0, 0.0, -torch.inf, 0.0]], dtype=torch.float64)
    found = table(z, torch.tensor([1]), [lambda: both])
    assert torch.isfinite(found).all()
    (slope,) = torch.autograd.grad(found.sum(), z)
    assert torch.isfinite(slope).all()
    assert slope[0, 2] == 0.0
    assert table(z, torch.tensor([1]), [lambda: both[:, [2, 0, 1, 3]]])[2].item() == torch.inf


@pytest.mark.parametrize(
    ("build", "final"),
    [
        (llama, Final()),
        (gemma2, Final(cap=0.5)),
        (cohere, Final(0.3)),
        (granite, Final(1.0 / 7.0)),
    ],
)
def test_a_cap_or_a_scale_stands_behind_the_head(build: Any, final: Final) -> None:
    """States are those of the trunk, `(M, d)`, and no logits of all positions."""
    model = build()
    p = policy(model)
    assert p.network._final == final  # type: ignore[attr-defined]
    assert hidden_states(p, RESPONSES).states[0].shape == (RESPONSES.mask.sum(), 16)
    expected = alone(model, RESPONSES)
    found = p.log_probs(RESPONSES)
    for n, row in enumerate(expected):
        np.testing.assert_allclose(found[n, : len(row)], row, atol=1e-12)


class Twisted(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits + 0.1 * logits.roll(1, -1)


def test_what_no_cap_and_no_scale_explains_is_left_to_the_model() -> None:
    model = llama()
    model.register_forward_hook(
        lambda module, inputs, output: output.__setitem__("logits", Twisted()(output["logits"]))
    )
    p = policy(model)
    assert p.network._final is None  # type: ignore[attr-defined]
    assert hidden_states(p, RESPONSES).states[0].shape == (RESPONSES.mask.sum(), 11)


@pytest.mark.parametrize("prompts", [LONG, ((7, 2), (3, 4), (5, 8))], ids=["unlike", "alike"])
def test_looking_seldom_changes_nothing(prompts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is drawn, nor what is counted, nor how late rows that have ended leave."""
    p = policy(gpt2(), ml.Decoding(8, eos=(0, 3)))
    found = []
    for full, room in ((0.75, 64), (1.0, 1), (0.0, 3)):
        monkeypatch.setattr(autoregressive, "FULL", full)
        monkeypatch.setattr("mpo_llm.networks.decoders.ROOM", room)
        before = p.network.tokens_passed[0]
        drawn = ml.Autoregressive()(p, prompts, 6, np.random.default_rng(0))
        found.append((drawn, p.network.tokens_passed[0] - before))
    (one, tokens), *others = found
    assert len(set(one.responses.lengths.tolist())) > 3
    assert tokens == 3 + one.responses.lengths.sum() - 18
    for other, passed in others:
        np.testing.assert_array_equal(other.responses.tokens, one.responses.tokens)
        np.testing.assert_allclose(other.log_probs, one.log_probs, atol=1e-12)
        assert passed == tokens


ROWS = ml.Responses.of_ids(
    ((1,) * 40, (2, 3), (4,) * 9),
    [0, 0, 0, 1, 1, 1, 1, 2, 2],
    [(5,) * n for n in (1, 2, 30, 1, 25, 26, 2, 7, 8)],
)
"""Responses of unlike lengths, to prompts of unlike lengths."""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tokens", [1, 50, 90, 10_000])
@pytest.mark.parametrize("rows", [None, 2])
def test_parts_are_within_their_limits(shared: bool, tokens: int, rows: int | None) -> None:
    """Each response is in one part, and no two neighbours would fit into one."""
    split = Limits(rows, tokens).split(ROWS, shared=shared)
    assert sorted(np.concatenate(split).tolist()) == list(range(9))

    def cost(part: Any) -> int:
        sizes = np.array([len(ROWS.prompts[x]) for x in ROWS.prompt_of[part]])
        answers = ROWS.lengths[part] - 1
        if not shared:
            return len(part) * int((sizes + answers).max())
        return len(set(ROWS.prompt_of[part])) * int(sizes.max()) + len(part) * int(answers.max())

    for part, following in zip(split, [*split[1:], None], strict=True):
        assert cost(part) <= tokens or len(part) == 1
        assert rows is None or len(part) <= rows
        if following is not None and rows is None:
            assert cost(np.append(part, following[0])) > tokens


def test_parts_by_length_have_little_padding() -> None:
    """Compared with parts of as many rows in the order of the responses."""
    rng = np.random.default_rng(0)
    responses = ml.Responses.of_ids(
        ((1,),), [0] * 64, [(2,) * int(n) for n in rng.integers(1, 65, size=64)]
    )

    def run(split: Any) -> int:
        return sum(len(part) * int(responses.lengths[part].max()) for part in split)

    by_rows = Limits(8).split(responses, shared=False)
    by_tokens = Limits(None, 300).split(responses, shared=False)
    needed = int(responses.lengths.sum())
    assert run(by_rows) > 1.5 * needed
    assert run(by_tokens) < 1.15 * needed


@pytest.mark.parametrize("tokens", [1, 7, 12])
def test_parts_by_tokens_change_nothing(tokens: int) -> None:
    """Neither states and log-probabilities, which go back to their places, nor KLs, nor a step."""
    p = policy(gpt2())
    some = replace(p, proximal=ml.Proximal(micro_tokens=tokens))
    assert len(some.limits.split(RESPONSES, shared=True)) > 1
    for one, two in zip(
        hidden_states(p, RESPONSES).states, hidden_states(some, RESPONSES).states, strict=True
    ):
        torch.testing.assert_close(two, one, atol=1e-12, rtol=0.0)
    magnet = transformed(p)
    np.testing.assert_allclose(some.kl(magnet, RESPONSES), p.kl(magnet, RESPONSES), atol=1e-12)
    q = rollouts(p)
    one, two = (x.mirror_step(q, magnet, eta=1.0, alpha=0.1) for x in (p, some))
    for name, w in one.weights.items():
        torch.testing.assert_close(two.weights[name], w, atol=1e-9, rtol=0.0)


def test_a_limit_of_tokens_needs_a_sum_over_responses() -> None:
    with pytest.raises(ValueError, match="`micro_tokens` needs a sum over responses"):
        ml.Proximal(ml.Squared(), micro_tokens=100)
    with pytest.raises(ValueError, match="`micro_tokens` must be a whole number"):
        ml.Proximal(micro_tokens=0)
    with pytest.raises(ValueError, match=r"needs `step\.micro_tokens: null`"):
        StepConfig(objective="squared", micro_batch=None, micro_tokens=100)


def test_caches_are_gone_when_the_last_token_is_drawn() -> None:
    """Python's search for circles of references is not needed: it may come long after."""

    def caches() -> int:
        return sum(type(found) is DynamicLayer for found in gc.get_objects())

    p = policy(llama())
    gc.collect()
    gc.disable()
    try:
        before = caches()
        ml.sample(p, LONG, 3, np.random.default_rng(0))
        assert caches() == before
    finally:
        gc.enable()
