"""Models of many architectures: what the probe decides, and a part of `docs/tried_models.md`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mpo_llm as ml
import tiny_models
import tried_models

MEMBERS = [
    "llama",
    "mistral",  # windows
    "llama4_text",  # chunks
    "gpt_oss",
    "mpt",  # biases by distance
    "opt",  # dropout inside its layers
    "phi3, longrope",
    "qwen3_next",  # recurrent layers
    "mamba",
    "bert, not a decoder",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", MEMBERS)
def test_the_page_is_what_is_found(label: str) -> None:
    kind, given = tried_models.cases()[label]
    found = tried_models.tried(kind, **given)
    assert found.faults == ()
    page = tried_models.PAGE.read_text(encoding="utf-8")
    if f"transformers {transformers.__version__}," in page:
        assert re.sub("^. `.*?`", f"| `{label}`", found.line) in page


def test_the_page_has_no_fault_and_every_architecture() -> None:
    page = tried_models.PAGE.read_text(encoding="utf-8")
    assert "fault:" not in page
    if f"transformers {transformers.__version__}," in page:
        assert set(re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)) == set(tried_models.cases())


def network(kind: str, **given: Any) -> ml.TransformersNetwork:
    return ml.TransformersNetwork(tiny_models.build(kind, **given))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("bert", {"is_decoder": False}, "BertLMHeadModel is not causal.*`is_decoder: true`"),
        ("xlm", {}, "XLMWithLMHeadModel is not causal"),
        ("paligemma", {}, "PaliGemmaForConditionalGeneration is not causal"),
    ],
)
def test_models_that_are_not_causal_are_refused(kind: str, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        network(kind, **given)


def test_an_error_inside_a_model_becomes_a_sentence() -> None:
    model = tiny_models.build("llama")
    del model.model.layers[0].self_attn.q_proj
    with pytest.raises(
        ValueError, match=r"LlamaForCausalLM cannot be run on token ids alone: .*q_"
    ):
        ml.TransformersNetwork(model)


def test_log_probabilities_that_depend_on_neighbours_are_refused() -> None:
    """As where a kernel mixes the rows of a batch."""
    model = tiny_models.build("llama")
    model.model.layers[0].register_forward_hook(
        lambda module, inputs, output: output + output.mean(0, keepdim=True)
    )
    with pytest.raises(ValueError, match=r"depend on the rows beside it.*`model.attention: eager`"):
        ml.TransformersNetwork(model)


def test_a_cache_that_is_wrong_is_not_used() -> None:
    """Here a decoded token is rotated to the wrong place; without a cache all is right."""
    model = tiny_models.build("llama")
    right = tried_models.truth

    def wrong(module: Any, args: Any, kwargs: Any) -> Any:
        x, positions = args[0], kwargs["position_ids"]
        return (x,), {"position_ids": positions * (x.shape[1] > 1)}

    model.model.rotary_emb.register_forward_pre_hook(wrong, with_kwargs=True)
    policy = ml.TokenPolicy.of(ml.TransformersNetwork(model), ml.Decoding(4))
    drawn = ml.Autoregressive()(policy, [(5, 6, 7, 8), (9,)], 2, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.log_probs, right(model, drawn.responses), atol=1e-3)


def test_a_row_must_not_cross_the_switch_of_its_rope() -> None:
    kind, given = tried_models.VARIANTS["phi3, longrope"]
    policy = ml.TokenPolicy.of(network(kind, **given), ml.Decoding(5))
    for size in (3, 20, 25):
        ml.sample(policy, [(7,) * size, (8, 9)], 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"21 tokens and its response cross 24 tokens"):
        ml.sample(policy, [(7,) * 21], 2, np.random.default_rng(0))


def test_the_parts_for_pictures_are_frozen_and_all_others_are_trained() -> None:
    found = network("gemma3")
    assert not any("vision" in name or "projector" in name for name in found.trainable)
    inputs = ml.networks.inputs.Inputs.whole(torch.tensor([[7, 8, 9]]), torch.tensor([3]))
    found.logits(found.states(inputs)).logsumexp(-1).sum().backward()
    assert all(p.grad is not None for p in found.trainable.values())
    assert found.context == 64


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2_moe"])
def test_rounding_in_half_precision_is_no_fault(kind: str) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        found = ml.TransformersNetwork(tiny_models.build(kind).to(dtype))
        assert tried_models.spoken(found._ways) == "in all ways"
