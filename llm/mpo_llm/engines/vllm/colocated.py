"""vLLM in this process, on the device of the network: it sleeps while the network learns."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpo_games.checks import require_count, require_positive
from mpo_games.protocol import Array
from mpo_llm.engines.autoregressive import Autoregressive
from mpo_llm.engines.protocol import Drawn, Engine, EngineError, Together
from mpo_llm.engines.vllm import weights as formats
from mpo_llm.engines.vllm.hosted import Hosted, require_transformers
from mpo_llm.engines.vllm.hosts import Adapter, Completion, DeliveryError, Job
from mpo_llm.engines.vllm.versions import Versions
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids

INSTALL = (
    "The engine `Colocated` needs vLLM in this environment: pip install vllm, or start vLLM in "
    "another environment by `mpo-llm serve` and set `generation.options.url`."
)


@dataclass(slots=True, eq=False)
class Colocated(Together):
    """vLLM in this process as an `Engine`.

    It starts when responses are drawn for the first time. On a device other than the CPU it sleeps
    between two draws: its weights wait in CPU memory, and its cache is given back. Weights reach it
    without the disk. One process alone can use it. Errors are those of `Hosted`, and `ImportError`
    without vLLM.
    """

    longest: int | None = None
    """The most tokens of a prompt and its response; None is the model's context."""
    memory: float = 0.3
    """The share of the device's memory that vLLM takes while it draws; on a CPU, GiB of its cache.
    """
    rows: int = 256
    """The largest number of responses that are drawn at the same time."""
    eager: bool = False
    """Whether no graphs of kernels are captured, which takes less memory and starts sooner."""
    slots: int = 2
    """Adapters that are held at the same time."""
    mixtures: Engine = Autoregressive()
    """The engine that draws responses of mixtures."""
    hosted: Hosted | None = field(default=None, init=False, repr=False)
    """The engine of the host; None before the first draw."""
    _host: _InProcess | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("rows", "slots"):
            require_count(name, getattr(self, name))
        if self.longest is not None:
            require_count("longest", self.longest)
        require_positive("memory", self.memory)

    def each(
        self,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What each of several policies draws, adapters in one batch: see `Together`."""
        network = require_transformers(policies[0].network)
        if network.processes.size > 1:
            raise ValueError(
                "`Colocated` is for one process: start vLLM by `mpo-llm serve`, and set "
                "`generation.options.url`."
            )
        if self._host is None or self.hosted is None:
            self._host = _InProcess(network, policies[0].weights, self)
            self.hosted = Hosted(self._host, None, self.mixtures)
        with self._host.awake():
            return self.hosted.each(policies, prompts, count, rng)


class _InProcess:
    """The host in this process."""

    def __init__(
        self, network: TransformersNetwork, weights: Mapping[str, Tensor], settings: Colocated
    ) -> None:
        self.slots = settings.slots
        self._on_cpu = network.device.type == "cpu"
        self.device = network.device
        self._versions = Versions(None)
        self._requests: dict[int, Any] = {}
        self._asleep = False
        self._llm = _started(network, weights, settings, self._versions.new(0))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Within this context vLLM has its weights and its cache on the device."""
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False
        try:
            yield
        finally:
            # A CPU has no other place for them.
            if not self._on_cpu:
                torch.cuda.synchronize(self.device)
                self._llm.sleep(level=1)
                self._asleep = True

    def room(self) -> int:
        return int(self._llm.llm_engine.model_config.max_model_len)

    def reload(self, weights: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        with _sentences(DeliveryError):
            self._llm.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": iter(weights.items())}
            )
            # Keys and values that other weights have computed.
            if not self._llm.reset_prefix_cache():
                raise DeliveryError("vLLM does not forget what it has computed by other weights.")

    def add(self, adapter: Adapter) -> None:
        folder = self._versions.new(adapter.number)
        formats.write_adapter(folder, adapter)
        loras: Any = importlib.import_module("vllm.lora.request")
        request = loras.LoRARequest(adapter.name, adapter.number, str(folder))
        with _sentences(DeliveryError):
            if not self._llm.llm_engine.add_lora(request):
                raise DeliveryError(f"vLLM did not load the adapter {adapter.name!r}.")
        self._requests[adapter.number] = request

    def remove(self, adapter: Adapter) -> None:
        request = self._requests.pop(adapter.number)
        with _sentences(DeliveryError):
            self._llm.llm_engine.remove_lora(adapter.number)
        shutil.rmtree(request.lora_path, ignore_errors=True)

    def draw(self, jobs: Sequence[Job]) -> list[list[list[Completion]]]:
        prompts = [prompt for job in jobs for prompt in job.prompts]
        adapters = [job.adapter for job in jobs for _ in job.prompts]
        settings = [
            _sampling(
                job.allowed,
                n=job.count,
                seed=seed,
                temperature=job.decoding.temperature,
                max_tokens=job.decoding.max_tokens,
                logprobs=0,
                # Only the ends of the decoding end a response.
                stop_token_ids=list(job.decoding.ends),
            )
            for job in jobs
            for seed in job.seeds
        ]
        found = iter(self._generated(adapters, prompts, settings))
        return [
            [
                [_completion(output) for output in each.outputs]
                for each in islice(found, len(job.prompts))
            ]
            for job in jobs
        ]

    def scores(self, job: Job, ids: Sequence[int]) -> Array:
        settings = _sampling(
            job.allowed,
            seed=0,
            temperature=job.decoding.temperature,
            max_tokens=1,
            logprob_token_ids=list(ids),
        )
        found = []
        # One row at a time: in a batch, whose rows vary, half precision would round otherwise.
        for row in job.prompts:
            (each,) = self._generated([job.adapter], [row], [settings])
            known = each.outputs[0].logprobs[0]
            found.append([known[i].logprob for i in ids])
        return np.array(found)

    def _generated(
        self, adapters: Sequence[Adapter | None], prompts: Sequence[Ids], settings: list[Any]
    ) -> list[Any]:
        requests = [None if a is None else self._requests[a.number] for a in adapters]
        with _sentences(EngineError):
            found: list[Any] = self._llm.generate(
                [{"prompt_token_ids": list(prompt)} for prompt in prompts],
                settings,
                use_tqdm=False,
                lora_request=requests,
            )
        return found


def _started(
    network: TransformersNetwork,
    weights: Mapping[str, Tensor],
    settings: Colocated,
    folder: Path,
) -> Any:
    """Start vLLM with the model of a network. `ImportError` if it is not installed."""
    on_cpu = network.device.type == "cpu"
    # Weights are handed over as tensors, which another process could not be given.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        with _without_llvmlite(on_cpu):
            vllm: Any = importlib.import_module("vllm")
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from error
    options: dict[str, Any] = {}
    if formats.has_adapters(network):
        # VLLM knows a few ranks alone.
        options["max_lora_rank"] = formats.rank_at_least(formats.rank_of(network))
        options |= {"enable_lora": True, "max_loras": settings.slots}
    if on_cpu:
        options |= {
            "kv_cache_memory_bytes": int(settings.memory * 2**30),
            # A seed for each request needs whole prompts there.
            "enable_chunked_prefill": False,
        }
    else:
        options |= {"gpu_memory_utilization": settings.memory, "enable_sleep_mode": True}
    formats.write_start(folder, network, weights)
    try:
        with _sentences(EngineError), _without_llvmlite(on_cpu):
            return vllm.LLM(
                model=str(folder),
                dtype=str(formats.precision(network)).removeprefix("torch."),
                enforce_eager=settings.eager or on_cpu,
                max_model_len=settings.longest or network.context,
                max_num_seqs=settings.rows,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",
                skip_tokenizer_init=True,
                seed=0,
                disable_log_stats=True,
                **options,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _without_llvmlite(on_cpu: bool) -> Iterator[None]:
    """Within this context a module is hidden over which vLLM's start on a CPU stumbles."""
    # It looks into every module for kernels of Triton, and llvmlite's has no such attributes.
    hidden = sys.modules.pop("llvmlite.binding.ffi", None) if on_cpu else None
    try:
        yield
    finally:
        if hidden is not None:
            sys.modules["llvmlite.binding.ffi"] = hidden


@contextmanager
def _sentences(kind: type[EngineError]) -> Iterator[None]:
    """Turn vLLM's errors into one of `kind`. Those of memory stay what they are."""
    try:
        yield
    except (EngineError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".: ")
        raise kind(f"vLLM failed: {reason}.") from error


def _sampling(allowed: Sequence[int] | None, **settings: Any) -> Any:
    """The settings of vLLM that draw from exactly the policy's distribution."""
    vllm: Any = importlib.import_module("vllm")
    return vllm.SamplingParams(
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        ignore_eos=True,
        detokenize=False,
        allowed_token_ids=None if allowed is None else list(allowed),
        **settings,
    )


def _completion(output: Any) -> Completion:
    ids = tuple(output.token_ids)
    numbers = (at[i].logprob for at, i in zip(output.logprobs, ids, strict=True))
    return Completion(ids, tuple(numbers))
