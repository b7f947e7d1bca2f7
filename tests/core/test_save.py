"""Solutions come back from files bit for bit; a broken file or a failing save is answered."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solutions import GAME, MPO, NOISY, START, assert_same_solution, assert_same_state, remembering

import mpo_games as mg


def test_memory_of_every_kind_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    memory = {
        "policy": START,
        "array": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "integers": np.arange(5),
        "flags": np.array([True, False]),
        "float": 0.1 + 0.2,
        "infinite": -np.inf,
        "count": 7,
        "flag": True,
        "empty": np.zeros((0, 3)),
        "nested/name/array": 1.5,
        "memory/policy": START,
        "best": 2.0,
        "trace/step": 3.0,
        "header": 4.0,
    }
    solution = remembering(**memory)
    loaded = mg.Solution.load(solution.save(tmp_path / "run.npz"), GAME)
    assert_same_solution(loaded, solution)
    for name in ("float", "infinite", "count", "flag"):
        assert type(loaded.state.memory[name]) is type(memory[name])


def test_feedback_and_strength_of_the_last_step_come_back(tmp_path: Path) -> None:
    solution = mg.solve(GAME, mg.MMD(0.3, mg.Decaying(0.1, 0.5), feedback=mg.popov), 10)
    state = solution.state
    assert (state.q is None, state.eta, state.alpha) == (False, 0.3, 0.1 / (9 + 1) ** 0.5)
    assert_same_solution(mg.Solution.load(solution.save(tmp_path / "run"), GAME), solution)


@pytest.mark.parametrize("bad", [None, object(), [START, START], {"a": 1}])
def test_memory_that_cannot_be_saved_says_so(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cannot save `memory/pool`"):
        remembering(pool=bad).save(tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


def test_policies_of_two_kinds_come_back(tmp_path: Path) -> None:
    """The second kind is that of `policy`, or the one that a self-tuning solver changes to."""
    other = mg.TabularPolicy.uniform(GAME.legal, mg.Euclidean())
    solution = remembering(other=other, smooth=GAME.smoothed(START)[0])
    file = solution.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"of kind .*Euclidean.*: pass a `policy`"):
        mg.Solution.load(file, GAME)
    assert_same_solution(mg.Solution.load(file, GAME, other), solution)


def test_a_run_in_another_geometry_needs_its_policy(tmp_path: Path) -> None:
    start = mg.TabularPolicy.from_probs(START.probs, START.legal, mg.Euclidean())
    first = mg.solve(GAME, MPO, 50, policy=start)
    file = first.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"Euclidean.* pass a `policy` of the kind"):
        mg.Solution.load(file, GAME)
    loaded = mg.Solution.load(file, GAME, start)
    assert_same_solution(loaded, first)
    whole = mg.solve(GAME, MPO, 100, policy=start, at=[50])
    assert_same_state(mg.solve(GAME, MPO, 100, resume=loaded, at=[50]).state, whole.state)


def test_batches_come_back(tmp_path: Path) -> None:
    game = mg.MatrixGame(np.random.default_rng(0).normal(size=(5, 3, 4)))
    solution = mg.solve(game, mg.Averaged(MPO), 30)
    assert_same_solution(mg.Solution.load(solution.save(tmp_path / "b"), game), solution)
    # A batch of seeds on one game.
    start = mg.TabularPolicy.from_probs(np.stack([START.probs] * 3), START.legal)
    solution = mg.solve(GAME, MPO, 30, policy=start)
    assert_same_solution(mg.Solution.load(solution.save(tmp_path / "s"), GAME), solution)


def test_numpy_scalars_as_arguments_can_be_saved(tmp_path: Path) -> None:
    solution = mg.solve(
        GAME,
        mg.MPO(np.float64(0.3), np.float64(0.1), 7),
        np.float64(50),
        tol=np.float64(1e-9),
        seed=np.int64(2),
    )
    loaded = mg.Solution.load(solution.save(tmp_path / "run"), GAME)
    assert_same_solution(loaded, solution)
    assert loaded.converged is False


def test_save_and_load_agree_on_the_name(tmp_path: Path) -> None:
    solution = mg.solve(GAME, MPO, 5)
    file = solution.save(str(tmp_path / "deep" / "v1.5"))
    assert file == tmp_path / "deep" / "v1.5.npz"
    assert_same_solution(mg.Solution.load(tmp_path / "deep" / "v1.5", GAME), solution)


def test_no_pickle_in_the_file(tmp_path: Path) -> None:
    file = mg.solve(GAME, mg.Averaged(MPO), 5).save(tmp_path / "run")
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            assert not arrays[name].dtype.hasobject
        header = json.loads(str(arrays["header"]))
    assert header["provenance"]["game"].startswith("MatrixGame 4 x 3, checksum ")


def test_solutions_travel_to_other_processes() -> None:
    solution = mg.solve(NOISY, mg.Averaged(mg.OptimisticMPO(0.3, 0.1, 7)), 20)
    assert_same_solution(pickle.loads(pickle.dumps(solution)), solution)


def test_files_that_are_no_solution(tmp_path: Path) -> None:
    good = mg.solve(GAME, MPO, 20).save(tmp_path / "good.npz")
    content = good.read_bytes()
    middle = len(content) // 2
    bad = {
        "empty": b"",
        "text": b"not a solution",
        "zip start": b"PK\x03\x04 and then nothing",
        "cut": content[:middle],
        "flipped": content[: middle - 40] + b"\xff" * 80 + content[middle + 40 :],
        "pickle": pickle.dumps({"policy": 1}),
    }
    files = []
    for name, data in bad.items():
        files.append(tmp_path / f"{name}.npz")
        files[-1].write_bytes(data)
    np.savez(tmp_path / "foreign.npz", a=np.arange(3))
    np.savez(tmp_path / "header.npz", header=np.array("[1, 2]"))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.arange(3))
    (tmp_path / "folder.npz").mkdir()
    files += [tmp_path / f"{name}.npz" for name in ("foreign", "header", "array", "folder")]
    for file in files:
        with pytest.raises(ValueError, match="is not a saved solution of this game"):
            mg.Solution.load(file, GAME)
    with pytest.raises(ValueError, match="There is no file"):
        mg.Solution.load(tmp_path / "missing.npz", GAME)
    for other in (mg.MatrixGame(np.eye(2)), mg.PreferenceGame(np.full((4, 4), 0.5))):
        with pytest.raises(ValueError, match="is not a saved solution of this game"):
            mg.Solution.load(good, other)


def test_a_failing_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = mg.solve(GAME, MPO, 20).save(tmp_path / "run.npz")
    content = file.read_bytes()

    def full(handle: Any, **arrays: Any) -> None:
        handle.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        mg.solve(GAME, MPO, 40).save(file)
    with pytest.raises(ValueError, match="Cannot save"):
        remembering(pool=None).save(file)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
