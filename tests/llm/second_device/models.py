"""Tiny models on either device, and policies of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import peft
import torch
import transformers

import mpo_llm as ml
from mpo_llm.responses import Responses

PROMPTS = ((7, 2, 9, 4), (3,), (5, 8))
RESPONSES = Responses.of_ids(
    PROMPTS, [0, 0, 1, 1, 1, 2], [(1, 2, 3), (4, 0), (6,), (2, 2, 2), (0,), (5, 10, 0)]
)
DECODING = ml.Decoding(5, eos=0, unused=(9,))

SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 24,
    "eos_token_id": 0,
}


def sharpened(model: Any) -> Any:
    """The model with larger weights: its first ones make all tokens about equally likely."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(8.0)
    return model


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    return sharpened(
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES | options)).double()
    )


def lora(model: Any) -> Any:
    """With adapters that already change something."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    found = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    for p in found.parameters():
        if p.requires_grad:
            p.data += 0.2 * torch.randn(p.shape).to(p)
    return found


def checkpointed(model: Any) -> Any:
    """With gradient checkpointing."""
    enable = "activation_checkpointing_enable"
    getattr(model, enable if hasattr(model, enable) else "gradient_checkpointing_enable")()
    return model


def capped() -> Any:
    """Caps its logits after the head."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(**SIZES, head_dim=4, final_logit_softcapping=0.5)
    return sharpened(transformers.Gemma2ForCausalLM(config).double())


def counting() -> Any:
    """Its biases count columns, so prompts of unlike lengths are drawn apart."""
    torch.manual_seed(0)
    config = transformers.MptConfig(vocab_size=11, d_model=8, n_layers=1, n_heads=2, max_seq_len=24)
    return sharpened(transformers.MptForCausalLM(config).double())


def switching() -> Any:
    """Rotates positions in another way beyond three tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.0],
        "long_factor": [4.0, 4.0],
        "original_max_position_embeddings": 3,
    }
    torch.manual_seed(0)
    config = transformers.Phi3Config(**SIZES | {"pad_token_id": 0}, rope_parameters=rope)
    return sharpened(transformers.Phi3ForCausalLM(config).double())


MODELS: dict[str, Callable[[], Any]] = {
    "full": llama,
    "LoRA": lambda: lora(llama()),
    # Half precision needs the same arithmetic on both devices, which fused attention is not.
    "bfloat16": lambda: llama(attn_implementation="eager").bfloat16(),
    "LoRA, bfloat16": lambda: lora(llama(attn_implementation="eager").bfloat16()),
    "checkpointed": lambda: checkpointed(llama()),
    "LoRA, checkpointed": lambda: checkpointed(lora(llama())),
    "tied": lambda: llama(tie_word_embeddings=True),
    "capped": capped,
    "counting": counting,
    "switching": switching,
}


@cache
def network(name: str, device: torch.device, offload: bool = False) -> ml.Network:
    """The network of a model on a device. Policies are values, so checks share it."""
    if name == "plain":
        torch.manual_seed(0)
        module = ml.SmallTransformer(11, 24, width=8).double().to(device)
        return ml.PlainNetwork(module, context=24, offload=offload)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT asks transformers by an old name.
        return ml.TransformersNetwork(MODELS[name]().to(device), offload=offload)


def policy(
    name: str,
    device: torch.device,
    proximal: ml.Proximal = ml.Proximal(minimise=ml.Adam(2, 1e-2, clip=1.0)),
    *,
    offload: bool = False,
    decoding: ml.Decoding = DECODING,
) -> ml.TokenPolicy:
    """The first policy of a network, which `network` keeps."""
    start = _start(name, device, offload)
    return ml.TokenPolicy(start.network, decoding, start.parts, proximal)


@cache
def _start(name: str, device: torch.device, offload: bool) -> ml.TokenPolicy:
    # Once only: afterwards the network has the weights of whatever was run last.
    return ml.TokenPolicy.of(network(name, device, offload), DECODING)


def rollouts(p: ml.TokenPolicy, responses: Responses = RESPONSES) -> ml.Rollouts:
    """The responses as the policy's own, judged by fixed numbers."""
    n = len(responses)
    apart = np.random.default_rng(0).uniform(-0.5, 0.5, (n, n))
    same = responses.prompt_of[:, None] == responses.prompt_of
    gains = np.linspace(-1.0, 1.0, n)[:, None] * responses.mask
    pairs = (apart - apart.T) / 2.0 * same
    return ml.Rollouts(responses, np.full(n, 1.0 / n), gains, p.log_probs(responses), pairs)


def stepped(p: ml.TokenPolicy, magnet: ml.TokenPolicy | None = None) -> ml.TokenPolicy:
    """The policy after a mirror step."""
    alpha = 0.0 if magnet is None else 0.1
    return p.mirror_step(rollouts(p), magnet, eta=1.0, alpha=alpha)


def numbers(p: ml.TokenPolicy) -> dict[str, Any]:
    """Weights and moments of a policy, as arrays of double precision."""
    found = {}
    for name, array in p.arrays().items():
        bits = torch.from_numpy(np.array(array))
        held = bits.view(torch.bfloat16) if bits.dtype == torch.int16 else bits
        found[name] = held.double().numpy()
    return found
