"""How much memory a step of training takes, by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mpo_llm.algorithms import completed, known
from mpo_llm.config import Config
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.step.scoring import CHUNK, DEVICE, KEPT
from mpo_llm.step.terms import ARRAYS

PAIRS = 50
"""Pairs of vectors that L-BFGS keeps."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process when a step needs most, by what they hold: an estimate."""

    device: Mapping[str, float]
    """Where the model is."""
    host: Mapping[str, float]
    """In CPU memory beside it; empty if the model is there, or if nothing is offloaded."""


def estimate(config: Config, network: TransformersNetwork, prompt: int, responses: int) -> Memory:
    """The memory of a step with prompts of at most `prompt` tokens and `responses` responses."""
    held = of_weights(config, network)
    rows = _of_rows(config, network, prompt, responses)
    return Memory({**held.device, **rows}, held.host)


def exceeds(config: Config, network: TransformersNetwork, device: torch.device) -> bool:
    """Whether a step takes more than a CUDA device can still give beside the model."""
    if device.type != "cuda":
        return False
    # Sharding has left memory that torch keeps for later.
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    found = estimate(config, network, config.prompts.max_tokens, config.generation.batch).device
    # The model is there already.
    return sum(found.values()) - found["model"] > free


def of_weights(config: Config, network: TransformersNetwork) -> Memory:
    """The memory that weights, gradients and the optimiser take."""
    held = _Held.of(config)
    # Processes that share weights have a part of each, but put the model together to draw.
    parts = network.processes.size if network.sharded else 1
    trained = sum(p.numel() for p in network.trainable.values()) / parts
    own = sum(p.numel() * p.element_size() for p in network.trainable.values()) / parts
    each = 4.0 * trained
    # The start (the game has it), the old policy, a magnet that has left the start, and the policy
    # before the old one. In half precision all but the start are masters.
    policies = own + each * held.policies
    apart = own < each
    first = each * held.first
    # Those of the old policy stay, because a step may fail. L-BFGS has a vector of weights, one of
    # gradients and its history, and Adam the second moments.
    rest = each * (2 if held.adam else 2 * PAIRS + 2)
    device = {"model": float(network.bytes), "gradients": each, "optimiser": first}
    if apart:
        device["heads"] = float(held.references * _head(network))
    if network.workbench.places.apart:
        return Memory(device, {"policies": policies + each, "optimiser": rest})
    # Without masters, the new policy is the model.
    device["policies"] = policies + each * apart
    device["optimiser"] += rest
    return Memory(device, {})


@dataclass(frozen=True, slots=True)
class _Held:
    """What a solver keeps beside the start, the model and its gradients."""

    policies: int
    """Policies in single precision."""
    references: int
    """Policies that a step is pulled to."""
    adam: bool
    """Whether Adam minimises, and not L-BFGS."""
    first: bool
    """Whether first moments are kept from one update to the next."""

    @classmethod
    def of(cls, config: Config) -> _Held:
        config = completed(config)
        solver, step = config.solver, config.step
        if solver.algorithm == "auto":
            # The old policy, the one before it, the magnet, the average of weights, and the weights
            # that the guard, or the search for a rate, tries.
            return cls(5, 2, adam=True, first=True)
        adam = step.minimiser == "adam"
        # A first moment that no later update reads is not kept.
        first = adam and (known(step.epochs) * known(step.minibatches) > 1 or bool(step.keep_first))
        policies = 1 + (solver.magnet != "fixed") + (solver.feedback == "optimistic")
        return cls(policies, 1 + (known(solver.alpha) > 0.0), adam, first)


def _head(network: TransformersNetwork) -> int:
    """Bytes of the head, if it is trained."""
    trained = {id(p) for p in network.trainable.values()}
    parts = network.head_parameters
    return sum(p.numel() * p.element_size() for p in parts if id(p) in trained)


def _of_rows(
    config: Config, network: TransformersNetwork, prompt: int, responses: int
) -> dict[str, float]:
    """The memory that responses take, drawn and trained on."""
    inner = network.config
    width = 2 if config.model.dtype == "bfloat16" else 4
    micro_batch = min(config.step.micro_batch or responses, responses)
    tokens = prompt + config.generation.max_tokens
    layers, hidden = inner.num_hidden_layers, inner.hidden_size
    # Numbers that a layer keeps for the backward pass, per token: an estimate.
    layer = 10 * hidden + 4 * (getattr(inner, "intermediate_size", None) or 4 * hidden)
    kept = layers * hidden + layer if config.model.gradient_checkpointing else layers * layer
    heads = getattr(inner, "num_key_value_heads", None) or inner.num_attention_heads
    size = getattr(inner, "head_dim", None) or hidden // inner.num_attention_heads
    drawn = min(config.generation.batch, responses)
    run = micro_batch * tokens
    if config.step.micro_tokens is not None:
        run = min(run, max(config.step.micro_tokens, tokens))
    return {
        "activations": float(width * run * kept),
        "logits": float((ARRAYS + KEPT) * CHUNK * (1 if network.device.type == "cpu" else DEVICE)),
        "cache": float(2 * width * drawn * tokens * layers * heads * size),
    }
