"""The command line: files it writes, and going on where it stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import COMAL, Run, refused

import mpo_games as mg
from mpo_games import cli
from mpo_games.cli import solvers
from mpo_games.games import catalogue
from mpo_games.protocol import State


@pytest.mark.parametrize("extra", [[], ["--average"], ["--noise", "0.1", "--seed", "3"]])
def test_save_then_resume_equals_an_uninterrupted_run(
    run: Run, tmp_path: Path, extra: list[str]
) -> None:
    first, second, whole = (tmp_path / f"{name}.npz" for name in ("first", "second", "whole"))
    base = [*COMAL, "--start", "0.2,0.5,0.3", *extra]
    again = [*COMAL, *extra, "--resume", str(first)]
    assert run(*base, "--budget", 137, "--save", first)[0] == 0
    assert run(*again, "--budget", 400, "--save", second)[0] == 0
    assert run(*base, "--budget", 400, "--save", whole)[0] == 0
    resumed, straight = (mg.Solution.load(p, catalogue.load("comal")) for p in (second, whole))
    assert np.array_equal(resumed.policy.coordinates, straight.policy.coordinates)
    assert np.array_equal(resumed.state.magnet.coordinates, straight.state.magnet.coordinates)
    assert resumed.state.evaluations == straight.state.evaluations == 400
    assert resumed.gap == straight.gap
    assert resumed.rng_state == straight.rng_state


def test_resume_refuses_another_run(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "run.npz"
    assert run(*COMAL, "--budget", 10, "--save", saved)[0] == 0
    refused(run("solve", "comal", "mmd", "--resume", saved), "run.npz", "MMD")
    refused(run("solve", "condorcet:n=5", *COMAL[2:], "--resume", saved), "run.npz")
    refused(run(*COMAL, "--resume", saved, "--start", "0.2,0.5,0.3"), "`resume`")
    junk = tmp_path / "junk.npz"
    junk.write_bytes(b"junk")
    refused(run(*COMAL, "--resume", junk), "junk.npz")


def test_nothing_is_written_when_the_run_fails(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run("solve", "comal", "mpo", "--eta", 0, "--save", "a.npz", "--plot", "a.png"))
    refused(run("solve", "comal", "mpo", "--save", "a.npz", "--plot", "a.gif"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(run: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gap.{suffix}"
    code, out, _ = run("solve", "comal", "mpo", "--budget", 100, "--plot", path)
    assert code == 0
    assert str(path) in out
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


class Interrupting(mg.FictitiousPlay):
    """Presses Ctrl-C at step 50."""

    def step(self, game: object, state: State, rng: np.random.Generator | None = None) -> State:
        if state.step == 50:
            raise KeyboardInterrupt
        return super().step(game, state, rng)


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.npz"
    fictitious = ["solve", "biased_rps", "fictitious-play"]
    with monkeypatch.context() as patch:
        patch.setitem(solvers.SOLVERS, "fictitious-play", ("Fictitious play", Interrupting, {}))
        assert run(*fictitious)[0] == 130
        code, out, err = run(*fictitious, "--checkpoint", kept)
    assert (code, out) == (130, "")
    assert f"--resume {kept}" in err
    assert "Traceback" not in err
    game = catalogue.load("biased_rps")
    solution = mg.Solution.load(kept, game)
    assert solution.state.step == 50
    straight = mg.solve(game, mg.FictitiousPlay(), 50)
    assert np.array_equal(solution.policy.coordinates, straight.policy.coordinates)


def test_the_command_exits_with_its_code(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mpo_games.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    good = command("solve", "comal", "mpo", "--budget", "100")
    assert good.returncode == 0
    # No progress bar off a terminal; on a slow machine a line now and then.
    assert all(" of 100 evaluations, gap " in line for line in good.stderr.splitlines())
    assert good.stderr.replace("\n", "").isprintable()
    bad = command("solve", "missing.csv", "mpo")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "missing.csv" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "mpo_games.cli", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_a_real_ctrl_c_exits_with_130_and_can_be_resumed(tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    command = [sys.executable, "-m", "mpo_games.cli", "solve", "comal", "mpo"]
    endless = [*command, "--budget", "1e12", "--tol", "0", "--checkpoint", str(kept)]
    program = f"""
import sys, mpo_games as mg
from mpo_games import cli
from mpo_games.cli import commands, solvers, tables
inner = mg.solve
def say(solution):
    if solution.state.step == 0:
        print("running", flush=True)
def solve(*arguments, **options):
    return inner(*arguments, **{{**options, "callback": say}})
mg.solve = solve
sys.exit(cli.main({endless[3:]!r}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert said.strip().startswith("mpo-games: interrupted")
    assert f"--resume {kept}" in said
    steps = mg.Solution.load(kept, catalogue.load("comal")).state.step
    done = cli.main([*endless[3:5], "mpo", "--resume", str(kept), "--budget", str(steps + 100)])
    assert done == 0


@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(
    run: Run, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpo_games.atomic.write_bytes", full)
    path = tmp_path / ("x.npz" if option == "--save" else "x.png")
    refused(run(*COMAL, "--budget", 1e9, option, path), option, "No space left")


@pytest.mark.parametrize("what", ["save", "plot"])
def test_a_disk_that_fills_up_does_not_cost_the_table(
    run: Run, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    module = "mpo_games.solution" if what == "save" else "mpo_games.cli.pictures"
    monkeypatch.setattr(f"{module}.write_bytes", full)
    path = tmp_path / ("x.npz" if what == "save" else "x.png")
    code, out, err = run(*COMAL, "--budget", 10, f"--{what}", path)
    assert code == 2
    assert "duality gap" in out
    assert str(path) in err
    assert "No space left on device." in err
    assert not path.exists()
