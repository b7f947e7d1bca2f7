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
from mpo_llm.step.scoring import CHUNK, DEVICE, KEPT
from mpo_llm.step.terms import ARRAYS
from mpo_llm.training import assemble
from mpo_llm.training.ledger import Ledger, peak_memory
from mpo_llm.training.train import Run

GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Plan:
    """The expected cost of a run."""

    prompts: int
    """Prompts a step, of all processes together."""
    responses: int
    """Responses a step, of all processes together."""
    tokens: int
    """The most tokens that a step can draw."""
    comparisons: int
    """The most comparisons that a step without a pool can ask for."""
    gradients: int
    """Gradients a step."""
    memory: Mapping[str, float]
    """Bytes of one process by what they hold, an estimate."""
    seconds: Mapping[str, float]
    """Seconds of a step by what they are spent on, from the probe."""
    peak: int
    """The most bytes in use during the probe, of the process or of a CUDA device."""
    steps: int | None
    """The steps that the budget allows; None if only the run can tell."""

    def __str__(self) -> str:
        held = ", ".join(f"{name} {_size(size)}" for name, size in self.memory.items())
        spent = ", ".join(f"{name} {s:.2g} s" for name, s in self.seconds.items())
        step = sum(self.seconds.values())
        whole = (
            "" if self.steps is None else f"; {self.steps:,} steps in {_time(self.steps * step)}"
        )
        return "\n".join(
            [
                f"a step    {self.prompts:,} prompts, {self.responses:,} responses of at most "
                f"{self.tokens:,} tokens in all, {self.comparisons:,} comparisons, "
                f"{self.gradients} gradients",
                f"memory    about {_size(sum(self.memory.values()))}: {held}",
                f"          {_size(self.peak)} were in use in the probe",
                f"time      about {_time(step)} a step: {spent}{whole}",
            ]
        )


def plan(config: Config) -> Plan:
    """Load the run and take one short step as a probe. Nothing is written."""
    run = Run.of(config)
    game, solver = run.game, config.solver
    prompts = game.prompts_per_step or len(game.prompts)
    responses = prompts * solver.samples
    spent = _probe(run)
    # The probe has one prompt and one gradient; a process has its share of the prompts.
    share = math.ceil(prompts / run.processes.size)
    seconds = {name: s * share for name, s in spent.items()}
    seconds["step"] *= config.step.epochs * config.step.minibatches
    return Plan(
        prompts,
        responses,
        responses * game.start.decoding.max_tokens,
        responses * (solver.samples - 1) // 2,
        config.step.epochs * config.step.minibatches,
        _memory(config, game.start, max(map(len, game.prompts)), share * solver.samples),
        seconds,
        peak_memory(run.device),
        _steps(config, responses),
    )


def _probe(run: Run) -> Mapping[str, float]:
    """Seconds of a step with the longest prompt and one gradient, by what they are spent on."""
    game = run.game
    ledger = Ledger()
    longest = int(np.argmax([len(prompt) for prompt in game.prompts]))
    once = replace(run.config.step, epochs=1, minibatches=1)
    start = replace(game.start, proximal=assemble.proximal(once))
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
    return ledger.seconds


def _memory(config: Config, start: TokenPolicy, prompt: int, responses: int) -> dict[str, float]:
    """Bytes in memory when a step needs most, by what they hold."""
    network, settings = start.network, config.solver
    assert isinstance(network, TransformersNetwork)
    inner = network.config
    trained = sum(w.numel() for w in network.trainable.values())
    whole, half = network.bytes, config.model.dtype == "bfloat16"
    # The old policy, the start (as magnet, or as opponent in evaluation), a magnet that has left
    # the start, and the policy before the old one. The new policy is the model itself.
    policies = 1
    policies += settings.alpha > 0.0 or bool(config.evaluation.source)
    policies += settings.magnet != "fixed"
    policies += settings.feedback == "optimistic"
    width = 2 if half else 4
    micro_batch = min(config.step.micro_batch or responses, responses)
    tokens = prompt + config.generation.max_tokens
    layers, hidden = inner.num_hidden_layers, inner.hidden_size
    # Numbers that a layer keeps for the backward pass, per token: an estimate.
    layer = 10 * hidden + 4 * (getattr(inner, "intermediate_size", None) or 4 * hidden)
    kept = layers * hidden + layer if config.model.gradient_checkpointing else layers * layer
    heads = getattr(inner, "num_key_value_heads", None) or inner.num_attention_heads
    size = getattr(inner, "head_dim", None) or hidden // inner.num_attention_heads
    drawn = min(config.generation.batch, responses)
    run = micro_batch * tokens
    if config.step.micro_tokens is not None:
        run = min(run, max(config.step.micro_tokens, tokens))
    return {
        "model": whole,
        "policies": 4.0 * trained * policies,
        "gradients": 4.0 * trained * (2 if half else 1),
        # L-BFGS keeps 50 pairs of vectors.
        "optimiser": 4.0 * trained * (4 if config.step.minimiser == "adam" else 100),
        "activations": float(width * run * kept),
        "logits": float((ARRAYS + KEPT) * CHUNK * (1 if network.device.type == "cpu" else DEVICE)),
        "cache": float(2 * width * drawn * tokens * layers * heads * size),
    }


def _steps(config: Config, responses: int) -> int | None:
    budget = config.budget
    limits = [budget.steps]
    if budget.samples is not None:
        limits.append(math.ceil(budget.samples / responses))
    if budget.gradient_steps is not None:
        gradients = config.step.epochs * config.step.minibatches
        limits.append(math.ceil(budget.gradient_steps / gradients))
    return min((limit for limit in limits if limit is not None), default=None)


def _size(size: float) -> str:
    return f"{size / GIB:.2g} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.2g} MiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.2g} h"
