"""The subcommands for preference models and evaluation; each prints the result of a function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from mpo_games.atomic import write_bytes
from mpo_llm.config import EvaluationConfig, JudgeConfig
from mpo_llm.fitting import Fit
from mpo_llm.outputs import require_writable
from mpo_llm.results.outcomes import PAGE, START, Evaluation, League, as_json
from mpo_llm.training import config_file, yaml_lines


@dataclass(frozen=True)
class FitPreferences:
    """Learn a pairwise preference model and a Bradley-Terry reward model from comparisons."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PAIRS")]
    """A file that `train` reads prompts from, or a data set. Its columns are prompt, chosen and
    rejected, or those of PKU-SafeRLHF."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder for the two models and `report.json`; it must not exist yet."""
    model: str = ""
    """The transformer that encodes texts: a name or a folder; empty is MiniLM."""
    label: str = "better_response_id"
    """The column with the number of the better response, in the format of PKU-SafeRLHF."""
    split: str = "train"
    """The split of a data set."""
    longest: int = 512
    """Largest number of tokens of prompt and response; longer texts lose their beginning."""
    fit: Fit = Fit()
    """The settings of the fit."""
    device: str = "cpu"
    """The device that computes, as torch names it."""
    seed: int = 0
    """Seed of the split, of the first weights and of the order."""

    def run(self) -> str:
        """Fit and save; returns the quality of both models on held-out comparisons."""
        from mpo_llm.judges.command import fit_preferences, summary

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
    """Judge a run on held-out prompts: win rates, also at equal lengths and by category, and KL."""

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run (its last checkpoint), or a checkpoint."""
    against: tuple[str, ...] = (START,)
    """The opponents: `start`, other checkpoints, runs or models."""
    prompts: str = ""
    """Held-out prompts: a file, or a data set; empty is the run's `evaluation.source`."""
    split: str | None = None
    """The split of a data set in `--prompts`."""
    subset: str | None = None
    """The subset of a data set that has several."""
    column: str | None = None
    """The column that holds the prompts; by default that of the training."""
    category: str | None = None
    """A column of the prompts; the report has win rates for each of its values."""
    judge: str = ""
    """The judge or its factory, like `judge.factory`; empty is the judge of the training."""
    judge_options: tuple[str, ...] = ()
    """Arguments of the judge's factory, each as name=value."""
    score: str = ""
    """The factory of a score (a reward or cost model) that rates all responses as well."""
    score_options: tuple[str, ...] = ()
    """Arguments of the score's factory, each as name=value."""
    samples: int = 4
    """Responses of each policy to each prompt; all pairs are judged."""
    limit: int | None = None
    """Use this many prompts, from the first; by default as many as the run's evaluations do."""
    out: Path | None = None
    """A file for all results, as JSON; a missing folder is made."""
    seed: int = 0
    """Seed of the responses."""
    own_engine: bool = False
    """Draw by the built-in engine, and not by that of the run, such as a server that has ended."""
    average: bool = False
    """Take the average of the weights that the run has played, which `solver.algorithm: auto` keeps
    beside the last ones."""

    def run(self) -> str:
        """Draw responses and judge them; returns the report."""
        require_run(self.policy)
        _require_place(self.out)
        if config_file.of_run(self.policy).game.name:
            _require_texts(self)
            from mpo_llm.results import tables

            played = tables.evaluate(self.policy, self.against)
            _write(tables.as_json(played), self.out)
            return tables.report(self.policy, played)
        from mpo_llm.results.evaluation import evaluate_run

        found = evaluate_run(
            self.policy,
            self.against,
            source=EvaluationConfig(self.prompts, self.split, self.subset, self.column),
            category=self.category,
            judge=_factory("judge", self.judge, self.judge_options),
            # A score comes from a factory as a judge does, so its settings have the same form.
            score=_factory("score", self.score, self.score_options),
            samples=self.samples,
            limit=self.limit,
            seed=self.seed,
            own_engine=self.own_engine,
            average=self.average,
        )
        return _report(found, self.out)


@dataclass(frozen=True)
class PlayLeague:
    """Compare all checkpoints of a run with each other: does an earlier one beat the last?"""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run."""
    others: tuple[str, ...] = ()
    """Further entrants: checkpoints, runs (their last checkpoint) or models."""
    every: int = 1
    """Take every n-th checkpoint, counted from the last."""
    prompts: str = ""
    """Held-out prompts: a file, or a data set; empty is the run's `evaluation.source`."""
    split: str | None = None
    """The split of a data set in `--prompts`."""
    subset: str | None = None
    """The subset of a data set that has several."""
    column: str | None = None
    """The column that holds the prompts; by default that of the training."""
    judge: str = ""
    """The judge or its factory, like `judge.factory`; empty is the judge of the training."""
    judge_options: tuple[str, ...] = ()
    """Arguments of the judge's factory, each as name=value."""
    samples: int = 4
    """Responses of each entrant to each prompt; all pairs are judged."""
    limit: int | None = None
    """Use this many prompts, from the first; by default as many as the run's evaluations do."""
    out: Path | None = None
    """A file for all results, as JSON; a missing folder is made."""
    seed: int = 0
    """Seed of the responses."""
    own_engine: bool = False
    """Draw by the built-in engine, and not by that of the run, such as a server that has ended."""

    def run(self) -> str:
        """Draw responses and judge them; returns the report."""
        require_run(self.folder)
        _require_place(self.out)
        if config_file.of_run(self.folder).game.name:
            _require_texts(self)
            from mpo_llm.results import tables

            standings = tables.league(self.folder, self.others, every=self.every)
            _write(tables.as_json(standings), self.out)
            return str(standings)
        from mpo_llm.results.evaluation import league

        found = league(
            self.folder,
            self.others,
            source=EvaluationConfig(self.prompts, self.split, self.subset, self.column),
            judge=_factory("judge", self.judge, self.judge_options),
            samples=self.samples,
            limit=self.limit,
            every=self.every,
            seed=self.seed,
            own_engine=self.own_engine,
        )
        return _report(found, self.out)


@dataclass(frozen=True)
class WritePage:
    """Write a page about a run: win rates against its start, curves, answers before and after."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run."""
    out: Path | None = None
    """The file; by default `page.html` in the run's folder."""
    prompts: str = ""
    """Held-out prompts: a file, or a data set. Empty is the run's `evaluation.source`, or else the
    first 16 prompts that it was trained on."""
    split: str | None = None
    """The split of a data set in `--prompts`."""
    subset: str | None = None
    """The subset of a data set that has several."""
    column: str | None = None
    """The column that holds the prompts; by default that of the training."""
    judge: str = ""
    """The judge or its factory, like `judge.factory`; empty is the judge of the training."""
    judge_options: tuple[str, ...] = ()
    """Arguments of the judge's factory, each as name=value."""
    samples: int = 4
    """Responses of each policy to each prompt; all pairs are judged."""
    league: bool = False
    """Also compare all checkpoints with each other, as `mpo-llm league` does."""
    limit: int | None = None
    """Use this many prompts, from the first; by default as many as the run's evaluations do."""
    seed: int = 0
    """Seed of the responses."""
    own_engine: bool = False
    """Draw by the built-in engine, and not by that of the run, such as a server that has ended."""

    def run(self) -> str:
        """Evaluate, and write the page; returns the report and where the page is."""
        require_run(self.folder)
        out = self.out or Path(self.folder) / PAGE
        _require_place(out)
        if config_file.of_run(self.folder).game.name:
            _require_texts(self)
            from mpo_llm.results import table_page

            said = table_page.write(self.folder, out, compare_checkpoints=self.league)
            return f"{said}\npage      {out}"
        from mpo_llm.results.conclusion import write_page

        found = write_page(
            self.folder,
            out,
            _factory("judge", self.judge, self.judge_options),
            source=EvaluationConfig(self.prompts, self.split, self.subset, self.column),
            samples=self.samples,
            limit=self.limit,
            seed=self.seed,
            own_engine=self.own_engine,
            compare_checkpoints=self.league,
        )
        reports = [str(report) for report in found if report is not None]
        return "\n".join([*reports, f"page      {out}"])


@dataclass(frozen=True)
class Serve:
    """Start vLLM with a run's start model, and serve it until Ctrl-C."""

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """The run that draws by the server; its model, precision and adapters are taken from here."""
    python: Path | None = None
    """The interpreter of an environment that has vLLM; the default is that of `make vllm-server`,
    `.venv-vllm/bin/python`, and without it this one."""
    host: str = "127.0.0.1"
    """The address to listen at. Whoever reaches it can replace the weights: there is no key."""
    port: int = 8000
    """The port to listen at."""
    longest: int | None = None
    """The most tokens of a prompt and its response; the default is what the configuration needs."""
    rows: int = 64
    """The largest number of responses that are drawn at the same time."""
    memory: float | None = None
    """The share of a GPU's memory that vLLM takes (0.9); without a GPU, GiB of its cache (1)."""
    slots: int = 2
    """Adapters that it holds at the same time."""
    more: tuple[str, ...] = ()
    """Further arguments of vLLM, as `name=value` or `name`: `--more tensor-parallel-size=2`."""

    def run(self) -> str:
        """Serve; returns when a signal has come."""
        config = config_file.load(self.config)
        if config.game.name and config.game.draws != "engine":
            raise ValueError(
                "This run plays a game and draws no token, so it needs no server: set "
                "`game.draws: engine`, or leave the server out."
            )
        from mpo_llm.training.serving import serve

        serve(
            config,
            python=self.python,
            host=self.host,
            port=self.port,
            longest=self.longest,
            rows=self.rows,
            memory=self.memory,
            slots=self.slots,
            more=[f"--{argument}" for argument in self.more],
            ready=partial(print, flush=True),
            begins=partial(print, flush=True),
        )
        return "the server has ended"


def require_run(path: str | Path) -> None:
    """`ValueError` if there is nothing at this path; what is there is looked at later."""
    # Before torch is imported, which takes longer than to find a wrong name.
    if not Path(path).exists():
        raise ValueError(f"{str(path)!r} holds no checkpoint.")


def _report(found: Evaluation | League, out: Path | None) -> str:
    # The file holds what the text leaves out, such as the errors of a league's win rates.
    _write(as_json(found), out)
    return str(found)


def _write(found: Mapping[str, Any], out: Path | None) -> None:
    if out is not None:
        write_bytes(out, f"{json.dumps(found, indent=2)}\n".encode())


def _require_texts(command: Evaluate | PlayLeague | WritePage) -> None:
    """`ValueError` for a flag that has no meaning for a run that plays a game."""
    for f in fields(command):
        kept = ("policy", "folder", "against", "others", "every", "league", "out")
        if f.name not in kept and getattr(command, f.name) != f.default:
            raise ValueError(
                f"`--{f.name.replace('_', '-')}` is for runs on texts, and this run plays a game, "
                "whose results are exact: leave it out."
            )


def _require_place(out: Path | None) -> None:
    # Drawing and judging may take hours, after which nothing must be lost.
    if out is not None:
        require_writable(out)


def _factory(flag: str, factory: str, options: tuple[str, ...]) -> JudgeConfig:
    if options and not factory:
        raise ValueError(f"`--{flag}-options` are for the factory of `--{flag}`, which is missing.")
    split = [option.partition("=") for option in options]
    if not all(name and sign for name, sign, _ in split):
        raise ValueError(f"Every option must read name=value, got {options}.")
    # As YAML, an option is the number or the list that it would be in a configuration.
    return JudgeConfig(factory, {name: yaml_lines.value(value, name) for name, _, value in split})
