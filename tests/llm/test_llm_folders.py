"""A run's folder and its files: one run at a time, and lines that end at a line feed alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from mpo_llm import cli
from mpo_llm.training import checkpoint, config_file, records
from mpo_llm.training.lock import LOCK, locked, require_place
from mpo_llm.training.plan import plan
from mpo_llm.training.train import train

HOLDER = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, f"process {os.getpid()} on a host".encode())
print("held", flush=True)
time.sleep(100)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of the folder."""
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / LOCK)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    """Another process has it until it is dead, however it died."""
    config = tiny.config(tmp_path, budget={"steps": 1})
    folder = config.output.folder
    process = holder(folder)
    try:
        for resume in (False, True):
            with pytest.raises(ValueError, match=f"in use by another run .process {process.pid} "):
                train(config, resume=resume)
        # Reading is free.
        assert checkpoint.listed(folder / "checkpoints") == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert (folder / LOCK).exists()
    assert train(config).state.step == 1
    assert not (folder / LOCK).exists()


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    def begin_another(prompts: Any, a: Any, b: Any) -> Any:
        with pytest.raises(ValueError, match=f"in use by another run .process {os.getpid()} "):
            train(tiny.config(tmp_path), resume=True)
        return [0.5] * len(prompts)

    tiny.judges["nested"] = begin_another
    train(tiny.config(tmp_path, judge={"options": {"name": "nested"}}, budget={"steps": 1}))


def _wait(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """A worker that a judge has forked may outlive a run that was killed."""
    children = multiprocessing.get_context("fork")
    with locked(tmp_path / "run"):
        child = children.Process(target=_wait, args=(30.0,))
        child.start()
    with locked(tmp_path / "run"):
        assert child.is_alive()
    child.kill()
    child.join()


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, prompts={"source": str(tmp_path / "none.jsonl")})
    with pytest.raises(ValueError, match="There is no file"):
        train(config)
    assert not config.output.folder.exists()


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_folder_that_cannot_be_written_is_refused_first(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = tiny.config(tmp_path, output={"folder": str(tmp_path / place)})
    for run in (train, plan):
        with pytest.raises(ValueError, match=r"^Cannot write to .*Choose another `output.folder`"):
            run(config)


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    require_place(tmp_path / "a" / "run")
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^Cannot write to '/proc/x': No such file or directory"):
        require_place(Path("/proc/x"))


SEPARATORS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r"
"""What `str.splitlines` takes for the end of a line, except for the line feed."""


def test_any_separator_may_stand_in_a_prompt(tmp_path: Path) -> None:
    """The run is resumed, and its files are read."""
    # The table has room for four prompts.
    texts = [*(f"a {'b'.join(SEPARATORS[i::3])} c" for i in range(3)), "d"]
    config = tiny.config(
        tmp_path, solver={"prompts": None}, output={"table_every": 1}, budget={"steps": 2}
    )
    rows = [json.dumps({"prompt": text}, ensure_ascii=False) + "\n" for text in texts]
    (tmp_path / "prompts.jsonl").write_bytes("".join(rows).encode())
    train(config)
    longer = config_file.changed(config, {"budget.steps": 3})
    assert train(longer, resume=True).state.step == 3
    assert [row["step"] for row in checkpoint.metrics(config.output.folder)] == [1, 2, 3]
    lines = (config.output.folder / "samples.jsonl").read_bytes().split(b"\n")[:-1]
    found = [json.loads(line) for line in lines]
    assert [row["step"] for row in found] == [step for step in (1, 2, 3) for _ in texts]
    assert {row["prompt"] for row in found} == set(texts)


def test_records_are_cut_between_lines(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    rows = [{"step": i, "text": SEPARATORS} for i in (1, 2, 3)]
    whole = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    path.write_bytes(b"".join(whole) + b'{"step": 3, "te')
    records.truncate(path, 3)
    assert path.read_bytes() == b"".join(whole)
    records.truncate(path, 1)
    assert path.read_bytes() == whole[0]


def test_metrics_of_a_run_that_is_going_on(tmp_path: Path) -> None:
    """The line that is being written is left out."""
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in checkpoint.metrics(tmp_path)] == [1, 2]


# ----------------------------------------------------------------------------- places for results


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    evaluation = {"source": str(folder / "prompts.jsonl"), "every": 50}
    train(tiny.config(folder, budget={"steps": 1}, evaluation=evaluation))
    return folder / "run"


@pytest.mark.parametrize("command", ["evaluate", "league"])
def test_a_missing_folder_for_results_is_made(command: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out.json"
    assert cli.main([command, str(trained), "--samples", "4", "--out", str(out)]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"JSON has no {constant}.")

    assert json.loads(out.read_text(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["evaluate", "RUN", "--out"], "folder"),
        (["evaluate", "RUN", "--out"], "file/out.json"),
        (["league", "RUN", "--out"], "folder"),
        (["league", "RUN", "--out"], "file/out.json"),
        (["export", "RUN"], "file/out"),
        (["fit-preferences", "none.jsonl"], "file/out"),
    ],
)
def test_a_place_that_cannot_be_written_fails_before_the_work(
    command: list[str],
    place: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")

    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("The work has begun.")

    monkeypatch.setattr("mpo_llm.networks.loading.load", work)
    monkeypatch.setattr("mpo_llm.prompts.records", work)
    arguments = [str(trained) if a == "RUN" else a for a in command]
    assert cli.main([*arguments, str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mpo-llm: Cannot write")
    assert str(tmp_path / place) in said
