"""Training runs that fail, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from mpo_llm import cli
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import train


def test_a_run_is_not_begun_twice(tmp_path: Path) -> None:
    train(tiny.config(tmp_path))
    with pytest.raises(ValueError, match="go on with `--resume`"):
        train(tiny.config(tmp_path))
    with pytest.raises(ValueError, match=r"another `solver\.eta`"):
        train(tiny.config(tmp_path, solver={"eta": 0.5}), resume=True)


@pytest.mark.parametrize("said", [None, float("nan"), 1.2, -1])
def test_a_judge_that_fails_ends_the_run(said: Any, tmp_path: Path) -> None:
    """With what it said, and nothing saved of the step."""
    tiny.judges["failing"] = lambda prompts, a, b: [said] * len(prompts)
    with pytest.raises(ValueError, match="The judge must return"):
        train(tiny.config(tmp_path, judge={"options": {"name": "failing"}}))
    assert not checkpoint.listed(tmp_path / "run" / "checkpoints")


def test_nan_weights_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train(tiny.config(tmp_path, step={"rate": 1e30, "clip": None}))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_turn(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(prompts: Any, a: Any, b: Any) -> Any:
        raise error

    tiny.judges["exhausted"] = fail
    path = tmp_path / "run.yaml"
    path.write_text(
        config_file.dump(tiny.config(tmp_path, judge={"options": {"name": "exhausted"}}))
    )
    assert cli.main(["train", str(path)]) == 2
    said = capsys.readouterr().err
    assert "step.micro_batch" in said
    assert "gradient_checkpointing" in said


def test_the_cpu_says_that_it_has_no_memory_so() -> None:
    """The words that are looked for."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert cli._out_of_memory(error.value)
