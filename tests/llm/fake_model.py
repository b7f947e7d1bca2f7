"""A tiny model as vLLM holds it, for the tests of engines: weights, adapters by name, a cache.

It is a second way to all numbers: adapters are merged here, not run by PEFT, and each token is
drawn by a pass over the whole row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import mpo_llm as ml
import tiny
from mpo_llm.training import assemble


@dataclass
class Faults:
    """What goes wrong. By default nothing does."""

    keeps_weights: bool = False
    """A reload changes nothing, and says that it did."""
    keeps_head: bool = False
    """A reload leaves the head old."""
    keeps_adapter: bool = False
    """Every adapter is the first one."""
    keeps_cache: bool = False
    """What was computed by other weights is never forgotten."""


@dataclass
class Row:
    """A response as the model gives it."""

    ids: list[int]
    log_probs: list[float]
    first: np.ndarray
    """The log-probabilities of all ids at the first place, `(V,)`."""


@dataclass
class Held:
    """The weights that a server holds, and what it draws by them."""

    folder: Path
    dtype: torch.dtype = torch.float32
    faults: Faults = field(default_factory=Faults)
    tokens: int = 0
    """The tokens made so far."""
    most: int = 0
    """The largest number of adapters at the same time."""

    def __post_init__(self) -> None:
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=self.dtype
        ).eval()
        # A tied head is a copy here, as on vLLM's CPU backend.
        self.weights = {n: w.clone() for n, w in self._model.state_dict().items()}
        self.adapters: dict[str, dict[str, Tensor]] = {}
        self._first_adapter: dict[str, Tensor] | None = None
        self._cache: dict[tuple[str | None, tuple[int, ...]], Tensor] = {}
        self._lock = Lock()

    def reload(self, pairs: Iterable[tuple[str, Tensor]]) -> None:
        """Put weights in place. What is missing stays as it is, as vLLM has it."""
        for name, tensor in pairs:
            if self.faults.keeps_weights or (self.faults.keeps_head and name == "lm_head.weight"):
                continue
            assert tensor.shape == self.weights[name].shape
            self.weights[name] = tensor.to(self.dtype).clone()

    def forget(self) -> None:
        """Drop what was computed."""
        if not self.faults.keeps_cache:
            self._cache.clear()

    def add(self, name: str, folder: Path) -> None:
        """Load an adapter from a folder of PEFT."""
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
        scale = config["lora_alpha"] / config["r"]
        merged = {}
        for key, a in tensors.items():
            if "lora_A" in key:
                b = tensors[key.replace("lora_A", "lora_B")]
                name_of = key.removeprefix("base_model.model.").replace(".lora_A", "")
                merged[name_of] = (scale * b.double() @ a.double()).to(self.dtype)
        assert len(merged) == len(tensors) // 2
        self._first_adapter = self._first_adapter or merged
        self.adapters[name] = self._first_adapter if self.faults.keeps_adapter else merged
        self.most = max(self.most, len(self.adapters))

    def remove(self, name: str) -> None:
        """Let go of an adapter."""
        del self.adapters[name]

    def complete(
        self,
        adapter: str | None,
        prompt: Sequence[int],
        *,
        n: int = 1,
        seed: int,
        temperature: float,
        max_tokens: int,
        allowed: Sequence[int] | None,
        ends: Sequence[int] = (),
        bias: Mapping[str, float] | None = None,
    ) -> list[Row]:
        """`n` responses to a prompt; the numbers of response i come from `seed + i`."""
        with self._lock, torch.no_grad():
            return self._completed(
                adapter, prompt, n, seed, temperature, max_tokens, allowed, ends, bias or {}
            )

    def _completed(
        self,
        adapter: str | None,
        prompt: Sequence[int],
        n: int,
        seed: int,
        temperature: float,
        max_tokens: int,
        allowed: Sequence[int] | None,
        ends: Sequence[int],
        bias: Mapping[str, float],
    ) -> list[Row]:
        rows = [list(prompt) for _ in range(n)]
        numbers = [np.random.default_rng(seed + i) for i in range(n)]
        found = [Row([], [], np.zeros(0)) for _ in range(n)]
        for t in range(max_tokens):
            logits = self._first(adapter, prompt, n) if t == 0 else self._logits(adapter, rows)
            if allowed is not None:
                kept = torch.full(logits.shape, -np.inf)
                kept[:, list(allowed)] = 0.0
                logits = logits + kept
            added = torch.zeros(logits.shape)
            for token, by in bias.items():
                added[:, int(token)] = by
            logits = logits + added
            # VLLM raises a lower temperature, and says nothing.
            log_p = (logits / max(temperature, 0.01)).log_softmax(-1).double().numpy()
            for i, response in enumerate(found):
                cdf = np.exp(log_p[i]).cumsum()
                token = int(np.searchsorted(cdf, numbers[i].random() * cdf[-1], side="right"))
                rows[i].append(token)
                if response.ids and response.ids[-1] in ends:
                    continue
                if t == 0:
                    response.first = log_p[i]
                response.ids.append(token)
                response.log_probs.append(float(log_p[i, token]))
                self.tokens += 1
            if all(response.ids[-1] in ends for response in found):
                break
        return found

    def _first(self, adapter: str | None, prompt: Sequence[int], n: int) -> Tensor:
        """The logits after the prompt `(n, V)`, from the cache if they are there."""
        key = (adapter, tuple(prompt))
        if key not in self._cache:
            self._cache[key] = self._logits(adapter, [list(prompt)])
        return self._cache[key].expand(n, -1)

    def _logits(self, adapter: str | None, rows: list[list[int]]) -> Tensor:
        weights = dict(self.weights)
        for name, change in ({} if adapter is None else self.adapters[adapter]).items():
            weights[name] = weights[name] + change
        out = torch.func.functional_call(
            self._model,
            weights,
            (torch.tensor(rows),),
            {"use_cache": False},
            tie_weights=False,
        )
        return out.logits[:, -1].float()


def start(folder: Path, *, lora: int = 0, tied: bool = False, **sections: Any) -> ml.TokenPolicy:
    """The start of a run on the tiny model, which lies in `folder / "model"`."""
    if not (folder / "model").is_dir():
        tiny.save(folder / "model", tie_word_embeddings=tied)
        tiny.prompts(folder)
    model = {"lora_rank": lora} if lora else {}
    return assemble.start(tiny.config(folder, model=model, **sections))[0]


def moved(policy: ml.TokenPolicy, seed: int = 1, by: float = 0.05) -> ml.TokenPolicy:
    """Another policy of the same network, as after a step."""
    numbers = torch.Generator().manual_seed(seed)
    weights = {
        n: w + by * torch.randn(w.shape, generator=numbers).to(w) for n, w in policy.weights.items()
    }
    return replace(policy, parts=((1.0, weights),))
