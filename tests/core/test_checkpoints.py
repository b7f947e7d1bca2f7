"""The checkpoint of `solve`: when it is written, what it holds, and what if it cannot be."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solutions import GAME, MPO, NOISY, START, assert_same_solution

import mpo_games as mg
from mpo_games import atomic
from mpo_games.metrics import duality_gap

WHOLE = mg.solve(NOISY, MPO, 200, seed=5)


def resumed(file: Path, **options: Any) -> mg.Solution:
    return mg.solve(NOISY, MPO, 200, seed=5, checkpoint=file, resume=True, **options)


def raising(error: BaseException, at: int) -> Any:
    def callback(solution: mg.Solution) -> None:
        if solution.state.step >= at:
            raise error

    return callback


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("where", ["metric", "callback"])
def test_any_exception_leaves_the_last_whole_state(
    error: BaseException, where: str, tmp_path: Path
) -> None:
    """Also if a metric fails at this very state: its record is then made when the run goes on."""
    file, broken = tmp_path / "run.npz", [True]

    def metric(game: Any, state: mg.State) -> float:
        if where == "metric" and broken[0] and state.step == 50:
            raise error
        return float(state.step)

    metrics = {"gap": duality_gap, "mine": metric}
    callback = raising(error, 50) if where == "callback" else None
    with pytest.raises(type(error)) as caught:
        resumed(file, metrics=metrics, callback=callback)
    assert caught.value is error
    assert mg.Solution.load(file, NOISY).state.step == 50
    broken[0] = False
    whole = mg.solve(NOISY, MPO, 200, seed=5, metrics=metrics)
    assert_same_solution(resumed(file, metrics=metrics), whole)


def test_it_is_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    file, seen = tmp_path / "run.npz", []

    def look(solution: mg.Solution) -> None:
        if file.exists():
            seen.append((solution.state.step, mg.Solution.load(file, NOISY).state.step))

    found = resumed(file, checkpoint_every=0.0, callback=look)
    assert seen
    assert all(written <= step for step, written in seen)
    assert_same_solution(found, WHOLE)
    assert_same_solution(mg.Solution.load(file, NOISY), WHOLE)
    # What is done is done: the command that started the run may be given again.
    assert_same_solution(resumed(file), WHOLE)
    with pytest.raises(ValueError, match="`checkpoint_every`"):
        resumed(file, checkpoint_every=float("nan"))
    with pytest.raises(ValueError, match="`resume=True` goes on from `checkpoint`"):
        mg.solve(NOISY, MPO, 200, resume=True)


@pytest.mark.parametrize("game", [mg.NoisyGame(GAME, 0.2), mg.SampledGame(GAME, 3)])
def test_a_solver_that_uses_two_geometries_is_saved(game: Any, tmp_path: Path) -> None:
    file = tmp_path / "run"
    with pytest.raises(RuntimeError):
        mg.solve(game, mg.AutoMPO(), 90, checkpoint=file, callback=raising(RuntimeError(), 39))
    whole = mg.solve(game, mg.AutoMPO(), 90)
    found = mg.solve(game, mg.AutoMPO(), 90, checkpoint=file, resume=True)
    assert_same_solution(found, whole)


def test_a_run_that_has_recorded_nothing_yet_is_saved(tmp_path: Path) -> None:
    file, left = tmp_path / "run.npz", [30]

    def metric(game: Any, state: mg.State) -> float:
        left[0] -= 1
        if left[0] == 29:
            raise ValueError("mine")
        return 0.0

    options: dict[str, Any] = {"metrics": {"mine": metric}, "at": [50, 100]}
    with pytest.raises(ValueError, match="mine"):
        resumed(file, **options)
    assert len(mg.Solution.load(file, NOISY).trace) == 0
    assert_same_solution(resumed(file, **options), mg.solve(NOISY, MPO, 200, seed=5, **options))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluations", float("nan")),
        ("step", -1),
        ("step", 2.5),
        ("best_gap", float("nan")),
        ("converged", 1),
        ("rng_state", {}),
        ("provenance", {}),
        ("kinds", {}),
    ],
)
def test_an_edited_header_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    file = WHOLE.save(tmp_path / "run.npz")
    with np.load(file) as found:
        arrays = dict(found)
    header = json.loads(str(arrays["header"])) | {name: value}
    np.savez(file, **{**arrays, "header": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match="is not a saved solution of this game"):
        mg.Solution.load(file, NOISY)


@pytest.mark.parametrize("name", ["policy/coordinates", "magnet/coordinates", "best/coordinates"])
def test_edited_arrays_are_refused(name: str, tmp_path: Path) -> None:
    file = WHOLE.save(tmp_path / "run.npz")
    with np.load(file) as found:
        arrays = dict(found)
    array = arrays[name]
    infinite, unknown = array.copy(), array.copy()
    infinite[0, 0], unknown[0, 0] = np.inf, np.nan
    for bad in (infinite, unknown, array[0, 0], array.astype(str), array[:, :2], array + 0j):
        np.savez(file, **{**arrays, name: bad})
        with pytest.raises(ValueError, match="is not a saved solution of this game"):
            mg.Solution.load(file, NOISY)
    del arrays[name]
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match="is not a saved solution of this game: it has no"):
        mg.Solution.load(file, NOISY)


def test_a_file_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w") as archive, archive.open("header.npy", "w") as member:
        shape = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
        np.lib.format.write_array_header_1_0(member, shape)
    with pytest.raises(ValueError, match="declares the shape"):
        mg.Solution.load(file, GAME)


class Wrapper:
    """Forwards what it is asked for."""

    def __init__(self, game: Any) -> None:
        self.game = game

    def __getattr__(self, name: str) -> Any:
        return getattr(self.game, name)


def test_a_wrapped_game_is_self_tunable(tmp_path: Path) -> None:
    game = Wrapper(GAME)
    found = mg.solve(game, mg.AutoMPO(), 40)
    loaded = mg.Solution.load(found.save(tmp_path / "run"), game)  # type: ignore[arg-type]
    assert_same_solution(loaded, found)


def test_a_full_disk_keeps_the_earlier_file_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.npz"
    mg.solve(NOISY, MPO, 20, seed=5, checkpoint=file)
    earlier, sync = file.read_bytes(), os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(solution: mg.Solution) -> None:
        monkeypatch.setattr(os, "fsync", full if solution.state.step >= 30 else sync)

    with pytest.warns(RuntimeWarning) as said:
        found = resumed(file, checkpoint_every=0.0, callback=fill)
    monkeypatch.undo()
    # Once in the run and once at its end, however often it was tried.
    assert [str(w.message).count("No space left on device") for w in said] == [1, 1]
    assert "the run goes on" in str(said[0].message)
    assert "no file" in str(said[1].message)
    assert found.state.step == 200
    # The first record at 30 steps or more is that of 32.
    assert mg.Solution.load(file, NOISY).state.step == 32
    assert file.read_bytes() != earlier
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    monkeypatch.setattr(mg.Solution, "save", lambda *_: full(0))
    with pytest.raises(ValueError, match="mine") as caught:
        resumed(file, callback=raising(ValueError("mine"), 60))
    assert "could not be written: No space" in caught.value.__notes__[0]


def test_paths_that_cannot_be_written_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untouched(type(GAME)):  # type: ignore[misc]
        def feedback(self, *args: Any, **options: Any) -> Any:
            raise AssertionError("The run has begun.")

    folder, blocked = tmp_path / "folder.npz", tmp_path / "file"
    folder.mkdir()
    blocked.touch()
    for path in (folder, blocked / "run.npz", 3, Path("/dev/null/run.npz")):
        with pytest.raises(ValueError, match="`checkpoint`"):
            mg.solve(Untouched(GAME.payoff), MPO, 10, checkpoint=path)  # type: ignore[arg-type]
    # As on the command line: a folder that was misspelled is not made.
    with pytest.raises(ValueError, match=r"`checkpoint` cannot be written at .*there is no folder"):
        mg.solve(Untouched(GAME.payoff), MPO, 10, checkpoint=tmp_path / "nowhere" / "run")
    assert not (tmp_path / "nowhere").exists()
    monkeypatch.setattr(atomic.os, "access", lambda *_: False)
    (tmp_path / "mine.npz").touch()
    with pytest.raises(ValueError, match="read-only"):
        mg.solve(Untouched(GAME.payoff), MPO, 10, checkpoint=tmp_path / "mine")


def test_a_state_that_cannot_be_saved_is_refused_at_its_first_step(tmp_path: Path) -> None:
    class Hoarding:
        def step(self, game: Any, state: Any, rng: Any = None) -> Any:
            return MPO.step(game, state, rng).remember(pool=[object()])

    with pytest.raises(ValueError, match="Cannot save `memory/pool`"):
        mg.solve(GAME, Hoarding(), 10**9, checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_home_folder_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mg.solve(GAME, MPO, 5).save("~/a/run") == tmp_path / "a" / "run.npz"
    (tmp_path / "a" / "run.npz").chmod(0o640)
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "a" / "run.npz")
    mg.solve(GAME, MPO, 9, checkpoint=link)
    assert link.is_symlink()
    assert mg.Solution.load("~/a/run", GAME).state.step == 9
    assert (tmp_path / "a" / "run.npz").stat().st_mode & 0o777 == 0o640


def test_threads_that_save_to_one_path_lose_nothing(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write(seed: int) -> None:
        try:
            for _ in range(8):
                atomic.write_bytes(tmp_path / "run", bytes([seed]) * 10_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    content = (tmp_path / "run").read_bytes()
    assert len(content) == 10_000
    assert len(set(content)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_a_kill_has_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    old, young, held = (tmp_path / f".run.7-{name}.partial" for name in ("old", "young", "held"))
    for path in (old, young, held):
        path.write_bytes(b"half")
    for path in (old, held):
        os.utime(path, (0, 0))
    with held.open("rb") as file:
        atomic._hold(file.fileno())
        atomic.write_bytes(tmp_path / "run", b"whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run", young.name, held.name}


def test_no_handler_stays_and_a_thread_installs_none(tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    seen: list[Any] = []

    def look(_: Any) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    mg.solve(GAME, MPO, 20, callback=look, checkpoint=tmp_path / "a")
    assert seen[0] is not before[1]
    thread = threading.Thread(
        target=lambda: mg.solve(
            GAME, MPO, 20, policy=START, callback=look, checkpoint=tmp_path / "b"
        )
    )
    thread.start()
    thread.join()
    assert seen[-1] is before[1]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert np.all([(tmp_path / f"{n}.npz").exists() for n in "ab"])


def test_a_full_disk_costs_no_solution_where_warnings_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "run.npz"
    game, solver = mg.load("comal"), mg.MPO(eta=0.3, alpha=0.1, period=50)
    sync = os.fsync

    def later(solution: mg.Solution[Any]) -> None:
        monkeypatch.setattr(os, "fsync", full if solution.state.step else sync)

    found = mg.solve(game, solver, 30, checkpoint=path, checkpoint_every=0, callback=later)
    assert found.state.step == 30
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 2
    assert "in no file" in said
