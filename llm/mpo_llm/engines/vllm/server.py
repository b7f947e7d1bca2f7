"""vLLM behind HTTP: a server in an environment of its own, on this machine's files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mpo_games.checks import require_count, require_positive
from mpo_games.protocol import Array
from mpo_llm.engines.autoregressive import Autoregressive
from mpo_llm.engines.protocol import Drawn, Engine, EngineError, Together
from mpo_llm.engines.vllm import weights as formats
from mpo_llm.engines.vllm.client import Client
from mpo_llm.engines.vllm.hosted import Hosted
from mpo_llm.engines.vllm.hosts import Adapter, Completion, DeliveryError, Job
from mpo_llm.engines.vllm.versions import Versions
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids

T = TypeVar("T")

START = "start"
"""The name under which `mpo-llm serve` serves the model."""

PATIENCE = 30.0
"""Seconds for a delivery, beside those in which a slow disk reads its bytes."""

SLOWEST = 50e6
"""Bytes a second of a slow disk."""

FORGETTING = 20
"""How often the server is asked to forget its cache: it refuses while a request ends."""

LONG = 10_000
"""More ids than these are not listed in a request, if those that may not be produced are few."""

FEW, BIAS, WARM = 1000, -100.0, 4.0
"""Few ids that may not be produced get a bias instead, the lowest that there is: below this
temperature their probability is less than the rounding of those that may."""

CLIPPED = -9999.0
"""What the server says of a token of probability 0."""


@dataclass(slots=True, eq=False)
class Server(Together):
    """vLLM's OpenAI-compatible server as an `Engine`.

    The server has the run's model, was started with its development endpoints (`mpo-llm serve` does
    so), and serves one run at a time. It reads weights from files, so it has to see `folder`.
    Responses of mixtures are drawn by `mixtures`. Errors are those of `Hosted`.
    """

    url: str
    """The server's address, such as http://127.0.0.1:8000, or `$NAME`, the variable that holds it.
    """
    folder: Path | None = None
    """Where weights are written for the server, and removed again; None is the system's place for
    temporary files."""
    dtype: torch.dtype | None = None
    """The precision of the server's weights; None is that of the network."""
    at_once: int = 64
    """The largest number of prompts that are asked at the same time."""
    timeout: float = 45.0
    """Seconds without an answer and without a new token after which the server has failed."""
    slots: int = 2
    """Adapters that the server holds at the same time, its `--max-loras`."""
    key_env: str | None = None
    """The name of the environment variable that holds the server's key."""
    mixtures: Engine = Autoregressive()
    """The engine that draws responses of mixtures."""
    hosted: Hosted = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_count("at_once", self.at_once)
        require_count("slots", self.slots)
        require_positive("timeout", self.timeout)
        client = Client(self.url, self.at_once, self.timeout, self.key_env)
        host = _Served(client, Versions(self.folder), self.slots)
        self.hosted = Hosted(host, self.dtype, self.mixtures)

    def each(
        self,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What each of several policies draws, adapters in one batch: see `Together`."""
        return self.hosted.each(policies, prompts, count, rng)


@dataclass(frozen=True, slots=True)
class _Card:
    """What the server says of its model."""

    name: str
    folder: str
    """Where it was loaded from; a name of the hub, or empty, if it was no folder."""
    longest: int
    """The most tokens of a prompt and its response."""


@dataclass(slots=True, eq=False)
class _Served:
    """The host behind HTTP."""

    client: Client
    versions: Versions
    slots: int
    _number: int = 0
    _folders: dict[int, Path] = field(default_factory=dict)
    _model: _Card | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def room(self) -> int:
        return self._card().longest

    def reload(self, weights: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        self._require_names(weights, unused)
        self._number += 1
        with self.versions.writing():
            folder = self.versions.new(self._number)
        try:
            with self.versions.writing():
                formats.write_model(folder, weights)
            size = sum(w.numel() * w.element_size() for w in weights.values())
            seconds = PATIENCE + size / SLOWEST
            # vLLM has no other door for whole models that is there in many of its releases.
            body = {
                "method": "reload_weights",
                "kwargs": {"weights_path": str(folder)},
                "timeout": seconds,
            }
            said = self._delivered("/collective_rpc", body, seconds)
            if not isinstance(said, dict) or any(said.get("results") or [said]):
                raise DeliveryError(f"The vLLM server at {self.client.url} answered {said!r}.")
            self._forget()
        finally:
            # The server has read it, or never will.
            shutil.rmtree(folder, ignore_errors=True)

    def _forget(self) -> None:
        """Drop keys and values that other weights have computed."""
        for _ in range(FORGETTING):
            said = self._delivered("/reset_prefix_cache", {})
            # Older releases answer nothing, and success alone is status 200.
            if not isinstance(said, dict) or said.get("success", True):
                return
            sleep(0.1)
        raise DeliveryError(
            f"The vLLM server at {self.client.url} does not forget what it has computed by other "
            "weights, since it has requests of somebody else: use one server for each run."
        )

    def add(self, adapter: Adapter) -> None:
        with self.versions.writing():
            folder = self.versions.new(adapter.number)
            formats.write_adapter(folder, adapter)
        self._folders[adapter.number] = folder
        body = {"lora_name": self._name(adapter), "lora_path": str(folder)}
        try:
            self._delivered("/v1/load_lora_adapter", body)
        except DeliveryError as error:
            raise DeliveryError(
                f"{error} A server takes adapters if it was started for them: `mpo-llm serve` with "
                "the run's `model.lora_rank`."
            ) from None

    def remove(self, adapter: Adapter) -> None:
        body = {"lora_name": self._name(adapter)}
        self._delivered("/v1/unload_lora_adapter", body)
        shutil.rmtree(self._folders.pop(adapter.number), ignore_errors=True)

    def draw(self, jobs: Sequence[Job]) -> list[list[list[Completion]]]:
        bodies = [
            {**self._request(job), "prompt": list(prompt), "seed": seed}
            for job in jobs
            for prompt, seed in zip(job.prompts, job.seeds, strict=True)
        ]
        answers = iter(self.client.answers("/v1/completions", bodies))
        return [
            [self._read(partial(_completions, a), a) for a in islice(answers, len(job.prompts))]
            for job in jobs
        ]

    def _request(self, job: Job) -> dict[str, object]:
        """What the requests of a job share."""
        decoding = job.decoding
        return {
            **self._sampling(job, decoding.max_tokens),
            "n": job.count,
            "logprobs": 0,
            # Only the ends of the decoding end a response.
            "stop_token_ids": list(decoding.ends),
        }

    def scores(self, job: Job, ids: Sequence[int]) -> Array:
        shared = {
            **self._sampling(job, 1),
            "seed": 0,
            "logprobs": 1,
            "logprob_token_ids": list(ids),
            "return_tokens_as_token_ids": True,
        }
        # One row at a time: in a batch, whose rows vary, half precision would round otherwise.
        found = [
            self.client.answers("/v1/completions", [{**shared, "prompt": list(row)}])[0]
            for row in job.prompts
        ]
        return np.array([self._read(partial(_scores, each, ids), each) for each in found])

    def _sampling(self, job: Job, most: int) -> dict[str, object]:
        """The fields of a request that draws from exactly the policy's distribution."""
        return {
            "model": self._card().name if job.adapter is None else self._name(job.adapter),
            "max_tokens": most,
            "temperature": job.decoding.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "min_tokens": 0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "ignore_eos": True,
            "return_token_ids": True,
            **_restriction(job),
        }

    def _name(self, adapter: Adapter) -> str:
        """A name that no other run has given, since the server may outlive a run."""
        return f"{self.versions.name}-{adapter.name}"

    def _card(self) -> _Card:
        """What the server says of its model."""
        if self._model is None:
            said = self.client.get("/v1/models").decode("utf-8", "replace")
            self._model = self._read(partial(_card, said), said)
        return self._model

    def _require_names(self, weights: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        """`DeliveryError` unless the model that the server was started with has these names.

        The server itself would only log a warning, and keep the old weights.
        """
        folder = self._card().folder
        # An empty name would be the working folder.
        files = sorted(Path(folder).glob("*.safetensors")) if folder else []
        if not files:
            return
        from safetensors import safe_open

        known: set[str] = set()
        for file in files:
            with safe_open(file, "pt") as opened:
                known |= set(opened.keys())
        # The patterns are for names that no model has: GPT-2's `attn.bias` is found in
        # `c_attn.bias` too, which is a weight.
        missing = sorted(
            name
            for name in known - set(weights)
            if not any(re.search(pattern, name) for pattern in unused)
        )
        # A tied head is written in any case.
        other = sorted(n for n in set(weights) - known if "head" not in n)
        if missing or other:
            first = (missing or other)[0]
            verb = "lack" if missing else "have"
            raise DeliveryError(
                f"The vLLM server at {self.client.url} was started with another model: the "
                f"policy's weights {verb} {first!r}, and {len(missing + other)} names differ. "
                "Start it by `mpo-llm serve` with the run's configuration."
            )

    def _delivered(self, path: str, body: object, timeout: float = PATIENCE) -> object:
        """The answer to a request that delivers weights."""
        try:
            return self.client.ask(path, body, timeout)
        except EngineError as error:
            raise DeliveryError(f"The weights could not be delivered. {error}") from None

    def _read(self, function: Callable[[], T], answer: object) -> T:
        """What is read from an answer. `EngineError` if it has another form."""
        try:
            return function()
        except (LookupError, TypeError, ValueError, AttributeError):
            said = " ".join(json.dumps(answer).split())[:200]
            raise EngineError(
                f"The server at {self.client.url} answers in another form than vLLM does: {said}"
            ) from None


def _card(said: str) -> _Card:
    """The model that was loaded, and no adapter upon it."""
    # A model may be served under several names.
    card, *_ = (c for c in json.loads(said)["data"] if not c.get("parent"))
    return _Card(str(card["id"]), str(card.get("root") or ""), int(card["max_model_len"]))


def _restriction(job: Job) -> dict[str, object]:
    """The field of a request that says which ids may be produced, if not all may."""
    if job.allowed is None:
        return {}
    banned = job.vocabulary - len(job.allowed)
    # A list of all ids of a large vocabulary is a megabyte in each request.
    if len(job.allowed) <= LONG or banned > FEW or job.decoding.temperature > WARM:
        return {"allowed_token_ids": list(job.allowed)}
    others = sorted(set(range(job.vocabulary)) - set(job.allowed))
    return {"logit_bias": {str(i): BIAS for i in others}}


def _completions(answer: Any) -> list[Completion]:
    """The completions in the answer to one prompt, in order."""
    found = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [
        Completion(
            tuple(int(i) for i in choice["token_ids"]),
            tuple(float(p) for p in choice["logprobs"]["token_logprobs"]),
        )
        for choice in found
    ]


def _scores(answer: Any, ids: Sequence[int]) -> list[float]:
    """The log-probabilities of the `ids` in the answer to one row."""
    (choice,) = answer["choices"]
    (known,) = choice["logprobs"]["top_logprobs"]
    found = [float(known[f"token_id:{i}"]) for i in ids]
    if min(found) <= CLIPPED:
        raise ValueError
    return found
