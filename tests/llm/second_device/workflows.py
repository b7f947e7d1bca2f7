"""The workflows of the adapter, from configurations and folders, on either device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from numpy.typing import ArrayLike
from safetensors.numpy import load_file

import tiny
from mpo_llm.config import Config
from mpo_llm.networks import loading
from mpo_llm.results import chat
from mpo_llm.results.evaluation import evaluate_run, league
from mpo_llm.results.export import export
from mpo_llm.results.outcomes import as_json
from mpo_llm.training import checkpoint
from mpo_llm.training.train import train
from runs import lines, same, weights
from second_device.features import Feature, Numbers
from second_device.models import SIZES, sharpened


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Within this context models are loaded on the device, in double precision.

    In single precision Adam would magnify the rounding of gradients that are almost 0.
    """
    load = loading.load

    def doubled(*settings: Any) -> tuple[Any, Any]:
        model, tokenizer = load(*settings)
        return model.double(), tokenizer

    # Accelerate chooses a device once a process, and has this variable for devices unknown to it.
    with (
        mock.patch.object(loading, "device", return_value=device),
        mock.patch.object(loading, "load", doubled),
        mock.patch.dict(os.environ, {"ACCELERATE_TORCH_DEVICE": str(device)}),
    ):
        AcceleratorState._reset_state(True)
        try:
            yield
        finally:
            AcceleratorState._reset_state(True)


def config(folder: Path, run: str = "run", **sections: Any) -> Config:
    """A run of two short steps on a small model, with held-out prompts."""
    if not folder.exists():
        small = SIZES | {"vocab_size": len(tiny.WORDS), "eos_token_id": 1, "pad_token_id": 0}
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small))
        sharpened(model).save_pretrained(folder / "model")
        tiny.tokenizer().save_pretrained(folder / "model")
        tiny.prompts(folder)
    given: dict[str, Any] = {
        "generation": {"max_tokens": 3},
        "solver": {"samples": 3, "prompts": 2},
        "evaluation": {"source": str(folder / "prompts.jsonl"), "every": 2, "limit": 2},
        "budget": {"steps": 2},
        "output": {"folder": str(folder / run), "checkpoint_every": 1, "table_every": 1},
    }
    for name, section in sections.items():
        given[name] = given.get(name, {}) | section
    return tiny.config(folder, **given)


def numbers_of(run: Path, name: str, step: int = 2) -> dict[str, ArrayLike]:
    """The arrays of a checkpoint and all numbers of the run's records."""
    found: dict[str, ArrayLike] = {
        f"{name} {key}": array.astype(np.float64) for key, array in weights(run, step).items()
    }
    for row in lines(run):
        known = {k: v for k, v in row.items() if isinstance(v, int | float)}
        found |= {f"{name} {key} at {row['step']}": value for key, value in known.items()}
    return found


def training(device: torch.device, folder: Path) -> Numbers:
    """A run, and the same run resumed, bit for bit; and runs with other settings."""
    found: dict[str, ArrayLike] = {}
    with on(device):
        summary = train(config(folder, "whole"))
        assert summary.state.policy.network.device.type == device.type
        train(config(folder, "parts", budget={"steps": 1}))
        train(config(folder, "parts"), resume=True)
        same(folder / "whole", folder / "parts", 2)
        found |= numbers_of(folder / "whole", "whole")
        kinds: dict[str, dict[str, Any]] = {
            "offloaded": {
                "model": {"offload": True, "gradient_checkpointing": True},
                "solver": {"magnet": {"weight_ema": 0.3}, "pool": 2},
            },
            "LoRA": {
                "model": {"lora_rank": 2, "offload": True},
                "step": {"minibatches": 2, "micro_batch": 2},
            },
        }
        for name, sections in kinds.items():
            train(config(folder, name, **sections, budget={"steps": 1}))
            train(config(folder, name, **sections), resume=True)
            found |= numbers_of(folder / name, name)
    return found


def results(device: torch.device, folder: Path) -> Numbers:
    """Evaluation, league, chat and exports of a run."""
    found: dict[str, ArrayLike] = {}
    with on(device):
        for name, model in {"full": {}, "LoRA": {"lora_rank": 2}}.items():
            train(config(folder, name, model=model, budget={"steps": 1}))
            run = folder / name
            export(run, folder / f"{name} merged")
            for file in (folder / f"{name} merged").glob("*.safetensors"):
                found |= {f"{name} {key}": array for key, array in load_file(file).items()}
        export(folder / "LoRA", folder / "separate", "separate")
        for file in (folder / "separate").glob("*.safetensors"):
            found |= {f"separate {key}": array for key, array in load_file(file).items()}
        last = str(checkpoint.last(folder / "full"))
        against = ("start", str(folder / "LoRA"))
        found |= flat(as_json(evaluate_run(last, against, samples=2)), folder)
        found |= flat(as_json(league(str(folder / "LoRA"), (last,), samples=2)), folder)
        policy, tokenizer, _ = chat.load(str(folder / "LoRA"), 3, 1.0)
        said = list(chat.converse(policy, tokenizer, ["a b", "c"], np.random.default_rng(0)))
        found["chat"] = [ord(letter) for letter in "".join(said)]
    return found


def flat(value: Any, folder: Path, name: str = "") -> dict[str, ArrayLike]:
    """The numbers in nested dictionaries and lists, by their paths."""
    if isinstance(value, dict):
        parts = ((f"{name}/{key}".replace(str(folder), ""), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{name}/{i}", item) for i, item in enumerate(value))
    else:
        return {name: value} if isinstance(value, int | float) else {}
    return {k: v for key, item in parts for k, v in flat(item, folder, key).items()}


WORKFLOWS: dict[str, Feature] = {
    "training": Feature(training, 1e-7),
    "results": Feature(results, 1e-6),
}
