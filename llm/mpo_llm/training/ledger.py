"""The cost of a run so far, from wrappers that count and time the functions within them."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

import mpo_games as mg
from mpo_games.labelled import shown
from mpo_games.protocol import Solver, State
from mpo_llm.averages import WeightAveraged
from mpo_llm.engines import Drawn, Engine, Together, draw_each
from mpo_llm.judges.protocol import Judge
from mpo_llm.networks.base import Network
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids
from mpo_llm.step.proximal import StepReport
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.training.contention import Contention
from mpo_llm.trees.policy import TreePolicy

PASSES = ("forward_tokens", "backward_tokens")
"""Names of two counts: the tokens that networks have predicted, in drawing, scoring and training,
and those among them through which a gradient went back."""


def peak_memory(device: torch.device) -> int:
    """The most memory that was in use, in bytes: of a CUDA device, or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts in KiB.
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass(slots=True)
class Ledger:
    """Counts of everything that a budget can limit, seconds, and the last mirror step."""

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
    """Seconds by what they were spent on; `scoring` is the time that belongs to no other entry."""
    rollouts: Rollouts | None = None
    """The responses that the last mirror step learned from, without hidden states."""
    report: StepReport | None = None
    """The report of the last mirror step."""
    clock: Callable[[], float] = time.perf_counter
    """It gives the seconds."""
    contention: Contention = field(default_factory=Contention)
    """How long mirror steps took by the wall's clock and by the processor's."""

    def exhausted(self, budget: Mapping[str, int | None]) -> str | None:
        """The name of the first limit in `budget` that is reached; None if none is."""
        for name, limit in budget.items():
            if limit is not None and self.counts.get(name, 0) >= limit:
                return name
        return None

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Charge the seconds within this context to `name`, except those charged to others."""
        began, inner = self.clock(), sum(self.seconds.values())
        try:
            yield
        finally:
            nested = sum(self.seconds.values()) - inner
            self.seconds[name] += self.clock() - began - nested

    @contextmanager
    def passes(self, network: Network) -> Iterator[None]:
        """Count the tokens that the networks of all processes predict within this context."""
        before = network.tokens_passed.copy()
        yield
        spent = network.processes.gather(network.tokens_passed - before)
        forward, backward = np.sum(spent, axis=0).tolist()
        # A token with a gradient went forward, too.
        for name, tokens in zip(PASSES, (forward + backward, backward), strict=True):
            self.counts[name] += tokens

    def judge(self, judge: Judge, failed: Callable[[], int] = lambda: 0) -> Judge:
        """The judge, with its calls counted and timed.

        `failed()` is the number of comparisons on which it has failed so far; they count as ties.
        """

        def metered(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> ArrayLike:
            before = failed()
            with self.time("judging"):
                said = judge(prompts, a, b)
            self.counts["judge_calls"] += len(prompts)
            self.counts["judge_failures"] += failed() - before
            return said

        return metered

    def engine(self, engine: Engine) -> Engine:
        """The engine, with its responses and tokens counted and its calls timed."""
        return _Metered(engine, self)

    def solver(self, solver: Solver) -> Solver:
        """The solver, with its gradients counted, and its mirror steps and magnet timed.

        The responses of its last mirror step are kept in `rollouts`, its report in `report`.
        `TypeError` for any solver but `MMD`, and an average of the weights beside it.
        """
        if isinstance(solver, WeightAveraged):
            return replace(solver, solver=self.solver(solver.solver))
        if not isinstance(solver, mg.MMD):
            raise TypeError(f"Only the steps of `MMD` can be counted, got {shown(solver)}.")

        # A solver takes every mirror step by its pull: half steps, whose policies no state keeps,
        # and penalised ones, before the penalty changes the advantages.
        def pull(policy: Any, q: Any, magnet: Any, **choices: Any) -> Any:
            with self.time("step"), self.contention.measured():
                stepped: TokenPolicy | TreePolicy = solver.pull(policy, q, magnet, **choices)
            assert stepped.report is not None
            self.counts["gradient_steps"] += stepped.report.gradients
            self.report = stepped.report
            # In a game it is the gradient of a tree.
            if isinstance(q, Rollouts):
                # Hidden states would be the largest tensors to stay in memory until the next step.
                self.rollouts = replace(q, hidden=None)
            return stepped

        def magnet(game: Any, state: State[Any]) -> State[Any]:
            with self.time("step"):
                return solver.magnet(game, state)

        return replace(solver, pull=pull, magnet=magnet)


@dataclass(frozen=True, slots=True)
class _Metered(Together):
    """An engine that tells a ledger what it draws."""

    engine: Engine
    ledger: Ledger

    def each(
        self,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What each of several policies draws."""
        with self.ledger.time("generation"):
            found = draw_each(self.engine, policies, prompts, count, rng)
        for drawn in found:
            self.ledger.counts["samples"] += len(drawn.responses)
            self.ledger.counts["tokens"] += int(drawn.responses.lengths.sum())
        return found
