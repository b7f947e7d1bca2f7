"""Align a small language model on a CPU, offline: `make llm-demo`.

A majority vote of three criteria judges the answers; its preferences have cycles. Claim: MPO on
this vote improves a model of 135M parameters on prompts that it has not seen. It wins against the
model that it started from: by the vote, by another judge, and at equal lengths. Its last weights
need no pool of earlier ones.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import tyro

from mpo_llm.config import JudgeConfig
from mpo_llm.results import page
from mpo_llm.results.evaluation import evaluate_by, league
from mpo_llm.results.outcomes import as_json
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import train

HERE = Path(__file__).parent

JUDGES = {
    "the vote it was trained on": JudgeConfig(),
    "a second opinion: other gauges of the same aims": JudgeConfig("mpo_llm.judges:second_opinion"),
    "the mean of the scores": JudgeConfig("mpo_llm.judges:mean_score"),
}


def main(
    config: Path = HERE / "mpo.yaml",
    folder: Path = Path("runs/demo"),
    steps: int | None = None,
    samples: int = 4,
    seed: int | None = None,
) -> None:
    """Train or resume a run, evaluate it, and write `FOLDER/page.html` and `FOLDER/found.json`.

    Args:
        config: the configuration of the run.
        folder: the folder of the run and of the results.
        steps: the number of mirror steps; as in the configuration when None.
        samples: responses of each policy to each held-out prompt, in the evaluation and the league.
        seed: draws the prompts, the responses and the first adapters; as in the configuration when
            None.
    """
    run = config_file.load(config)
    run = replace(run, output=replace(run.output, folder=folder))
    if steps is not None:
        run = replace(run, budget=replace(run.budget, steps=steps))
    if seed is not None:
        run = replace(run, seed=seed)
    # Resumed, so that a demo that was stopped loses no more than the steps since its checkpoint.
    print(train(run, resume=True), flush=True)
    found = evaluate_by(JUDGES, str(folder), samples=samples)
    for name, evaluation in found.items():
        print(f"by {name}: {evaluation}", flush=True)
    standings = league(str(folder), samples=samples)
    print(standings, flush=True)
    # Drawn once, so that page and record show the same answers.
    answers = page.sample_answers(folder)
    record = {
        "curve": [row for row in checkpoint.metrics(folder) if row.get("win_rate") is not None],
        "judges": {name: as_json(evaluation) for name, evaluation in found.items()},
        "league": as_json(standings),
        "said": answers,
    }
    (folder / "found.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    target = folder / "page.html"
    target.write_text(page.render(folder, found, standings, answers), encoding="utf-8")
    print(f"page      {target}")


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
