"""The settings of how long a run is, how it is evaluated, and what it writes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path


def at_least(name: str, number: int, least: int) -> None:
    """`ValueError` for a number below `least`."""
    if not number >= least:  # NaN fails every comparison
        raise ValueError(f"`{name}` must be at least {least}, got {number}.")


@dataclass(frozen=True)
class BudgetConfig:
    """When to stop: at the end of the step that reaches the first of these limits."""

    steps: int | None = 100
    """Mirror steps."""
    samples: int | None = None
    """Responses that are drawn."""
    judge_calls: int | None = None
    """Comparisons that the judge is asked for."""
    tokens: int | None = None
    """Tokens that are drawn."""
    gradient_steps: int | None = None
    """Gradients that the mirror steps compute."""
    episodes: int | None = field(default=None, metadata={"open": True})
    """Episodes of self-play, in a game with `game.episodes`."""

    def __post_init__(self) -> None:
        # A field has the name of the count in `ledger.Ledger` that it limits.
        limits = asdict(self)
        for name, limit in limits.items():
            if limit is not None:
                at_least(f"budget.{name}", limit, 1)
        if not any(limits.values()):
            raise ValueError("A run needs a budget: set `budget.steps`, for example.")


@dataclass(frozen=True)
class EvaluationConfig:
    """Comparisons with the start model during training, on prompts that are not trained on."""

    source: str = ""
    """Held-out prompts, read like `prompts.source`; empty is no evaluation."""
    split: str | None = None
    """The split of their data set; None is `prompts.split`."""
    subset: str | None = None
    """The subset of their data set; None is `prompts.subset` if it is the same data set."""
    column: str | None = None
    """The column that holds them; None is `prompts.column`."""
    limit: int | None = None
    """Use this many rows, from the first; None is all."""
    every: int = 10
    """Steps between evaluations; those of a game are exact."""
    samples: int = 4
    """Responses of each policy to each prompt, at least 4."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            at_least("evaluation.limit", self.limit, 1)
        at_least("evaluation.every", self.every, 1)
        # The gap is estimated on two halves of the responses, and its error needs two in each half.
        at_least("evaluation.samples", self.samples, 4)


@dataclass(frozen=True)
class OutputConfig:
    """What a run writes, and where."""

    folder: Path = Path("runs/mpo")
    """The run's folder."""
    checkpoint_every: int = 10
    """Steps between checkpoints. The end of a run and an interruption write one too."""
    keep: int | None = None
    """Keep this many checkpoints, the last ones; None keeps all."""
    table_every: int = 10
    """Steps between entries of the table of samples, `samples.jsonl`."""
    trackers: str | tuple[str, ...] | None = ("tensorboard",)
    """Trackers of Accelerate that also get metrics and samples, one word (`wandb`) or a list of
    words. `none` is no tracker, `all` is every one that is installed."""
    project: str = "mpo-llm"
    """The project, in trackers that have projects, to which the run belongs."""

    def __post_init__(self) -> None:
        at_least("output.checkpoint_every", self.checkpoint_every, 1)
        at_least("output.table_every", self.table_every, 1)
        if self.keep is not None:
            at_least("output.keep", self.keep, 1)
