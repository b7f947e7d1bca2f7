"""A vLLM server in this process for the tests of engines: the calls that they use, a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
from safetensors.torch import load_file

import fake_server
from fake_model import Held
from fake_server import Reply

RELOAD, RESET = "/collective_rpc", "/reset_prefix_cache"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
COMPLETIONS, MODELS, METRICS = "/v1/completions", "/v1/models", "/metrics"
DELIVERIES = (RELOAD, LOAD)
LOST: Reply = (0, None, {})
PLAIN = {
    "ignore_eos": True,
    "return_token_ids": True,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "min_tokens": 0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What a request must say, so that nothing but the policy's distribution is drawn from."""


@dataclass
class FakeVLLM:
    """The server: what it holds, what it was sent, and how it misbehaves."""

    held: Held
    room: int = 64
    replies: dict[str, Reply] = field(default_factory=dict)
    """What some paths answer, whatever is asked."""
    change: Callable[[str, Any, Any], Any] = lambda path, body, answer: answer
    """`change(path, body, answer)`: what is answered instead."""
    loses: int = 0
    """How many of the next draws are made and never reach the one who asked."""
    lives: int | None = None
    """After so many draws the server is dead; None is never."""
    busy: int = 0
    """How often it refuses to forget."""
    hangs: bool = False
    """Whether draws wait until `free` is set."""
    progresses: bool = False
    """Whether it says that it makes tokens while they wait."""
    free: Event = field(default_factory=Event)
    url: str = ""
    seen: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Path, body and headers of each request."""

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._looks = 0

    def bodies(self, *paths: str) -> list[Any]:
        """The bodies that the paths were sent, in order."""
        return [body for path, body, _ in self.seen if path in paths]

    @property
    def draws(self) -> list[Any]:
        """The requests for responses, without those of the probe."""
        return [b for b in self.bodies(COMPLETIONS) if "logprob_token_ids" not in b]

    @property
    def paths(self) -> list[str]:
        """What was asked, in order, without repetitions in a row and without `/metrics`."""
        named = [
            "probe" if path == COMPLETIONS and "logprob_token_ids" in body else path
            for path, body, _ in self.seen
            if path != METRICS
        ]
        return [p for p, before in zip(named, [None, *named], strict=False) if p != before]

    def answer(self, path: str, body: Any) -> Reply:
        """The answer to a request."""
        lost = False
        if path == COMPLETIONS and "logprob_token_ids" not in body:
            with self._lock:
                lost, self.loses = self.loses > 0, max(0, self.loses - 1)
                if self.lives is not None:
                    self.lives -= 1
        if self.lives is not None and self.lives < 0:
            return LOST
        if path in self.replies:
            return self.replies[path]
        if path == METRICS:
            return 200, self._metrics(), {}
        status, found = self._answered(path, body)
        return LOST if lost else (status, self.change(path, body, found), {})

    def _answered(self, path: str, body: Any) -> tuple[int, Any]:
        held = self.held
        if path == MODELS:
            start = {"id": "start", "root": str(held.folder), "parent": None}
            cards = [{**start, "max_model_len": self.room}]
            return 200, {"data": [*cards, *({"id": n, "parent": "start"} for n in held.adapters)]}
        if path == RELOAD:
            assert body["method"] == "reload_weights"
            held.reload(
                load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors").items()
            )
            return 200, {"results": [None]}
        if path == RESET:
            self.busy -= 1
            if self.busy >= 0:
                return 200, {"success": False}
            held.forget()
            return 200, {"success": True}
        if path == LOAD:
            if body["lora_name"] in held.adapters:
                return 400, {"error": {"message": "The adapter is already loaded."}}
            if not (Path(body["lora_path"]) / "adapter_config.json").exists():
                return 404, {"error": {"message": f"No adapter found for {body['lora_path']}"}}
            held.add(body["lora_name"], Path(body["lora_path"]))
            return 200, "Success: adapter added"
        if path == UNLOAD:
            held.remove(body["lora_name"])
            return 200, "Success: adapter removed"
        if path == COMPLETIONS:
            if body["model"] not in ("start", *held.adapters):
                said = f"The model `{body['model']}` does not exist."
                return 404, {"error": {"message": said, "code": 404}}
            return 200, self._completed(body)
        return (200, {}) if path == "/health" else (404, {"detail": "Not Found"})

    def _completed(self, body: Any) -> Any:
        for name, plain in PLAIN.items():
            assert body[name] == plain, name
        if self.hangs and "logprob_token_ids" not in body:
            self.free.wait(10)
        rows = self.held.complete(
            None if body["model"] == "start" else body["model"],
            body["prompt"],
            n=body.get("n", 1),
            seed=body["seed"],
            temperature=body["temperature"],
            max_tokens=body["max_tokens"],
            allowed=body.get("allowed_token_ids"),
            bias=body.get("logit_bias", {}),
            ends=body.get("stop_token_ids", ()),
        )
        asked = body.get("logprob_token_ids", ())
        return {
            "object": "text_completion",
            "choices": [
                {
                    "index": i,
                    "token_ids": row.ids,
                    "logprobs": {
                        "token_logprobs": [max(p, -9999.0) for p in row.log_probs],
                        "top_logprobs": [
                            {f"token_id:{k}": max(float(row.first[k]), -9999.0) for k in asked}
                        ],
                    },
                }
                # In no order.
                for i, row in reversed(list(enumerate(rows)))
            ],
        }

    def _metrics(self) -> bytes:
        self._looks += self.progresses
        made = float(self.held.tokens + self._looks)
        return (
            "# HELP vllm:generation_tokens_total Number of tokens.\n"
            f'vllm:prompt_tokens_total{{engine="0",model_name="start"}} {1e6}\n'
            f'vllm:generation_tokens_total{{engine="0",model_name="start"}} {made}\n'
            'vllm:generation_tokens_created{engine="0",model_name="start"} 1.7e+09\n'
        ).encode()


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[FakeVLLM]:
    """A server of the model in a folder; the settings are those of `FakeVLLM` and `Held`."""
    own = {k: v for k, v in settings.items() if k in Held.__dataclass_fields__}
    fake = FakeVLLM(Held(folder, **own), **{k: v for k, v in settings.items() if k not in own})
    with fake_server.serving(fake.answer) as server:
        fake.url, fake.seen = server.url.removesuffix("/v1"), server.seen
        try:
            yield fake
        finally:
            fake.free.set()


def agreement(policy: Any, drawn: Any) -> float:
    """The largest difference of a token's log-probability by engine and network, in nats."""
    return float(np.abs(drawn.log_probs - policy.log_probs(drawn.responses)).max())
