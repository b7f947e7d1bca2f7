"""Training runs of two processes, which share the work or the weights as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import weighing
from mpo_llm.engines import LOOK
from mpo_llm.training import config_file
from mpo_llm.training.ledger import PASSES
from mpo_llm.training.train import train
from runs import lines, weights

HERE = Path(__file__).parent

FSDP = ["--use_fsdp", "--fsdp_version", "2"]
"""Weights are shared too."""


def launched(folder: Path, options: list[str], *arguments: str, **sections: Any) -> Path:
    """A run of two processes, started by `accelerate launch`; its folder."""
    run = folder / "two"
    config = tiny.config(folder, **sections, output={"folder": str(run), "trackers": []})
    path = folder / "two.yaml"
    path.write_text(config_file.dump(config))
    command = "accelerate.commands.launch --num_processes 2 --num_machines 1 --dynamo_backend no"
    program = [sys.executable, "-m", *command.split(), "--mixed_precision", "no", *options]
    # The launcher starts `mpo_llm.cli` as anyone would.
    done = subprocess.run(
        [*program, "-m", "mpo_llm.cli", "train", str(path), *arguments],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kind = "2 FSDP processes" if options == FSDP else "2 processes"
    assert done.stdout.count(f"run by    {kind}") == 1
    return run


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
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("options", [["--multi_gpu"], FSDP], ids=["DDP", "FSDP"])
def test_two_processes_are_one(name: str, options: list[str], tmp_path: Path) -> None:
    """The same prompts, draws, judgements and gradients, but for rounding: three prompts for two
    processes, whose groups are never split."""
    train(tiny.config(tmp_path, **SHARED[name]))
    run = launched(tmp_path, options, **SHARED[name])
    for one, two in zip(lines(tmp_path / "run"), lines(run), strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"mismatch", *PASSES}:
            assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-4), key
        for key in PASSES:  # processes that share work run over their responses once more
            assert one[key] <= two[key] <= 1.5 * one[key], key
    ours, theirs = weights(tmp_path / "run", 4), weights(run, 4)
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, atol=1e-4, err_msg=key)
    if name == "full":
        _notes_agree(weighing.notes(tmp_path / "run"), weighing.notes(run), options == FSDP)


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
def test_a_run_goes_on_with_other_processes(tmp_path: Path) -> None:
    """A checkpoint holds whole weights: begun by one process, ended by two that share them."""
    train(tiny.config(tmp_path))
    shared = tiny.config(tmp_path, budget={"steps": 2}, output={"folder": str(tmp_path / "two")})
    train(shared)
    run = launched(tmp_path, FSDP, "--resume")
    ours, theirs = weights(tmp_path / "run", 4), weights(run, 4)
    for key, array in ours.items():
        np.testing.assert_allclose(theirs[key], array, atol=1e-4, err_msg=key)
