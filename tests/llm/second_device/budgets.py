"""What a step costs on the device: bytes, waits and copies, by the names of their budgets."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import peft
import torch
import transformers

import mpo_games as mg
import mpo_llm as ml
from second_device.backend import METER, NAME
from second_device.features import elsewhere
from second_device.meter import TO_DEVICE, measured
from second_device.models import SIZES, llama, policy, rollouts, stepped

BROAD = {
    "vocab_size": 64,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""A model whose weights are many more than the activations of a few tokens."""

ASKED = ((5,), (8, 9))


def broad() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES | BROAD)
    return transformers.LlamaForCausalLM(config).bfloat16()


def adapted() -> Any:
    """In half precision too."""
    lora = peft.LoraConfig(r=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(broad(), lora, autocast_adapter_dtype=False)


def tied(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
    """A judge to whom all responses are equal."""
    return [0.5] * len(a)


@cache
def bytes_held(build: Callable[[], Any], offload: bool) -> tuple[float, float, float, int]:
    """Bytes of what is not trained, at the peak of the third step, and after it; and how many
    numbers are trained."""
    gc.collect()
    before = METER.held
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT asks transformers by an old name.
        network = ml.TransformersNetwork(build().to(NAME), offload=offload)
    frozen = sum(p.numel() * p.element_size() for p in network.frozen.values())
    trained = sum(p.numel() for p in network.trainable.values())
    proximal = ml.Proximal(minimise=ml.Adam(2, 1e-3, clip=1.0))
    start = ml.TokenPolicy.of(network, ml.Decoding(2), proximal)
    game = ml.TextPreferenceGame(ASKED, start, tied, str, 2)
    solver = mg.MMD(1.0, 0.1, ml.WeightEma(0.1), mg.optimistic)
    states = mg.iterate(game, solver, rng=np.random.default_rng(0))
    for _ in range(3):
        state = next(states)
    gc.collect()
    METER.reset()
    state = next(states)
    gc.collect()
    peak, rest = METER.peak - before, METER.held - before
    assert state.step == 3
    return frozen, peak, rest, trained


def full_memory() -> dict[str, float]:
    """Of full fine-tuning in bfloat16, whose policies live on the host: optimistic steps, whose
    magnet is an average of weights."""
    _, peak, rest, trained = bytes_held(broad, True)
    return {
        "full bfloat16: bytes a parameter at the peak": peak / trained,
        "full bfloat16: bytes a parameter at rest": rest / trained,
    }


def lora_memory() -> dict[str, float]:
    """Of the same with adapters."""
    base, peak, rest, trained = bytes_held(adapted, True)
    return {
        "LoRA: bytes a trained number at the peak, beside the base": (peak - base) / trained,
        "LoRA: bytes a trained number at rest, beside the base": (rest - base) / trained,
    }


def waits() -> dict[str, float]:
    """Of drawing, by the longest response, and of a mirror step, by gradients and parts."""
    device = torch.device(NAME)
    decoding = ml.Decoding(16, eos=0)
    rows = 2
    proximal = ml.Proximal(minimise=ml.Adam(2, 1e-2, clip=1.0), micro_batch=rows)
    p = policy("full", device, proximal, decoding=decoding)
    prompts = ((7, 2, 9, 4), (3,), (5, 8))
    with measured(METER) as seen:
        drawn = ml.Autoregressive()(p, prompts, 4, np.random.default_rng(0)).responses
    tokens = seen.waits.total() / int(drawn.lengths.max())
    magnet, q = p.snapshot(), rollouts(p)
    parts = -(-len(q.responses) // rows)
    with measured(METER) as seen:
        p.mirror_step(q, magnet, eta=1.0, alpha=0.1)
    return {
        "waits a drawn token": tokens,
        "waits a part forward and backward": seen.waits.total() / (2 * parts),
    }


def doubles() -> dict[str, float]:
    """Of drawing without ends: numbers in double precision for each logit of a token."""
    # Blocks of ids are drawn from in double precision, so the vocabulary has many of them.
    vocabulary, prompts, count, steps = 20_000, ((7, 2, 9, 4), (3,), (5, 8)), 4, 4
    model = llama(vocab_size=vocabulary).float().to(NAME)
    p = ml.TokenPolicy.of(ml.TransformersNetwork(model), ml.Decoding(steps))
    with measured(METER) as seen:
        ml.Autoregressive()(p, prompts, count, np.random.default_rng(0))
    logits = len(prompts) * count * steps * vocabulary
    return {"double numbers a logit drawn from": seen.doubles.total() / logits}


def copies() -> dict[str, float]:
    """Of the weights of policies that live on the host, to the device: when a magnet reads, when
    the module has a policy already, and when a mixture draws and a step is taken."""
    proximal = ml.Proximal(minimise=ml.Adam(1, 1e-2), micro_batch=1)
    start = policy("bfloat16", torch.device(NAME), proximal, offload=True)
    p = stepped(start)
    q = replace(rollouts(p), hidden=None)
    size = sum(w.numel() * w.element_size() for w in p.weights.values())

    def moved(what: Callable[[], object]) -> float:
        with measured(METER) as seen:
            what()
        ways = seen.copies.items()
        return (
            sum(n for (way, place), n in ways if way == TO_DEVICE and "workbench" in place) / size
        )

    reading = moved(lambda: elsewhere(p).log_probs(q.responses))
    p.log_probs(q.responses)
    again = moved(lambda: p.log_probs(q.responses))
    both = p.mix(elsewhere(p), 0.5)
    mixture = moved(lambda: ml.Autoregressive()(both, ASKED, 2, np.random.default_rng(0)))
    p.log_probs(q.responses)
    step = moved(lambda: p.mirror_step(q, elsewhere(p), eta=1.0, alpha=0.1))
    return {
        "copies of an offloaded magnet in a reading": reading,
        "copies of a policy that the module has": again,
        "copies of the two policies of a mixture that draws": mixture,
        "copies of policies in a step: the magnet, and the old one again": step,
    }


MEASURES: dict[str, Callable[[], dict[str, float]]] = {
    measure.__name__: measure for measure in (full_memory, lora_memory, waits, doubles, copies)
}
