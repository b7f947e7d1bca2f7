"""The cost of a run in advance: memory and tokens by arithmetic, time by one short step."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

import mpo_games as mg
from mpo_games.protocol import State
from mpo_llm.config import Config
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.policy import TokenPolicy
from mpo_llm.revisits import Revisited
from mpo_llm.step.following import Following
from mpo_llm.training import assemble, memory
from mpo_llm.training.at_table import AtTable
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.lock import require_place
from mpo_llm.training.memory import Memory
from mpo_llm.training.progress import duration
from mpo_llm.training.texts import Texts
from mpo_llm.training.train import Run

GIB = 2.0**30

VISITS = Revisited()
"""What `auto` learns from."""

NEW = 1.0
"""The chance that the next response is a new one, of texts that never repeat."""


@dataclass(frozen=True, slots=True)
class Repeating:
    """The most of a step that learns from the responses of earlier steps as well."""

    learnt: int
    """Responses that it learns from, of all processes together."""
    comparisons: int
    """Comparisons."""
    gradients: int
    """Gradients."""

    def __str__(self) -> str:
        return (
            f"where responses repeat, up to {self.learnt:,} are learnt from, with "
            f"{self.comparisons:,} comparisons and {self.gradients} gradients"
        )


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
    """The most comparisons that a step without a pool can ask for, if no response repeats."""
    gradients: int
    """Gradients a step, if no response repeats."""
    repeating: Repeating | None
    """What a step of `auto` can come to where responses repeat; None for other solvers."""
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
        return "\n".join(
            [
                f"solver    {self.algorithm}",
                f"a step    {self.prompts:,} prompts, {self.responses:,} responses of at most "
                f"{self.tokens:,} tokens in all, {self.comparisons:,} comparisons, "
                f"{self.gradients} gradients",
                *([] if self.repeating is None else [f"          {self.repeating}"]),
                f"memory    about {_listed(self.memory.device)}",
                *([f"          and about {_listed(host)}, in CPU memory"] if host else []),
                f"          {_size(self.peak)} were in use in the probe",
                f"time      about {duration(step)} a step: {spent}{whole}",
            ]
        )


@dataclass(frozen=True, slots=True)
class TablePlan:
    """The expected cost of a run that plays a game."""

    algorithm: str
    """The name of the solver."""
    states: int
    """Information states, each a prompt."""
    answers: int
    """Their actions, each an answer."""
    tokens: int
    """Tokens of all prompts with their answers, which a gradient passes."""
    gradients: int
    """The most gradients of a step."""
    weights: int
    """Numbers that are trained."""
    seconds: float
    """Seconds of a step, from the probe."""
    peak: int
    """The most bytes in use during the probe, of the process or of a CUDA device."""
    steps: int | None
    """The steps that the budget allows; None if only the run can tell."""

    def __str__(self) -> str:
        steps = self.steps
        whole = "" if steps is None else f"; {steps:,} steps in {duration(steps * self.seconds)}"
        return "\n".join(
            [
                f"solver    {self.algorithm}",
                f"a step    {self.states:,} information states with {self.answers:,} answers, "
                f"{self.tokens:,} tokens in all, at most {self.gradients} gradients",
                f"memory    {self.weights:,} weights are trained; {_size(self.peak)} were in use "
                "in the probe",
                f"time      about {duration(self.seconds)} a step{whole}",
            ]
        )


def plan(config: Config) -> Plan | TablePlan:
    """Load the run and take one short step as a probe. Nothing is written.

    `ValueError` for what `train` refuses before its first step: a place for results, too.
    """
    # The first process tries it for all.
    if os.environ.get("RANK", "0") == "0":
        require_place(config.output.folder)
    run = Run.of(config)
    return _of_table(run, run.subject) if isinstance(run.subject, AtTable) else _of_texts(run)


def _of_table(run: Run, subject: AtTable) -> TablePlan:
    (answers,), (start,) = subject.game.answers.listed, subject.game.start
    fit = subject.game.fit.minimise
    assert isinstance(fit, Following)
    ledger = Ledger()
    rng = np.random.default_rng(0)
    states = mg.iterate(subject.game, ledger.solver(subject.solver), policy=subject.start, rng=rng)
    next(states)
    # Twice, because the first step compiles; and some solvers begin by steps that only measure.
    for _ in range(2):
        before = ledger.counts["gradient_steps"]
        while ledger.counts["gradient_steps"] == before:
            began = ledger.clock()
            next(states)
    # Of a step that ends early the other gradients are guessed.
    taken = ledger.counts["gradient_steps"] - before
    seconds = (ledger.clock() - began) * fit.adam.epochs / taken
    budget = run.config.budget
    each = run.config.game.episodes
    limits = [budget.steps]
    if budget.gradient_steps is not None:
        limits.append(math.ceil(budget.gradient_steps / fit.adam.epochs))
    if budget.episodes is not None and each is not None:
        limits.append(math.ceil(budget.episodes / each))
    sizes = np.array([len(prompt) for prompt in answers.prompts])
    return TablePlan(
        str(run.config.solver.algorithm),
        subject.game.tree.tree.states,
        len(answers),
        int(np.sum(sizes[answers.prompt_of] + answers.lengths)),
        fit.adam.epochs,
        sum(w.numel() for w in start.weights.values()),
        seconds,
        peak_memory(run.device),
        min((limit for limit in limits if limit is not None), default=None),
    )


def _of_texts(run: Run) -> Plan:
    assert isinstance(run.subject, Texts)
    config = run.config
    game, solver = run.subject.game, config.solver
    network = game.start.network
    assert isinstance(network, TransformersNetwork)
    prompts = game.prompts_per_step or len(game.prompts)
    responses = prompts * solver.samples
    updates = assemble.gradients(config, NEW)
    spent, taken = _probe(run)
    # The probe has one prompt; a process has its share of the prompts.
    share = math.ceil(prompts / run.processes.size)
    seconds = {name: s * share for name, s in spent.items()}
    seconds["step"] *= updates / taken
    steps = _steps(config, responses, updates)
    # The pairs of responses to a prompt.
    compared = responses * (solver.samples - 1) // 2
    repeating = None
    if solver.algorithm == "auto":
        repeating = _repeating(config, len(game.prompts), prompts, steps)
    learnt = responses if repeating is None else repeating.learnt
    part = math.ceil(learnt / run.processes.size)
    return Plan(
        str(solver.algorithm),
        prompts,
        responses,
        responses * game.start.decoding.max_tokens,
        compared,
        updates,
        repeating,
        memory.estimate(config, network, max(map(len, game.prompts)), part),
        seconds,
        peak_memory(run.device),
        steps,
    )


def _probe(run: Run) -> tuple[Mapping[str, float], int]:
    """Seconds of a step with the longest prompt, by what they are spent on, and its gradients.

    It has one gradient, except where the solver says itself how a step is solved.
    """
    assert isinstance(run.subject, Texts)
    game = run.subject.game
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
        probe, ledger.solver(run.subject.solver), rng=np.random.default_rng(0)
    )
    # The first state is the start, before any step.
    next(states)
    with ledger.time("scoring"):
        next(states)
    return ledger.seconds, ledger.counts["gradient_steps"]


def _repeating(config: Config, known: int, asked: int, steps: int | None) -> Repeating:
    """The most of a step of `auto` that asks so many of the `known` prompts."""
    samples = config.solver.samples
    # A prompt is asked once in an epoch.
    asked_before = VISITS.visits if steps is None else math.ceil(steps * asked / known)
    visits = min(VISITS.visits, asked_before)
    drawn = math.inf if steps is None else steps * asked * samples
    learnt = int(min(min(asked + VISITS.others, known) * visits * samples, drawn))
    # Each new response meets the others of its visit, and those of the visits before.
    each = (samples - 1) / 2 + samples * (visits - 1)
    return Repeating(learnt, int(asked * samples * each), assemble.gradients(config, 0.0))


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
