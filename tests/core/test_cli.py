"""The command line: known numbers, files, what it refuses, and going on where it stopped."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg
from mpo_games import cli
from mpo_games.games import catalogue
from mpo_games.protocol import State

COMAL = ["solve", "comal", "mpo", "--eta", "0.3", "--alpha", "0.1", "--period", "50"]
CYCLE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # usage errors and --help
            code = int(stop.code or 0)
        return (code, *capsys.readouterr())

    return call


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, nothing on standard output, one sentence with `words` on standard error."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("mpo-games: ")
    assert err.endswith((".\n", "?\n"))
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def gap(out: str) -> float:
    line = next(line for line in out.splitlines() if line.startswith("duality gap"))
    return float(line.split()[2])


def test_comal_reaches_the_published_accuracy_and_equilibrium(run: Run) -> None:
    code, out, err = run(*COMAL, "--budget", 3000, "--start", "0.2,0.5,0.3")
    assert (code, err) == (0, "")
    assert gap(out) < 1e-11
    assert "MPO eta=0.3 alpha=0.1 period=50" in out
    assert "support 3 of 3 actions" in out
    assert [line.split()[1] for line in out.splitlines()[-3:]] == [
        f"{p:.6f}" for p in (4 / 11, 3 / 11, 4 / 11)
    ]


def test_a_fixed_magnet_stops_at_the_published_gap(run: Run) -> None:
    code, out, _ = run(
        "solve", "comal", "mmd", "--eta", 0.3, "--alpha", 0.1, "--start", "0.2,0.5,0.3"
    )
    assert code == 0
    assert gap(out) == pytest.approx(0.0588, abs=5e-5)
    regularised = next(line for line in out.splitlines() if "regularised game" in line)
    assert float(regularised.split()[0]) < 1e-12


@pytest.mark.parametrize(
    ("solver", "limit"),
    [
        ("mpo", 1e-9),
        ("optimistic-mpo", 1e-9),
        ("mpo-rt", 1e-9),
        ("optimistic-md", 1e-9),
        ("extragradient", 1e-9),
        ("apmd", 1e-9),
        ("m2wu", 1e-9),
        ("annealed-mmd", 0.02),
        ("fictitious-play", 0.02),
    ],
)
@pytest.mark.parametrize("game", ["comal", "biased_rps", "perturbed_rps"])
def test_defaults_converge_whatever_the_unit_of_the_payoffs(
    run: Run, game: str, solver: str, limit: float
) -> None:
    code, out, _ = run("solve", game, solver)
    assert code == 0
    assert gap(out) < limit * float(np.max(catalogue.load(game).bound))


@pytest.mark.parametrize(("solver", "bias"), [("mmd", 1e-12), ("egpo", 1e-12), ("nash-md", 1e-3)])
@pytest.mark.parametrize("game", ["comal", "biased_rps", "perturbed_rps"])
def test_regularised_defaults_reach_the_regularised_equilibrium(
    run: Run, game: str, solver: str, bias: float
) -> None:
    _, out, _ = run("solve", game, solver)
    bound = float(np.max(catalogue.load(game).bound))
    regularised = next(line for line in out.splitlines() if "regularised game" in line)
    assert float(regularised.split()[0]) < bias * bound
    # Whose duality gap is at most what the two sides' KL to the uniform magnet can weigh.
    alpha = cli.SOLVERS[solver][2]["alpha"] * bound
    assert 0 < gap(out) <= 2.0 * alpha * np.log(3) + bias * bound


@pytest.mark.parametrize("solver", ["mirror-descent", "regret-matching"])
def test_the_average_is_tracked_beside_the_circling_last_iterate(run: Run, solver: str) -> None:
    _, out, _ = run("solve", "biased_rps", solver, "--average")
    average = next(line for line in out.splitlines() if "average iterate" in line)
    assert float(average.split()[0]) < 0.1 < gap(out)
    assert "last iterate  average" in out


def test_regret_matching_flags_are_its_settings(run: Run) -> None:
    _, out, _ = run("solve", "mne", "regret-matching", "--plus", "--predictive")
    assert "plus=1 predictive=1" in out
    assert gap(out) < 1e-9


def test_the_choices_of_mmd_make_it_another_method(run: Run) -> None:
    settings = ("--eta", 0.3, "--alpha", 0.1, "--budget", 300)
    for choices, method in (
        ((), "mmd"),
        (("every", "--period", 50), "mpo"),
        (("--pull", "in_reward", "every", "--period", 50), "mpo-rt"),
        (("--feedback", "optimistic", "every", "--period", 50), "optimistic-mpo"),
    ):
        period = ("--period", 50) if "every" in choices else ()
        _, ours, _ = run("solve", "biased_rps", "mmd", *settings, *choices)
        _, other, _ = run("solve", "biased_rps", method, *settings, *period)
        assert gap(ours) == gap(other)
        assert ours.splitlines()[-9:] == other.splitlines()[-9:]  # the policies


def test_the_choices_of_mmd_are_named(run: Run) -> None:
    for schedule, said in (
        (("fixed",), "magnet=Fixed()"),
        (("ema", "--rate", 0.1), "magnet=Ema(rate=0.1)"),
        (("when-solved", "--ratio", 0.5), "magnet=WhenSolved(ratio=0.5, check=10)"),
    ):
        code, out, _ = run("solve", "rps", "mmd", "--feedback", "popov", "--budget", 20, *schedule)
        assert code == 0
        assert f"feedback=popov pull=proximal {said}" in out


def test_every_solver_has_help_and_its_name_in_the_list(run: Run) -> None:
    _, listed, _ = run("list", "solvers")
    for name in cli.SOLVERS:
        assert f"  {name} " in listed
        code, out, _ = run("solve", "comal", name, "--help")
        assert code == 0
        settings = set(cli.SOLVERS[name][2]) - {"magnet"}
        assert all(f"--{setting}" in out for setting in settings)
        assert ("{fixed,every,ema,when-solved}" in out) == ("magnet" in cli.SOLVERS[name][2])


def test_help_shows_examples_that_work(run: Run) -> None:
    code, out, _ = run("solve", "--help")
    assert code == 0
    lines = [line.split() for line in cli.SOLVE_HELP.splitlines() if "mpo-games solve" in line]
    assert len(lines) >= 5
    for words in lines:
        assert " ".join(words) in out
        if "payoff.csv" not in words:
            assert run(*words[1:], "--budget", 10)[0] == 0


def test_list_games_is_the_catalogue(run: Run) -> None:
    _, out, _ = run("list", "games")
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == list(catalogue.names())
    assert "OpenSpiel" in out.splitlines()[-1]
    _, everything, _ = run("list")
    assert out.strip() in everything


def test_no_arguments_is_help_and_version_is_the_version(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert "solve" in out
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("mpo-games ")


def test_no_solver_is_the_one_that_needs_no_setting(run: Run) -> None:
    _, unnamed, _ = run("solve", "comal", "--budget", 200)
    _, named, _ = run("solve", "comal", "auto", "--budget", 200)
    assert gap(unnamed) == gap(named) < 1e-12


def test_parameters_of_a_game(run: Run) -> None:
    _, out, _ = run("solve", "condorcet:n=5,strength=0.8", "optimistic-mpo")
    assert "support 5 of 5" in out
    refused(run("solve", "condorcet:m=5", "mpo"), "`m`", "strength")
    refused(run("solve", "condorcet:n=five", "mpo"), "n=five")
    refused(run("solve", "condorcet:n", "mpo"), "'n'")


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_a_matrix_from_a_file(run: Run, tmp_path: Path, suffix: str) -> None:
    def write(name: str, table: np.ndarray) -> Path:
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".csv":
            np.savetxt(path, table, delimiter=",", fmt="%.17g")
        else:
            np.save(path, table)
        return path

    preferences, payoffs = write("p", CYCLE), write("a", np.array([[3.0, -1, 0], [-1, 1, 0]]))
    _, out, _ = run("solve", preferences, "mpo")
    assert "read as 3 x 3 preferences" in out
    assert gap(out) < 1e-11
    _, out, _ = run("solve", preferences, "mpo", "--kind", "matrix")
    assert "read as 3 x 3 payoffs" in out
    _, out, _ = run("solve", payoffs, "mpo")
    assert "read as 2 x 3 payoffs" in out
    assert "support 1 of 2" not in out
    assert gap(out) < 1e-11
    refused(run("solve", payoffs, "mpo", "--kind", "preference"), "square", str(payoffs))
    refused(run("solve", write("nan", np.array([[np.nan, 1.0], [1, 0]])), "mpo"), "finite")
    wrong = write("w", np.array([[0.5, 0.9], [0.9, 0.5]]))
    refused(run("solve", wrong, "mpo", "--kind", "preference"), "P + P.T = 1")


def test_unreadable_files(run: Run, tmp_path: Path) -> None:
    refused(run("solve", tmp_path / "missing.csv", "mpo"), "missing.csv", "No such file")
    for name, content in {
        "empty.csv": b"",
        "header.csv": b"a,b\n1,2\n",
        "ragged.csv": b"1,2\n3\n",
        "binary.csv": b"\xff\xfe\x00",
        "text.npy": b"1,2\n3,4\n",
        "empty.npy": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(run("solve", tmp_path / name, "mpo"), name, "matrix of numbers")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(run("solve", tmp_path / "pickled.npy", "mpo"), "matrix of numbers")
    np.save(tmp_path / "complex.npy", np.eye(2) * 1j)
    refused(run("solve", tmp_path / "complex.npy", "mpo"), "matrix of numbers")
    np.save(tmp_path / "deep.npy", np.zeros((2, 3, 4)))
    refused(run("solve", tmp_path / "deep.npy", "mpo"), "(2, 3, 4)")
    (tmp_path / "folder.csv").mkdir()
    refused(run("solve", tmp_path / "folder.csv", "mpo"), "directory")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["comall", "mpo"], ["comal"]),
        (["comal", "mpo", "--eta", "-1"], ["`eta`"]),
        (["comal", "mpo", "--eta", "nan"], ["`eta`"]),
        (["comal", "mpo", "--alpha", "-0.1"], ["`alpha`"]),
        (["comal", "mpo", "--period", "0"], ["`period`"]),
        (["comal", "egpo", "--eta", "10", "--alpha", "1"], ["`eta * alpha`"]),
        (["comal", "mpo", "--budget", "0"], ["`budget`"]),
        (["comal", "mpo", "--tol", "-1"], ["`tol`"]),
        (["comal", "mpo", "--noise", "-1"], ["`sigma`"]),
        (["comal", "mpo", "--start", "0.5,0.5"], ["`probs`"]),
        (["comal", "mpo", "--start", "a,b,c"], ["`--start`", "a,b,c"]),
        (["comal", "mpo", "--start", "0.2,0.5,0.3/0.2,0.5,0.3"], ["`--start`"]),
        (["comal", "mpo", "--kind", "matrix"], ["`--kind`"]),
        (["comal", "mpo", "--plot", "gap.gif"], ["`--plot`"]),
        (["comal", "mpo", "--save", "run"], ["`--save`"]),
        (["comal", "mpo", "--save", "nowhere/run.npz"], ["`--save`"]),
        (["comal", "mpo", "--resume", "missing.npz"], ["missing.npz"]),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(
    run: Run, arguments: list[str], words: list[str]
) -> None:
    refused(run("solve", *arguments), *words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve"],
        ["solve", "comal", "mpp"],
        ["solve", "comal", "mpo", "--etta", "1"],
        ["solve", "comal", "mpo", "--period", "2.5"],
        ["solve", "comal", "mmd", "--feedback", "past"],
        ["solve", "comal", "mmd", "every", "--period", "0"],
        ["list", "nothing"],
        ["nothing"],
    ],
)
def test_bad_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


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
        patch.setitem(cli.SOLVERS, "fictitious-play", ("Fictitious play", Interrupting, {}))
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


def test_large_games_list_the_likeliest_actions(run: Run) -> None:
    _, out, _ = run("solve", "random_preferences:n=30", "mpo", "--budget", 100)
    lines = out.splitlines()
    shown = [float(line.split()[1]) for line in lines if re.match(r"  \d", line)]
    assert len(shown) == cli.LISTED
    assert shown == sorted(shown, reverse=True)
    rest = float(lines[-1].split()[3])
    assert sum(shown) + rest == pytest.approx(1.0, abs=1e-4)


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
    assert (good.returncode, good.stderr) == (0, "")  # no progress bar off a terminal
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
    endless = [*command, "--budget", "1e12", "--checkpoint", str(kept)]
    program = f"""
import sys, mpo_games as mg
from mpo_games import cli
inner = mg.solve
def say(solution):
    if solution.state.step == 0:
        print("running", flush=True)
def solve(*arguments, **options):
    return inner(*arguments, callback=say, **options)
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


def test_trees_list_their_information_states_where_these_are_few(run: Run) -> None:
    pytest.importorskip("pyspiel")
    _, out, _ = run("solve", "kuhn_poker", "--budget", 60)
    rows = out.splitlines()[-24:]
    assert all(len(row.split()) == 4 for row in rows)
    assert sum(float(row.split()[3]) for row in rows) == pytest.approx(12.0, abs=1e-4)
    _, out, _ = run("solve", "leduc_poker", "mpo", "--budget", 2)
    assert "936 information states" in out.splitlines()[-1]
    refused(run("solve", "kuhn_poker", "mpo", "--start", "0.2,0.8"), "--start", "tables")
