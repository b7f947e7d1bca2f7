"""The end of a run for people: what it reached, some answers before and after, and its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mpo_games.atomic import write_bytes
from mpo_llm.config import Config, EvaluationConfig, JudgeConfig
from mpo_llm.estimates import FEWEST
from mpo_llm.results import page, table_page
from mpo_llm.results.evaluation import evaluate_run, evaluation_of, league
from mpo_llm.results.outcomes import PAGE, START, Evaluation, League
from mpo_llm.training import checkpoint
from mpo_llm.training.comparison import PROMPTS, RESULT
from mpo_llm.training.played import Played
from mpo_llm.training.summary import Summary

SHOWN, LONGEST = 3, 160
"""Prompts whose answers are printed, and the characters of each that are."""


def conclude(config: Config, summary: Summary) -> str:
    """Write the page of a run that has ended; returns its summary, with what its result is like."""
    found = summary.comparison
    if found is None:
        return str(summary)
    if isinstance(found, Played):
        return table_page.conclude(config, summary, found)
    kls = {START: found.kl}
    reached = evaluation_of(found.table, found.texts, RESULT, kls)
    where = f"on {len(found.prompts)} {'held-out prompts' if found.held_out else 'of its prompts'}"
    gap = "unknown" if reached.gap is None else f"at least {reached.gap.with_interval('.3f')}"
    lines = [
        str(summary),
        f"win rate  {reached.opponents[START].win_rate.with_interval('.3f')} against the start, "
        f"{where}",
        f"gap       {gap}, estimated from these answers",
    ]
    if len(found.prompts) < FEWEST:
        lines.append(f"          intervals need at least {FEWEST} prompts")
    for prompt, before, after in found.pairs(SHOWN):
        lines += [
            f"prompt    {_line(prompt)}",
            f"  before  {_line(before)}",
            f"  after   {_line(after)}",
        ]
    folder = config.output.folder
    judge = {_short(config.judge): reached}
    text = page.render(folder, judge, answers=found.pairs(PROMPTS), held_out=found.held_out)
    try:
        write_bytes(folder / PAGE, text.encode())
    except OSError as error:  # the run itself is saved
        return "\n".join([*lines, f"page      not written: {error}"])
    return "\n".join([*lines, f"page      {folder / PAGE}"])


def write_page(
    run: str,
    out: Path,
    judge: JudgeConfig,
    *,
    source: EvaluationConfig = EvaluationConfig(),
    samples: int = 4,
    limit: int | None = None,
    seed: int = 0,
    own_engine: bool = False,
    compare_checkpoints: bool = False,
) -> tuple[Evaluation, League | None]:
    """Evaluate the last checkpoint of a run, and write its page to the file `out`.

    A run without held-out prompts is evaluated on the first of its own. With `compare_checkpoints`
    the page has the league of its checkpoints. The other arguments, and the errors, are those of
    `evaluate_run`.
    """
    config = checkpoint.config_of(run)
    held_out = bool(source.source or config.evaluation.source)
    if not held_out:
        source, limit = replace(source, source=config.prompts.source), limit or PROMPTS
    asked: Any = {
        "source": source,
        "judge": judge,
        "samples": samples,
        "limit": limit,
        "seed": seed,
        "own_engine": own_engine,
    }
    found = evaluate_run(run, **asked)
    standings = league(run, **asked) if compare_checkpoints else None
    name = _short(judge if judge.factory else config.judge)
    text = page.render(run, {name: found}, standings, held_out=held_out)
    write_bytes(out, text.encode())
    return found, standings


def _short(judge: JudgeConfig) -> str:
    """The name of a judge, without the folders of its file."""
    return judge.factory.rpartition("/")[2]


def _line(text: str) -> str:
    """A text on one line, cut where it is long."""
    found = " ".join(text.split()) or "(nothing)"
    return found if len(found) <= LONGEST else f"{found[:LONGEST].rstrip()} ..."
