"""Training runs that a signal, an error or a full disk stops, and how they go on."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import TensorBoardTracker

import mpo_llm as ml
import tiny
from mpo_games import interrupts
from mpo_llm import cli
from mpo_llm.config import Config
from mpo_llm.training import checkpoint, config_file
from mpo_llm.training.train import Interrupted, train
from runs import lines, same, weights


def started(config: Config, folder: Path) -> int:
    """`mpo-llm train` in a process of its own, whose errors go to `errors.txt`; its number.

    It is forked, because a new one would import torch and transformers for seconds.
    """
    path = folder / "run.yaml"
    path.write_text(config_file.dump(config))
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, of which the child does not see any.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code: Any = 1
    # `finally`, because a child must never return into the tests.
    try:
        with (folder / "errors.txt").open("w") as sys.stderr:
            # A shell that starts the tests in the background has told them to ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            cli._end(cli.main(["train", str(path)]))
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)


def ended(child: int, seconds: float = 100.0) -> int:
    """Wait for a process; its exit code, or the negative number of the signal that ended it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"Process {child} did not end.")


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
    every = {"checkpoint_every": 3}
    child = started(tiny.config(tmp_path, budget={"steps": 100_000}, output=every), tmp_path)
    try:
        wait_for(tmp_path / "run" / "metrics.jsonl", 8)
    finally:
        os.kill(child, signum)
    code = ended(child)
    saved = checkpoint.last(tmp_path / "run")
    step = int(saved.name.removeprefix("step-"))
    done = lines(tmp_path / "run")[-1]["step"]
    if signum == signal.SIGKILL:
        assert code == -signum
        assert done - 3 <= step <= done
    else:
        assert code == 128 + signum
        assert f"stopped at step {step} and saved" in (tmp_path / "errors.txt").read_text()
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


STEPS = 5
"""Steps of the runs below."""

Act = Callable[[], object]


def at(call: int, act: Act, work: Callable[..., Any]) -> Callable[..., Any]:
    """The function `work`, which acts first when it is called for the `call`-th time."""
    calls = iter(range(1, 1000))

    def called(*args: Any, **options: Any) -> Any:
        if next(calls) == call:
            act()
        return work(*args, **options)

    return called


def ctrl_c_twice() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    # What comes sooner is the same wish, passed on by a launcher.
    time.sleep(interrupts.REPEAT + 0.01)
    os.kill(os.getpid(), signal.SIGINT)


def fail() -> None:
    raise RuntimeError("connection\nlost.")


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """A disk that, once it is full, takes half of what is written and acts when the rest comes."""

    def __init__(self, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        opened, saved = Path.open, checkpoint.save_file

        def halves(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = opened(path, mode, *args, **options)
            return Halves(file, act) if self.full and mode == "ab" else file

        def half(arrays: Any, path: Path) -> None:
            saved(arrays, path)
            if self.full:
                os.truncate(path, path.stat().st_size // 2)
                act()

        monkeypatch.setattr(Path, "open", halves)
        monkeypatch.setattr(checkpoint, "save_file", half)

    def fill(self) -> None:
        self.full = True

    def free(self) -> None:
        self.full = False


class Halves:
    """A file of records on it."""

    def __init__(self, file: Any, act: Act) -> None:
        self.file, self.act, self.begun = file, act, False

    def __enter__(self) -> Halves:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: Any) -> int:
        if self.begun:
            self.act()
        self.begun = True
        return int(self.file.write(content[: len(content) // 2]))


def judge(act: Act, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(tiny.judges, "any", at(3, act, tiny.cyclic))


def engine(act: Act, patch: pytest.MonkeyPatch) -> None:
    draw = at(3, act, ml.Autoregressive())
    patch.setitem(tiny.engines, "any", lambda config: draw)


def tracker(act: Act, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorBoardTracker, "log", at(3, act, TensorBoardTracker.log))


def record(act: Act, patch: pytest.MonkeyPatch) -> None:
    def once() -> None:
        disk.free()
        act()

    disk = Disk(once, patch)
    patch.setitem(tiny.judges, "any", at(3, disk.fill, tiny.cyclic))


def run(folder: Path, to: str, **output: Any) -> Config:
    """A run in `folder/to`, with the judge and the engine called `any`."""
    named = {"options": {"name": "any"}}
    output = {"folder": str(folder / to), "checkpoint_every": 100, "table_every": 2} | output
    return tiny.config(
        folder,
        judge=named,
        generation={"engine": "tiny:engine", **named},
        budget={"steps": STEPS},
        output=output,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that nothing stopped, `whole`."""
    tiny.judges["any"] = tiny.cyclic
    tiny.engines["any"] = lambda config: ml.Autoregressive()
    folder = tmp_path_factory.mktemp("runs")
    train(run(folder, "whole"))
    return folder


@pytest.fixture
def obeying() -> Iterator[None]:
    """Ctrl-C interrupts, also where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("obeying")
@pytest.mark.parametrize(
    ("where", "act"),
    [(w, a) for w in (judge, engine, tracker) for a in (ctrl_c_twice, fail)]
    + [(record, ctrl_c_twice)],
)
def test_what_was_done_is_saved_and_goes_on(
    where: Callable[[Act, pytest.MonkeyPatch], None],
    act: Act,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second Ctrl-C, and errors of others' code, end a run in its third step."""
    name = f"{where.__name__}-{act.__name__}"
    config = run(folder, name, trackers=["tensorboard"] if where is tracker else [])
    path = folder / f"{name}.yaml"
    path.write_text(config_file.dump(config))
    with monkeypatch.context() as patch:
        where(act, patch)
        code = cli.main(["train", str(path)])
    progress, *told = capsys.readouterr().err.strip().splitlines()
    said = "\n".join(filter(None, told))
    assert progress.startswith("step 1 of ")
    assert code == (2 if act is fail else 130)
    assert ("RuntimeError: connection lost. " if act is fail else "interrupted. ") in said
    assert said.endswith("Step 2 is saved: go on with `--resume`.")
    assert "\n" not in said
    assert checkpoint.last(folder / name).name == "step-000002"
    assert cli.main(["train", str(path), "--resume"]) == 0
    same(folder / name, folder / "whole", STEPS)


def test_a_tracker_that_does_not_start_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorBoardTracker, "start", lambda *_: fail())
    with pytest.raises(ValueError, match=r"\(tensorboard\) failed: RuntimeError: connection lost"):
        train(run(folder, "tracked", trackers=["tensorboard"]))


def test_a_disk_that_is_full_for_some_steps_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records wait in memory, and one warning tells of all that was refused."""
    disk = Disk(refuse, monkeypatch)
    asked = at(2, disk.fill, at(STEPS, disk.free, tiny.cyclic))
    monkeypatch.setitem(tiny.judges, "any", asked)
    with pytest.warns(RuntimeWarning, match="No space left .* the run goes on") as warned:
        train(run(folder, "full", checkpoint_every=2))
    assert len(warned) == 1
    assert [p.name for p in (folder / "full" / "checkpoints").iterdir()] == ["step-000005"]
    same(folder / "full", folder / "whole", STEPS)


def test_an_interrupt_reaches_other_processes_as_it_is() -> None:
    stop = pickle.loads(pickle.dumps(Interrupted(15, "stopped")))
    assert isinstance(stop, Interrupted)
    assert (stop.signum, str(stop)) == (15, "stopped")
