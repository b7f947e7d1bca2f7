"""The subcommands of preferences and evaluation; each prints what its function finds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
import yaml

from mpo_llm.config import JudgeConfig
from mpo_llm.judges.command import fit_preferences, summary
from mpo_llm.judges.fit import Fit
from mpo_llm.results.evaluation import START, Evaluation, League, as_json, evaluate_run, league


@dataclass(frozen=True)
class FitPreferences:
    """Learn a pairwise preference model and a Bradley-Terry reward model from comparisons."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PAIRS")]
    """A .jsonl, .csv or .parquet file, or a data set: prompt, chosen and rejected, or the columns
    of PKU-SafeRLHF."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the two models and `report.json` go: a folder that does not exist yet."""
    model: str = ""
    """The transformer that reads: a name or a folder; MiniLM when empty."""
    label: str = "better_response_id"
    """The column with the better response's number, in PKU-SafeRLHF's format."""
    split: str = "train"
    """Which split of a data set."""
    longest: int = 512
    """Tokens of prompt and response together; of longer ones the beginning is cut."""
    fit: Fit = Fit()
    """How they are learned."""
    device: str = "cpu"
    """Where, as torch names it."""
    seed: int = 0
    """Of the split, the first weights and the order."""

    def run(self) -> str:
        """Fit and save; both models' quality on comparisons held out."""
        fitted = fit_preferences(
            self.data,
            self.folder,
            self.fit,
            model=self.model,
            label=self.label,
            split=self.split,
            longest=self.longest,
            device=self.device,
            seed=self.seed,
        )
        return f"{summary(fitted)}\nsaved to {self.folder}"


@dataclass(frozen=True)
class Evaluate:
    """Judge a run on held-out prompts: win rates, at equal lengths too, by category, and KL."""

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run's folder (its last checkpoint) or a checkpoint."""
    against: tuple[str, ...] = (START,)
    """`start`, other checkpoints, runs or models."""
    prompts: str = ""
    """Held-out prompts; those of the run's `evaluation.source` when empty."""
    category: str | None = None
    """A column of the prompts: win rates for each of its values."""
    judge: str = ""
    """A judge that it was not trained on, instead of its own: a factory, like `judge.factory`."""
    judge_options: tuple[str, ...] = ()
    """Its arguments, each as name=value."""
    score: str = ""
    """The factory of a score, a reward or a cost model, by which all responses are measured."""
    score_options: tuple[str, ...] = ()
    """Its arguments, each as name=value."""
    samples: int = 4
    """Responses of each to each prompt; all pairs are judged."""
    limit: int | None = None
    """Only the first so many prompts."""
    out: Path | None = None
    """Where everything measured goes as JSON."""
    seed: int = 0
    """Of the responses."""

    def run(self) -> str:
        """Draw, judge, report."""
        found = evaluate_run(
            self.policy,
            self.against,
            source=self.prompts,
            category=self.category,
            judge=_named(self.judge, self.judge_options),
            score=_named(self.score, self.score_options),
            samples=self.samples,
            limit=self.limit,
            seed=self.seed,
        )
        return _reported(found, self.out)


@dataclass(frozen=True)
class PlayLeague:
    """All checkpoints of a run against each other: does the last one need a pool beside it?"""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run's folder."""
    others: tuple[str, ...] = ()
    """Further entrants: checkpoints, runs (their last checkpoint) or models."""
    every: int = 1
    """Only every n-th checkpoint, counted from the last."""
    prompts: str = ""
    """Held-out prompts; those of the run's `evaluation.source` when empty."""
    judge: str = ""
    """Another judge than the run's own: a factory, like `judge.factory`."""
    judge_options: tuple[str, ...] = ()
    """Its arguments, each as name=value."""
    samples: int = 4
    """Responses of each to each prompt; all pairs are judged."""
    limit: int | None = None
    """Only the first so many prompts."""
    out: Path | None = None
    """Where everything measured goes as JSON."""
    seed: int = 0
    """Of the responses."""

    def run(self) -> str:
        """Draw, judge, report."""
        found = league(
            self.folder,
            self.others,
            source=self.prompts,
            judge=_named(self.judge, self.judge_options),
            samples=self.samples,
            limit=self.limit,
            every=self.every,
            seed=self.seed,
        )
        return _reported(found, self.out)


def _reported(found: Evaluation | League, out: Path | None) -> str:
    if out is not None:
        out.write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")
    return str(found)


def _named(factory: str, options: tuple[str, ...]) -> JudgeConfig:
    split = [option.partition("=") for option in options]
    if not all(name and sign for name, sign, _ in split):
        raise ValueError(f"Options must each read name=value, got {options}.")
    return JudgeConfig(factory, {name: yaml.safe_load(value) for name, _, value in split})
