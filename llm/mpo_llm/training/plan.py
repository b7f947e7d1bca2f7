"""The cost of a run in advance: memory and tokens by arithmetic, time by one short step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

import mpo_games as mg
from mpo_games.protocol import State
from mpo_llm.config import Config
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.policy import TokenPolicy
from mpo_llm.revisits import Revisited
from mpo_llm.training import assemble, memory
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.memory import Memory
from mpo_llm.training.progress import duration
from mpo_llm.training.train import Run

GIB = 2.0**30

VISITS = Revisited()
"""What `auto` learns from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The expected cost of a run."""

    algorithm: str
    """The name of the solver."""
    prompts: int
    """Prompts that a step asks, of all processes together."""
    responses: int
    """Responses that a step draws, of all processes together."""
    tokens: int
    """The most tokens that a step can draw."""
    comparisons: int
    """The most comparisons that a step without a pool can ask for."""
    learnt: int
    """The most responses that a step learns from, of all processes together."""
    gradients: int
    """Gradients a step."""
    memory: Memory
    """Bytes of one process by what they hold, an estimate."""
    seconds: Mapping[str, float]
    """Seconds of a step by what they are spent on, from the probe."""
    peak: int
    """The most bytes in use during the probe, of the process or of a CUDA device."""
    steps: int | None
    """The steps that the budget allows; None if only the run can tell."""

    def __str__(self) -> str:
        host = self.memory.host
        spent = ", ".join(f"{name} {duration(s)}" for name, s in self.seconds.items())
        step = sum(self.seconds.values())
        whole = (
            "" if self.steps is None else f"; {self.steps:,} steps in {duration(self.steps * step)}"
        )
        # Where a step learns from what it has drawn, there is nothing to say.
        learnt = "" if self.learnt == self.responses else f", learns from up to {self.learnt:,}"
        return "\n".join(
            [
                f"solver    {self.algorithm}",
                f"a step    {self.prompts:,} prompts, {self.responses:,} responses of at most "
                f"{self.tokens:,} tokens in all, {self.comparisons:,} comparisons, "
                f"{self.gradients} gradients{learnt}",
                f"memory    about {_listed(self.memory.device)}",
                *([f"          and about {_listed(host)}, in CPU memory"] if host else []),
                f"          {_size(self.peak)} were in use in the probe",
                f"time      about {duration(step)} a step: {spent}{whole}",
            ]
        )


def plan(config: Config) -> Plan:
    """Load the run and take one short step as a probe. Nothing is written."""
    run = Run.of(config)
    config = run.config
    game, solver = run.game, config.solver
    network = game.start.network
    assert isinstance(network, TransformersNetwork)
    prompts = game.prompts_per_step or len(game.prompts)
    responses = prompts * solver.samples
    updates = assemble.gradients(config)
    spent, taken = _probe(run)
    # The probe has one prompt; a process has its share of the prompts.
    share = math.ceil(prompts / run.processes.size)
    seconds = {name: s * share for name, s in spent.items()}
    seconds["step"] *= updates / taken
    steps = _steps(config, responses, updates)
    learnt, compared = responses, responses * (solver.samples - 1) // 2
    if solver.algorithm == "auto":
        at, kept = min(prompts + VISITS.others, len(game.prompts)), VISITS.visits * solver.samples
        learnt, mean = _growing(responses, at * kept, steps)
        # Each new response meets the others of its visit, and those of the visits before.
        compared += responses * (kept - solver.samples)
        for name in ("scoring", "step"):
            seconds[name] *= mean / responses
    part = math.ceil(learnt / run.processes.size)
    return Plan(
        str(solver.algorithm),
        prompts,
        responses,
        responses * game.start.decoding.max_tokens,
        compared,
        learnt,
        updates,
        memory.estimate(config, network, max(map(len, game.prompts)), part),
        seconds,
        peak_memory(run.device),
        steps,
    )


def _probe(run: Run) -> tuple[Mapping[str, float], int]:
    """Seconds of a step with the longest prompt, by what they are spent on, and its gradients.

    It has one gradient, except where the solver says itself how a step is solved.
    """
    game = run.game
    ledger = Ledger()
    longest = int(np.argmax([len(prompt) for prompt in game.prompts]))
    start = game.start
    if run.config.solver.algorithm != "auto":
        once = replace(run.config.step, epochs=1, minibatches=1)
        start = replace(start, proximal=assemble.proximal(once))
    probe = replace(
        game,
        prompts=(game.prompts[longest],),
        start=start,
        prompts_per_step=None,
        judge=ledger.judge(game.judge),
        engine=ledger.engine(game.engine),
    )
    states: Iterator[State[TokenPolicy]] = mg.iterate(
        probe, ledger.solver(run.solver), rng=np.random.default_rng(0)
    )
    # The first state is the start, before any step.
    next(states)
    with ledger.time("scoring"):
        next(states)
    return ledger.seconds, ledger.counts["gradient_steps"]


def _growing(responses: int, bound: int, steps: int | None) -> tuple[int, float]:
    """Of the numbers of responses that steps learn from, the last, and their mean.

    A step has `responses` more than the one before, up to `bound`.
    """
    full = bound / responses
    if steps is None:
        return bound, float(bound)
    grown = min(steps, math.floor(full))
    total = responses * grown * (grown + 1) / 2 + bound * (steps - grown)
    return min(bound, responses * steps), total / steps


def _steps(config: Config, responses: int, gradients: int) -> int | None:
    budget = config.budget
    limits = [budget.steps]
    if budget.samples is not None:
        limits.append(math.ceil(budget.samples / responses))
    if budget.gradient_steps is not None:
        limits.append(math.ceil(budget.gradient_steps / gradients))
    return min((limit for limit in limits if limit is not None), default=None)


def _listed(held: Mapping[str, float]) -> str:
    whole = _size(sum(held.values()))
    return f"{whole}: " + ", ".join(f"{name} {_size(size)}" for name, size in held.items())


def _size(size: float) -> str:
    # Two digits, and never a power of ten.
    number, unit = (size / GIB, "GiB") if size >= 0.1 * GIB else (size / 2**20, "MiB")
    return f"{number:.2g} {unit}" if number < 10.0 else f"{number:,.0f} {unit}"
