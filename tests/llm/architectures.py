"""Small models of several architectures, and token-level policies of them, for the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import peft
import torch
import transformers
from torch import Tensor, nn

import mpo_llm as ml

LONG = ((7, 2, 9, 4), (3,), (5, 8))
"""Prompts of three lengths."""

RESPONSES = ml.Responses.of_ids(LONG, [0, 1, 1, 2], [(1, 2, 3), (4, 0), (6,), (2, 2, 2)])


SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 12,
}
"""Of the models that are built like Llama."""


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
    config = transformers.LlamaConfig(**SIZES)
    return transformers.LlamaForCausalLM(config).double()


def gemma2() -> Any:
    """Caps its logits after the head."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(**SIZES, head_dim=4, final_logit_softcapping=0.5)
    model = transformers.Gemma2ForCausalLM(config).double()
    with torch.no_grad():
        model.lm_head.weight.mul_(20.0)
    return model


def cohere() -> Any:
    """Scales its logits."""
    torch.manual_seed(0)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CohereConfig(**SIZES, **special, logit_scale=0.3)
    return transformers.CohereForCausalLM(config).double()


def granite() -> Any:
    """Divides its logits."""
    torch.manual_seed(0)
    config = transformers.GraniteConfig(**SIZES, logits_scaling=7.0)
    return transformers.GraniteForCausalLM(config).double()


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


def transformed(p: ml.TokenPolicy) -> ml.TokenPolicy:
    """The same policy elsewhere."""
    generator = torch.Generator().manual_seed(1)
    moved = {
        n: w + 0.3 * torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for n, w in p.weights.items()
    }
    return replace(p, parts=((1.0, moved),))


def rollouts(p: ml.TokenPolicy, responses: ml.Responses = RESPONSES) -> ml.Rollouts:
    n = len(responses)
    gains = np.linspace(-1.0, 1.0, n)[:, None] * responses.mask
    return ml.Rollouts(responses, np.full(n, 1.0 / n), gains, p.log_probs(responses))
