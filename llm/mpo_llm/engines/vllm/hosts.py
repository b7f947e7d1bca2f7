"""Hosts: places where vLLM runs. They hold weights, draw responses and score tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mpo_games.protocol import Array
from mpo_llm.engines.protocol import EngineError
from mpo_llm.responses import Decoding, Ids


class DeliveryError(EngineError):
    """The engine did not take the weights of a policy."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """LoRA adapters of a policy, as PEFT saves them."""

    name: str
    """A name that no other version has: vLLM keeps what it has computed by the name."""
    number: int
    """A number above 0 that no other version has."""
    tensors: Mapping[str, Tensor]
    """The weights by their names in `adapter_model.safetensors`."""
    config: Any
    """PEFT's configuration."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Responses of one policy that a host is asked for."""

    adapter: Adapter | None
    """The adapter to draw with; None for the model alone."""
    prompts: Sequence[Ids]
    seeds: Sequence[int]
    """A seed for each prompt; its responses have the seeds that follow on it."""
    count: int
    """Responses to each prompt."""
    decoding: Decoding
    allowed: Sequence[int] | None
    """The ids that may be produced; None for all."""
    vocabulary: int
    """The number of ids that the model has a logit for."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A response as a host gives it."""

    ids: Ids
    """Its token ids, with its end."""
    log_probs: tuple[float, ...]
    """Their log-probabilities under the temperature, in nats."""


class Host(Protocol):
    """A place where vLLM runs one model. Only one process of a run asks it.

    All methods raise `EngineError` in a sentence.
    """

    @property
    def device(self) -> torch.device:
        """Where the weights for `reload` should lie."""
        ...

    @property
    def slots(self) -> int:
        """The number of adapters that it can hold at the same time."""
        ...

    def room(self) -> int:
        """The most tokens of a prompt and its response."""
        ...

    def reload(self, weights: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        """Put all weights of the model in place, and forget what was computed by others.

        `unused` are patterns of names that a checkpoint may have and the model does not use.
        """
        ...

    def add(self, adapter: Adapter) -> None:
        """Load an adapter."""
        ...

    def remove(self, adapter: Adapter) -> None:
        """Let go of an adapter."""
        ...

    def draw(self, jobs: Sequence[Job]) -> list[list[list[Completion]]]:
        """For each job `count` responses to each of its prompts. All are drawn in one batch."""
        ...

    def scores(self, job: Job, ids: Sequence[int]) -> Array:
        """The log-probabilities of each of K `ids` as the first token of a response to each of the
        job's R prompts, `(R, K)` in nats. Nothing is drawn."""
        ...
