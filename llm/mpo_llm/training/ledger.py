"""What a run has cost so far, and where its time goes: wrappers that count what passes through."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike

from mpo_llm.engines import Drawn, Generator
from mpo_llm.judges.protocol import Judge
from mpo_llm.networks.base import Network
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids

PASSES = ("forward_tokens", "backward_tokens")
"""Tokens that networks predicted, in generation, scoring and step, and those of them whose gradient
was followed back."""


def peak_memory(device: torch.device) -> int:
    """Bytes in use at the height: of a CUDA device, or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass(slots=True)
class Ledger:
    """Counts of everything a budget can name and of passes, and seconds by what they were spent
    on."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "steps",
                "samples",
                "judge_calls",
                "judge_failures",
                "tokens",
                "gradient_steps",
                *PASSES,
            ),
            0,
        )
    )
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("generation", "judging", "scoring", "step"), 0.0)
    )

    def exhausted(self, budget: Mapping[str, int | None]) -> str | None:
        """The first limit of `budget` that has been reached, by its name."""
        for name, limit in budget.items():
            if limit is not None and self.counts[name] >= limit:
                return name
        return None

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Charge the seconds spent within to `name` alone."""
        began, inner = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            nested = sum(self.seconds.values()) - inner
            self.seconds[name] += time.perf_counter() - began - nested

    @contextmanager
    def passes(self, network: Network) -> Iterator[None]:
        """Count what the processes' networks predict within."""
        before = network.tokens_passed.copy()
        yield
        forward, backward = np.sum(
            network.processes.gather(network.tokens_passed - before), axis=0
        ).tolist()
        for name, tokens in zip(PASSES, (forward + backward, backward), strict=True):
            self.counts[name] += tokens

    def judge(self, judge: Judge, failed: Callable[[], int] = lambda: 0) -> Judge:
        """The judge, its calls counted, and its failures where `failed` knows of them: comparisons
        that it could not make, and that are ties."""

        def metered(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> ArrayLike:
            before = failed()
            with self.time("judging"):
                said = judge(prompts, a, b)
            self.counts["judge_calls"] += len(prompts)
            self.counts["judge_failures"] += failed() - before
            return said

        return metered

    def generator(self, engine: Generator) -> Generator:
        """The engine, its samples and tokens counted."""

        def metered(
            policy: TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator
        ) -> Drawn:
            with self.time("generation"):
                drawn = engine(policy, prompts, count, rng)
            self.counts["samples"] += len(drawn.responses)
            self.counts["tokens"] += int(drawn.responses.lengths.sum())
            return drawn

        return metered
