"""A module that stands for `vllm` in this process, for the tests of `Colocated`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fake_model import Held


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class LLM:
    """It notes what is called, and refuses what vLLM would."""

    started: list[LLM] = []  # noqa: RUF012
    """All that were made since the module was put in place."""
    fails: str = ""
    """What raises an error."""

    def __init__(self, model: str, **options: Any) -> None:
        self.options, self.calls, self.asleep = options, [], False
        self.seen_llvmlite = "llvmlite.binding.ffi" in sys.modules
        self.held = Held(Path(model))
        self.model_config = SimpleNamespace(max_model_len=options["max_model_len"])
        self.llm_engine = self
        self.requests: dict[int, LoRARequest] = {}
        self.settings: list[Any] = []
        LLM.started.append(self)

    def note(self, call: str) -> None:
        assert not self.asleep or call == "wake"
        if self.fails == call:
            raise RuntimeError(f"EngineDeadError\n in {call}")
        if self.calls[-1:] != [call]:
            self.calls.append(call)

    def wake_up(self) -> None:
        self.note("wake")
        self.asleep = False

    def sleep(self, level: int) -> None:
        assert level == 1
        self.note("sleep")
        self.asleep = True

    def collective_rpc(self, method: str, kwargs: Mapping[str, Any]) -> list[None]:
        assert method == "reload_weights"
        self.note("reload")
        self.held.reload(kwargs["weights_iterator"])
        return [None]

    def reset_prefix_cache(self) -> bool:
        self.note("reset")
        self.held.forget()
        return self.fails != "forget"

    def add_lora(self, request: LoRARequest) -> bool:
        self.note("add")
        assert request.lora_int_id not in self.requests
        assert request.lora_int_id > 0
        self.requests[request.lora_int_id] = request
        self.held.add(request.lora_name, Path(request.lora_path))
        return self.fails != "load"

    def remove_lora(self, number: int) -> bool:
        self.note("remove")
        self.held.remove(self.requests.pop(number).lora_name)
        return True

    def generate(
        self, prompts: Any, settings: Any, *, use_tqdm: bool, lora_request: Any
    ) -> list[Any]:
        assert not use_tqdm
        assert len(prompts) == len(settings) == len(lora_request)
        probing = settings[0].logprob_token_ids is not None
        self.note("probe" if probing else "draw")
        self.settings += settings
        found = []
        for prompt, how, request in zip(prompts, settings, lora_request, strict=True):
            rows = self.held.complete(
                None if request is None else request.lora_name,
                prompt["prompt_token_ids"],
                n=how.n,
                seed=how.seed,
                temperature=how.temperature,
                max_tokens=how.max_tokens,
                allowed=how.allowed_token_ids,
                ends=how.stop_token_ids,
            )
            outputs = []
            for row in rows:
                at = [{i: number(p)} for i, p in zip(row.ids, row.log_probs, strict=True)]
                if probing:
                    at[0] |= {i: number(row.first[i]) for i in how.logprob_token_ids}
                outputs.append(SimpleNamespace(token_ids=row.ids, logprobs=at))
            found.append(SimpleNamespace(outputs=outputs))
        return found


def number(p: float) -> Any:
    return SimpleNamespace(logprob=float(p))


def sampling(**settings: Any) -> Any:
    """The settings that vLLM has, with its own defaults."""
    plain = {"n": 1, "stop_token_ids": [], "logprob_token_ids": None, "logprobs": None}
    return SimpleNamespace(**(plain | settings))


@contextmanager
def installed() -> Iterator[list[LLM]]:
    """Within this context `import vllm` finds this module; the list has all that were started."""
    vllm, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams = LLM, sampling  # type: ignore[attr-defined]
    lora.LoRARequest = LoRARequest  # type: ignore[attr-defined]
    LLM.started, LLM.fails = [], ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vllm", vllm)
        patch.setitem(sys.modules, "vllm.lora.request", lora)
        yield LLM.started
