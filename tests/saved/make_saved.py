"""How the files here were made: `python make_saved.py`, with release 0.1.0, for the record.

Run with another release it would store that one's behaviour instead, so it is not run again. The
cases in `test_saved_runs.py` have since taken the names of later releases.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import test_saved_runs as tables
import test_saved_training as training
import yaml
from small_run import prepare
from stored import HERE, write_expected

import mpo_games as mg
from mpo_games import cli

SHARED: dict[str, Any] = {
    "model": {"name": "model"},
    "prompts": {"source": "prompts.jsonl"},
    "evaluation": {"source": "held_out.jsonl", "every": 2, "samples": 4},
    "generation": {"max_tokens": 5},
}
"""What all stored training runs have in common."""

RUNS: dict[str, tuple[int, dict[str, Any]]] = {
    "optimistic": (
        2,
        {
            "model": {"name": "model", "lora_rank": 2},
            "judge": {"factory": "judge.py:cyclic", "options": {"strength": 0.4}},
            "solver": {
                "samples": 4,
                "prompts": 3,
                "feedback": "optimistic",
                "magnet_rate": 0.1,
                "pool": 3,
            },
            "step": {"rate": 0.02, "epochs": 2, "rows": 8},
        },
    ),
    "nash_md": (
        2,
        {
            "judge": {"factory": "mpo_llm.judges:reward_model", "options": {"path": "reward"}},
            "solver": {"samples": 4, "eta": 1.0, "alpha": 0.1, "method": "nash_md"},
            "step": {"rate": 0.01, "epochs": 2, "kl": "k3_in_loss", "schedule": "constant"},
        },
    ),
    "period": (
        3,
        {
            "judge": {
                "factory": "mpo_llm.judges:preference_model",
                "options": {"path": "preferences", "device": "cpu"},
            },
            "solver": {
                "samples": 4,
                "prompts": 3,
                "feedback": "half_step",
                "magnet_period": 2,
                "pull": "in_reward",
            },
            "step": {"rate": 0.01, "epochs": 2, "minibatches": 2, "rows": 2},
        },
    ),
}
"""The step at which a training run was stopped, and its settings."""


def make_tables() -> None:
    """A solution of every case on its way, and what it comes to at the whole of it."""
    tables.TABLES.mkdir(exist_ok=True)
    runs: dict[str, Any] = {}
    for name, case in tables.CASES.items():
        game, solver = case.game(), tables.SOLVERS[case.solver]()
        start = case.first(game)
        first = mg.solve(game, solver, case.half, policy=start, seed=len(runs), **case.options)
        first.save(tables.TABLES / f"{name}.npz")
        solution = mg.solve(game, solver, case.budget, resume=tables.loaded(name), **case.options)
        runs[name] = tables.facts(solution)
        print(f"{name}: gap {first.gap:.2g}, then {solution.gap:.2g}; ", end="")
        print(f"moved at {first.state.moved}, then {solution.state.moved}; ", end="")
        print(", ".join(first.state.memory))
    file, whole = tables.TABLES / "command_line.npz", HERE / "whole.npz"
    head = tables.COMMAND.index("mmd")
    before, after = tables.COMMAND[:head], tables.COMMAND[head:]
    assert cli.main([*before, "--budget", "60", "--save", str(file), *after]) == 0
    more = ["--budget", "120", "--resume", str(file), "--save", str(whole)]
    assert cli.main([*before, *more, *after]) == 0
    game = mg.NoisyGame(tables.rps(), 0.05)
    runs["command line"] = tables.facts(mg.Solution.load(whole, game))
    whole.unlink()
    write_expected(tables.EXPECTED, runs)


def make_training() -> None:
    """A folder of each run, and what it comes to; and a judge of `fit-preferences`."""
    here = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(Path(folder))
        learn()
        for name, (stop, settings) in RUNS.items():
            output = {"folder": f"runs/{name}", "table_every": 2, "keep": 2, "trackers": []}
            config = SHARED | settings | {"budget": {"steps": stop}, "output": output}
            Path("run.yaml").write_text(yaml.safe_dump(config))
            training.do("train", "run.yaml")
        for made, name in (("runs", "training"), ("preferences", "preferences")):
            shutil.rmtree(HERE / name, ignore_errors=True)
            shutil.copytree(made, HERE / name)
        found: dict[str, Any] = {
            "evaluate": training.judged("optimistic", "evaluate"),
            "league": training.judged("optimistic", "league"),
            "evaluate by another": training.judged("optimistic", "evaluate", training.LEARNED),
        }
        for name, last in training.LAST.items():
            training.do(
                "train", f"runs/{name}/config.yaml", "--resume", "--budget.steps", str(last)
            )
            found[name] = training.facts(name)
        os.chdir(here)
    write_expected(training.EXPECTED, found)


def learn() -> None:
    """A pairwise preference model of a cycle, in the folder `preferences`."""
    rng, styles = np.random.default_rng(0), ("rock", "paper", "scissors")
    with Path("pairs.jsonl").open("w") as file:
        for _ in range(60):
            style = int(rng.integers(3))
            prompt = " ".join(rng.choice(list("abcdefgh"), 3))
            chosen, rejected = f"a {styles[(style + 1) % 3]}", f"b {styles[style]}"
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")
    options = ("--fit.planes", "1", "--fit.epochs", "3", "--fit.held-out", "0.2")
    training.do("fit-preferences", "pairs.jsonl", "fitted", "--model", "model", *options)
    shutil.move("fitted/pairwise", "preferences")


if __name__ == "__main__":
    make_tables()
    make_training()
