"""Training runs that a signal or a full disk stops, and how they go on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import Interrupted, train
from runs import lines, same, weights

HERE = Path(__file__).parent


def started(folder: Path, *arguments: str, **sections: Any) -> subprocess.Popen[str]:
    """`mpo-llm train` in a process of its own."""
    config = tiny.config(folder, **sections)
    path = folder / "run.yaml"
    path.write_text(config_file.dump(config))
    return subprocess.Popen(
        [sys.executable, "-m", "mpo_llm.cli", "train", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )


def wait_for(path: Path, rows: int) -> None:
    """Until a file has so many lines."""
    for _ in range(6000):
        if path.is_file() and len(path.read_bytes().splitlines()) >= rows:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not grow.")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(
    signum: signal.Signals, tmp_path: Path
) -> None:
    """SIGINT and SIGTERM save and exit; SIGKILL leaves the last checkpoint."""
    long = {"steps": 100_000}
    every = {"checkpoint_every": 3}
    process = started(tmp_path, budget=long, output=every)
    wait_for(tmp_path / "run" / "metrics.jsonl", 8)
    process.send_signal(signum)
    _, said = process.communicate(timeout=100)
    saved = checkpoint.last(tmp_path / "run")
    step = int(saved.name.removeprefix("step-"))
    done = lines(tmp_path / "run")[-1]["step"]
    if signum == signal.SIGKILL:
        assert process.returncode == -signum
        assert done - 3 <= step <= done
    else:
        assert process.returncode == 128 + signum
        assert f"stopped at step {step} and saved" in said
        assert step == done
    last = step + 4
    train(tiny.config(tmp_path, budget={"steps": last}, output=every), resume=True)
    train(
        tiny.config(
            tmp_path, budget={"steps": last}, output={**every, "folder": str(tmp_path / "whole")}
        )
    )
    same(tmp_path / "run", tmp_path / "whole", last)


def test_a_signal_within_a_step_lets_it_finish(tmp_path: Path) -> None:
    def interrupt(prompts: Any, a: Any, b: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return [0.5] * len(prompts)

    tiny.judges["interrupting"] = interrupt
    before = signal.getsignal(signal.SIGTERM)
    config = tiny.config(tmp_path, judge={"options": {"name": "interrupting"}})
    with pytest.raises(Interrupted, match="stopped at step 1 and saved") as stop:
        train(config)
    assert stop.value.signum == signal.SIGTERM
    assert checkpoint.last(tmp_path / "run").name == "step-000001"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    config = tiny.config(tmp_path, budget={"steps": 2})
    train(config)
    saved = weights(tmp_path / "run", 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match=r"Cannot write .*step-000004"):
            train(tiny.config(tmp_path), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path / "run" / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["step-000002"]
    for name, array in weights(tmp_path / "run", 2).items():
        np.testing.assert_array_equal(array, saved[name])
    assert train(tiny.config(tmp_path), resume=True).state.step == 4
