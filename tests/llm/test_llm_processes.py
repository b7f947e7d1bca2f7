"""Training runs of two processes, which share the work or the weights as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import tiny
import weighing
from mpo_llm.engines.autoregressive import LOOK
from mpo_llm.training import config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.train import train
from runs import lines, weights
from shared import made_once

HERE = Path(__file__).parent

FSDP = ["--use_fsdp", "--fsdp_version", "2"]
"""Weights are shared too."""


SEVERAL = """
import runpy, sys
from torch import distributed
sys.path.insert(0, "")  # as `python -m` does
from mpo_llm import cli
end = distributed.destroy_process_group
# The processes stay together between two runs.
distributed.destroy_process_group = lambda *group: None
*paths, begun = sys.argv[1:]
for path in paths:
    assert cli.main(["train", path]) == 0
distributed.destroy_process_group = end
sys.argv = ["mpo-llm", "train", begun, "--resume"]
runpy.run_module("mpo_llm.cli", run_name="__main__", alter_sys=True)
"""
"""One run after another, since starting two processes takes longer than any of them. The last one
goes on with a run that was begun, by `python -m mpo_llm.cli`, as anyone would."""


def written(folder: Path, run: Path, **sections: Any) -> Path:
    """The configuration file of a run in the folder `run`."""
    config = tiny.config(folder, **sections, output={"folder": str(run), "trackers": []})
    path = run.with_suffix(".yaml")
    path.write_text(config_file.dump(config))
    return path


def launch(options: list[str], *program: str, runs: int) -> None:
    """Start so many training runs of two processes by `accelerate launch`."""
    command = "accelerate.commands.launch --num_processes 2 --num_machines 1 --dynamo_backend no"
    launcher = [sys.executable, "-m", *command.split(), "--mixed_precision", "no", *options]
    done = subprocess.run(
        [*launcher, *program], capture_output=True, text=True, cwd=HERE, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    kind = "2 FSDP processes" if options == FSDP else "2 processes"
    assert done.stdout.count(f"run by    {kind}") == runs


SHARED: dict[str, dict[str, Any]] = {
    "full": {
        "solver": {"prompts": 3, "pool": 2, "magnet": {"weight_ema": 0.1}},
        "step": {"micro_batch": 5},
        "generation": {"engine": "weighing:engine"},
    },
    "LoRA": {"model": {"lora_rank": 2}, "solver": {"prompts": 3}, "step": {"minibatches": 2}},
    "regression, checkpointed": {
        "model": {"gradient_checkpointing": True},
        "solver": {"prompts": 3, "feedback": "current"},
        "step": {"objective": "squared", "micro_batch": None},
    },
    # No dictionary, so it replaces the section of the tiny run.
    "auto": {
        "solver": MappingProxyType({"algorithm": "auto", "samples": 4, "prompts": 3}),
        "step": None,
    },
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one process for each of `SHARED`."""

    def make(folder: Path) -> None:
        for number, sections in enumerate(SHARED.values()):
            train(tiny.config(folder, **sections, output={"folder": str(folder / f"run-{number}")}))

    return made_once(tmp_path_factory, "alone", make)


@pytest.fixture(scope="module", params=[["--multi_gpu"], FSDP], ids=["DDP", "FSDP"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same runs of two processes, which also go on with a run that one began."""

    def make(folder: Path) -> None:
        paths = [
            str(written(folder, folder / f"run-{number}", **sections))
            for number, sections in enumerate(SHARED.values())
        ]
        run = folder / "begun"
        train(tiny.config(folder, budget={"steps": 2}, output={"folder": str(run)}))
        script = folder / "several.py"
        script.write_text(SEVERAL)
        begun = str(written(folder, run))
        launch(request.param, str(script), *paths, begun, runs=len(SHARED) + 1)

    return made_once(tmp_path_factory, "sharded" if request.param == FSDP else "together", make)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_two_processes_are_one(
    name: str, alone: Path, together: Path, request: pytest.FixtureRequest
) -> None:
    """The same prompts, draws, judgements and gradients, but for rounding: three prompts for two
    processes, whose groups are never split."""
    mine, shared = (folder / f"run-{list(SHARED).index(name)}" for folder in (alone, together))
    for one, two in zip(lines(mine), lines(shared), strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"mismatch", *PASSES}:
            # Some are unknown at first.
            known = one[key] is not None
            expected = pytest.approx(one[key], rel=1e-3, abs=1e-4) if known else None
            assert two[key] == expected, key
        for key in PASSES:  # processes that share work run over their responses once more
            assert one[key] <= two[key] <= 1.5 * one[key], key
    ours, theirs = weights(mine, 4), weights(shared, 4)
    assert ours.keys() == theirs.keys()
    # Many gradients more, and second moments that are far from small.
    relative = 1e-3 if name == "auto" else 1e-7
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, relative, 1e-4, err_msg=key)
    if name == "full":
        sharded = request.node.callspec.params["together"] == FSDP
        _notes_agree(weighing.notes(mine), weighing.notes(shared), sharded)


def _notes_agree(one: list[dict[str, Any]], two: list[dict[str, Any]], sharded: bool) -> None:
    """Each of two processes that share weights holds half of all. The first one alone fetches them,
    and none draws on when all responses have ended."""
    (alone,), (first, second) = one, two
    assert first["tokens"] == second["tokens"] == alone["tokens"]
    assert first["arrays"] == alone["arrays"]
    for process in two:
        assert process["whole"] == ([] if sharded else alone["whole"])
        for name, size in alone["bytes"].items():
            assert process["bytes"][name] == (size / 2 if sharded else size), name
    if sharded:
        assert second["arrays"].keys() == {"exponents", "updates"}
        # Two prompts by two networks: a pass over the prompt, and eight tokens until they look.
        assert first["passes"] == second["passes"] == 2 * 2 * (1 + LOOK)


def test_other_ways_to_share_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match=r"^DeepSpeed is not supported: .* FSDP"):
        train(tiny.config(tmp_path))


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes(together: Path, tmp_path: Path) -> None:
    """A checkpoint holds whole weights: begun by one process, ended by two."""
    train(tiny.config(tmp_path))
    ours, theirs = weights(tmp_path / "run", 4), weights(together / "begun", 4)
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, atol=1e-4, err_msg=key)
