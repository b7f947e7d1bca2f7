"""Adapters of PEFT: new ones, those that a folder or a model already carries, and their merging.

A merged model must be the model with its adapters. Two things can break that. Weights that several
layers share (the head is often the embedding) would get the adapters of one of them, so they are
untied first. And some methods have no merged form; they are refused.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpo_llm.config import ModelConfig
from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.errors import first_sentence

PROBE = (2, 16)
"""Rows and tokens on which a merged model is compared with what it was merged from."""


def fresh(model: Any, settings: ModelConfig, seed: int) -> Any:
    """The model with new LoRA adapters, which at first change nothing; `seed` draws their weights.

    `ValueError` if one of `model.lora_targets` names no layer that can have adapters.
    """
    import peft

    alpha = 2 * settings.lora_rank if settings.lora_alpha is None else settings.lora_alpha
    adapters = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=alpha,
        target_modules=_targets(model, settings.lora_targets),
        exclude_modules=_below(model, settings.lora_top),
        task_type="CAUSAL_LM",
    )
    # The fork keeps the caller's random numbers as they were. `torch.manual_seed` would seed the
    # generators of all GPUs as well.
    with torch.random.fork_rng(devices=[]), _refusing("`model.lora_targets`: "):
        torch.default_generator.manual_seed(seed)
        found = peft.get_peft_model(model, adapters)
    for p in found.parameters():
        if p.requires_grad:
            p.data = p.data.to(getattr(torch, settings.lora_dtype))
    return found


def _targets(model: nn.Module, named: str) -> str | list[str]:
    """The targets as PEFT takes them, which ignores names without a layer if another has one."""
    if named.strip() == "all-linear":
        return "all-linear"
    targets = [name.strip() for name in named.split(",")]
    modules = {name: module for name, module in model.named_modules() if name}
    # Only modules with a weight of their own can have adapters; containers cannot.
    layers = {name for name, module in modules.items() if "weight" in module._parameters}
    for target in targets:
        found = [n for n in modules if n == target or n.endswith(f".{target}")]
        if target and found and layers.issuperset(found):
            continue
        last = sorted({name.rpartition(".")[2] for name in layers} - {"", "0", "1", "2"})
        near = get_close_matches(target, last, 3, 0.5) or last
        is_none = (
            f"is no layer but a {type(modules[found[0]]).__name__}" if found else "is no layer"
        )
        raise ValueError(
            f"`model.lora_targets`: {target!r} {is_none} of the model: write `all-linear`, or "
            f"names such as {', '.join(near)}."
        )
    return targets


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The model's blocks in their order, by name: the modules that `_no_split_modules` names."""
    names = getattr(model, "_no_split_modules", None) or ()
    return [(name, m) for name, m in model.named_modules() if type(m).__name__ in names]


def _below(model: nn.Module, top: int | None) -> list[str] | None:
    """The names of all modules below the uppermost `top` blocks; None if all blocks get adapters.

    `ValueError` for more blocks than there are.
    """
    if top is None:
        return None
    found = blocks(model)
    if top > len(found):
        raise ValueError(
            f"`model.lora_top` must be at most the number of the model's blocks, {len(found)}, "
            f"got {top}."
        )
    lower = found[: len(found) - top]
    return [f"{name}.{part}" for name, block in lower for part, _ in block.named_modules() if part]


def config_of(source: str) -> Any:
    """PEFT's configuration of the adapters in a folder or in a repository of the hub, or None."""
    from transformers.utils.peft_utils import find_adapter_config_file

    with _refusing(f"Cannot load the model {source!r}: "):
        if find_adapter_config_file(source) is None:
            return None
    import peft

    with _refusing(f"The adapters in {source!r} cannot be read: "):
        return peft.PeftConfig.from_pretrained(source)


def has_tokenizer(source: str) -> bool:
    """Whether a folder, or a repository of the hub, has a tokenizer beside its adapters."""
    from transformers.utils.hub import cached_file

    names = ("tokenizer_config.json", "tokenizer.json")
    if Path(source).is_dir():
        return any((Path(source) / name).is_file() for name in names)
    found = (cached_file(source, n, _raise_exceptions_for_missing_entries=False) for n in names)
    return any(found)


def carried(model: Any, source: str, adapter: Any, *, train: bool) -> Any:
    """The base model with the adapters of the folder `source`; `train` makes them trainable.

    `ValueError` for prompt tuning, for adapters that do not fit the base, and for a file that lacks
    some of their weights or has others.
    """
    import peft

    place = f"The adapters in {source!r}"
    if adapter.is_prompt_learning:
        raise ValueError(
            f"{place} are prompt tuning ({adapter.peft_type.value}), which is in no layer and so "
            "can neither be merged nor trained here: use adapters within layers, such as LoRA."
        )
    with _refusing(f"{place} do not fit their base model: "):
        file = peft.utils.save_and_load.load_peft_weights(source, device="cpu")
        # Tokens that were added before the adapters were trained come with rows of their own.
        embedding = model.get_input_embeddings().weight
        for name, tensor in file.items():
            rows = tensor.shape[0] if tensor.ndim == 2 else len(embedding)
            if name.endswith(_EMBEDDINGS) and rows != len(embedding):
                model.resize_token_embeddings(rows, mean_resizing=False)
                break
        found = peft.PeftModel.from_pretrained(model, source, is_trainable=train).eval()
        own = peft.get_peft_model_state_dict(found, save_embedding_layers=False)
    # A saved embedding has its name in the model, not one of an adapter.
    there = {**found.state_dict(), **own}
    for verb, names in (
        ("the file lacks", [n for n in own if n not in file]),
        ("there is no place for", [n for n in file if n not in there]),
        ("not in place is", [n for n, w in file.items() if not _equal(there.get(n, w), w)]),
        ("not finite is", [n for n, w in file.items() if not torch.isfinite(w).all()]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(
                f"{place} do not fit their base model: {verb} {', '.join(sorted(names)[:3])}{more}."
            )
    return found


_EMBEDDINGS = tuple(
    f"{name}.weight"
    for name in ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out")
)
"""Ends of the names of embeddings and heads, as PEFT knows them."""


def _equal(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape
    return same and torch.allclose(one.cpu(), other.to(one).cpu(), 0.0, 0.0, equal_nan=True)


def inner(model: Any) -> Any:
    """The model of transformers without PEFT's wrapper; its layers hold and run the adapters.

    `ValueError` for adapters that a policy could not train: prompt tuning, adapters that are
    merged, switched off or not active, and adapters upon adapters.
    """
    if not hasattr(model, "peft_config"):
        return model
    # Prompt tuning lives in PEFT's wrapper, which is left out here.
    if any(c.is_prompt_learning for c in model.peft_config.values()):
        raise ValueError("Of PEFT's methods only injected adapters (LoRA) can be used.")
    if not hasattr(model, "get_base_model"):
        raise ValueError(
            "transformers has loaded the adapters of this model frozen: load the base model, and "
            "then `peft.PeftModel.from_pretrained(base, folder, is_trainable=True)`."
        )
    found = model.get_base_model()
    if hasattr(found, "get_base_model"):
        raise ValueError(
            "The model has adapters upon adapters: merge the first ones by `merge_and_unload()` "
            "before you add others."
        )
    places: dict[int, str] = {}
    for name, p in found.named_parameters():
        # Two parameters in one place: each would get weights of its own, and so become untied.
        if p.requires_grad and p.numel() and places.setdefault(p.data_ptr(), name) != name:
            raise ValueError(
                f"The adapters {name!r} and {places[p.data_ptr()]!r} share their weights, which a "
                "step would tear apart: use `ensure_weight_tying=False`."
            )
    active = set(model.active_adapters)
    for name, module in found.named_modules():
        if getattr(module, "merged", False):
            raise ValueError(
                f"The adapters of {name!r} are merged, so training them has no effect: call "
                "`unmerge_adapter()`, or `merge_and_unload()` to train the base model."
            )
        if getattr(module, "disable_adapters", False) is True:
            raise ValueError(
                f"The adapters of {name!r} are switched off, so training them has no effect: call "
                "`enable_adapter_layers()`."
            )
    idle = set(model.peft_config) - active
    for name, p in found.named_parameters():
        other = idle.intersection(name.split("."))
        if p.requires_grad and other and not active.intersection(name.split(".")):
            raise ValueError(
                f"The adapter {other.pop()!r} would be trained, but it is not active: "
                "`set_adapter(name)` makes one adapter active and trainable."
            )
    if not any(p.requires_grad for p in found.parameters()):
        raise ValueError(
            "The adapters are frozen: load them with `peft.PeftModel.from_pretrained(base, folder, "
            "is_trainable=True)`."
        )
    return found


@contextmanager
def standalone(network: Network, given: Any, weights: Weights) -> Iterator[Any]:
    """Within this context: the model of transformers that is the policy of `weights`.

    `given` is the model of which the network was made. Without adapters it is lent for that time;
    with adapters this is a copy, into which they are merged. `ValueError` as in `merged`.
    """
    with network.holding(weights):
        # Training may go on, so its adapters must stay what they are.
        yield merged(copy.deepcopy(given)) if hasattr(given, "peft_config") else given


def merged(model: Any) -> Any:
    """A PEFT model's base model, changed in place to hold its adapters; all of it is trainable.

    `ValueError` if its method has no merged form, if the base is quantised, and if the result gives
    other next-token distributions than the model with its adapters.
    """
    method = "/".join(sorted({str(c.peft_type.value) for c in model.peft_config.values()}))
    base = model.get_base_model()
    if quantised(base):
        raise ValueError(
            "The base model is quantised, and adapters that are merged into it would be rounded to "
            "its few bits: keep them apart, or load the base model without quantisation."
        )
    rows = probe(base)
    before = distributions(model, rows)
    _untie(model)
    with _refusing(f"Adapters of the method {method} cannot be merged: "):
        found = model.merge_and_unload(safe_merge=True)
    settle_ties(found)
    found.requires_grad_(True)
    # The merged model is on no disk, and adapters that are added to it must not name another base.
    found.name_or_path = found.config._name_or_path = ""
    apart = variation(before, distributions(found, rows))
    if not apart <= rounding(found.dtype):
        raise ValueError(
            f"Adapters of the method {method} cannot be merged into this model: its next-token "
            f"distributions would change by {apart:.2g} in total variation."
        )
    return found


def quantised(model: Any) -> bool:
    """Whether the weights of a model of transformers are quantised."""
    marks = (
        getattr(model, "is_quantized", False),
        getattr(model, "hf_quantizer", None),
        getattr(model, "quantization_method", None),
    )
    return any(marks)


def probe(model: Any) -> Tensor:
    """Rows of token ids that any model can run, always the same ones."""
    config = model.config.get_text_config()
    count, tokens = PROBE
    limit = getattr(config, "max_position_embeddings", None) or tokens
    generator = torch.Generator().manual_seed(0)
    shape = (count, min(tokens, limit))
    return torch.randint(config.vocab_size, shape, generator=generator).to(model.device)


def distributions(model: Any, rows: Tensor) -> Tensor:
    """The next-token log-probabilities `(N, W, V)` after each token of some rows `(N, W)`."""
    with torch.no_grad():
        # Row by row: nothing but its own tokens can enter a row's numbers.
        logits = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]
    return torch.log_softmax(torch.stack(logits).double(), -1).cpu()


def variation(one: Tensor, other: Tensor) -> float:
    """The total variation of two next-token distributions, in the mean over all positions."""
    if one.shape != other.shape:
        return float("nan")
    return float((one.exp() - other.exp()).abs().sum(-1).mean() / 2.0)


def rounding(dtype: torch.dtype) -> float:
    """The largest total variation of two computations that differ by the rounding of `dtype`."""
    return float(torch.finfo(dtype).eps ** 0.5)


def _owners(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """The modules that have each parameter, with its name there."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                found.setdefault(id(p), []).append((module, name))
    return found


def _untie(model: Any) -> None:
    """Give each layer a weight of its own if merging would change one that layers share."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    # Chosen tokens change in the shared weight itself, for all layers that have it.
    adapted = {
        id(p)
        for module in model.modules()
        if isinstance(module, BaseTunerLayer) and not isinstance(module, TrainableTokensLayer)
        for p in module.get_base_layer().parameters(recurse=False)
    }
    for key, owners in _owners(model).items():
        for module, name in owners[1:] if key in adapted else ():
            p = module._parameters[name]
            assert p is not None
            own = nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad)
            module._parameters[name] = own


def settle_ties(model: Any) -> None:
    """Tie the head to the embedding again if they are equal; else let the configuration say so."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    one, other = getattr(head, "weight", None), getattr(embedding, "weight", None)
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}.values()
    was_tied = any(getattr(c, "tie_word_embeddings", False) for c in configs)
    if one is other or one is None or other is None:
        return
    if was_tied and one.shape == other.shape and torch.equal(one, other):
        head.weight = other
        return
    for config in configs:
        config.tie_word_embeddings = False


@contextmanager
def _refusing(sentence: str) -> Iterator[None]:
    """Turn PEFT's errors into a `ValueError` that begins with `sentence`, and mute its warnings.

    What PEFT warns of is either checked here, or of no meaning for a policy.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(f"{sentence}{first_sentence(error)}") from error
