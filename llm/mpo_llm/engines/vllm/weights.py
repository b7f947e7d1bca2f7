"""The weights of a policy as other programs read them: whole models, and LoRA adapters."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mpo_llm.engines.vllm.hosts import Adapter
from mpo_llm.networks import adapters
from mpo_llm.networks.base import Weights
from mpo_llm.networks.hugging_face import TransformersNetwork

FILE = "model.safetensors"

_WRAPPED = ".base_layer."
"""Stands in the name of a weight that has adapters beside it."""


RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks of adapters that vLLM can be started for."""


def rank_at_least(rank: int) -> int:
    """The smallest of `RANKS` that is enough. `ValueError` if none is."""
    found = next((r for r in RANKS if r >= rank), None)
    if found is None:
        raise ValueError(f"vLLM runs adapters of a rank up to {RANKS[-1]}, got {rank}.")
    return found


def has_adapters(network: TransformersNetwork) -> bool:
    """Whether policies of the network are adapters on one base model."""
    return hasattr(network.given, "peft_config")


def rank_of(network: TransformersNetwork) -> int:
    """The largest rank of its adapters; 0 without any."""
    configs = network.given.peft_config.values() if has_adapters(network) else ()  # type: ignore[operator]
    return max((int(config.r) for config in configs), default=0)


def precision(network: TransformersNetwork) -> torch.dtype:
    """The precision in which the model runs, that of adapters left out."""
    names = network.frozen if has_adapters(network) else network.trainable
    return next(iter(names.values())).dtype


def model_of(
    network: TransformersNetwork, weights: Weights, device: torch.device
) -> Mapping[str, Tensor]:
    """All tensors of the model that runs `weights`, by their names in a checkpoint.

    Adapters are left out. A weight that several layers share has all its names: an engine that
    ties the head to the embedding may have copied it. If processes share the weights, all must call
    this, and the first has all tensors.
    """
    module = adapters.inner(network.given)
    held = {**network.frozen, **weights}
    found: dict[str, Tensor] = {}
    first: dict[int, str] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        if _of_adapter(name):
            continue
        known = first.setdefault(id(p), name)
        if known != name:
            if known in found:
                found[name] = found[known]
            continue
        whole = network.whole(name, held[name])
        if whole is not None:
            # Policies have masters in single precision, the module may run in half.
            found[name] = whole.detach().to(device, p.dtype)
    if network.processes.rank > 0 and network.sharded:
        return {}
    kept = set(module.state_dict()) - set(dict(module.named_parameters(remove_duplicate=False)))
    found |= {n: b.detach().to(device) for n, b in module.named_buffers() if n in kept}
    return _checkpoint_names(module, {n.replace(_WRAPPED, "."): w for n, w in found.items()})


def unused(network: TransformersNetwork) -> list[str]:
    """Patterns of names that a checkpoint may have and the model does not use."""
    module: Any = adapters.inner(network.given)
    return list(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())


def adapter_of(network: TransformersNetwork, weights: Weights, number: int) -> Adapter:
    """The adapters of the policy that has `weights`, as version `number`.

    If processes share the weights, all must call this, and the first has all tensors. `ValueError`
    for other adapters than LoRA.
    """
    from peft import PeftModel, get_peft_model_state_dict

    model: PeftModel = network.given  # type: ignore[assignment]
    active = model.active_adapters
    config: Any = model.peft_config[active[0]]
    method = str(getattr(config.peft_type, "value", config.peft_type))
    if len(active) != 1 or method != "LORA":
        raise ValueError(
            f"vLLM runs one LoRA adapter, and the model has {len(active)} of the method {method}: "
            "draw by the built-in engine, or train another adapter."
        )
    wholes = {n: network.whole(n, w) for n, w in weights.items()}
    state = {
        f"base_model.model.{n}": w.detach().to("cpu", network.trainable[n].dtype)
        for n, w in wholes.items()
        if w is not None
    }
    tensors = get_peft_model_state_dict(
        model, state_dict=state, adapter_name=active[0], save_embedding_layers=False
    )
    if len(tensors) != len(state):
        raise ValueError(
            "vLLM runs LoRA adapters alone, and the policy also trains other weights of its model: "
            "draw by the built-in engine, or leave out `modules_to_save`."
        )
    return Adapter(f"v{number}", number, tensors, config)


def write_model(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a model into a new folder. `OSError` if the disk is full."""
    folder.mkdir(parents=True)
    _write(folder / FILE, tensors)


def write_start(folder: Path, network: TransformersNetwork, weights: Weights) -> None:
    """Write the model that runs `weights` into a new folder, with its configuration.

    `OSError` if the disk is full.
    """
    write_model(folder, model_of(network, weights, torch.device("cpu")))
    config = copy(network.config)
    # The file that the model was loaded from may name another class, or none.
    config.architectures = [type(adapters.inner(network.given)).__name__]
    config.save_pretrained(str(folder))


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write adapters into a new folder, as PEFT reads them. `OSError` if the disk is full."""
    folder.mkdir(parents=True)
    _write(folder / "adapter_model.safetensors", adapter.tensors)
    adapter.config.save_pretrained(str(folder))


def _write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError

    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        # The format has no tensors that share their memory.
        own[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(own[name].data_ptr())
    try:
        save_file(own, str(file), metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"Cannot write {str(file)!r}: {error}.") from error


def _of_adapter(name: str) -> bool:
    return "lora_" in name


def _checkpoint_names(module: Any, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors as `save_pretrained` would name and shape them."""
    # Transformers has fused or renamed some of them when it loaded the checkpoint.
    from transformers.core_model_loading import revert_weight_conversion

    found: dict[str, Tensor] = revert_weight_conversion(module, state)
    return found
