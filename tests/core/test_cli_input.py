"""The command line: games by name and from files, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from command_line import Run, gap, refused

CYCLE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])


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
    word = "'nan'" if suffix == ".csv" else "finite"
    refused(run("solve", write("nan", np.array([[np.nan, 1.0], [1, 0]])), "mpo"), word)
    wrong = write("w", np.array([[0.5, 0.9], [0.9, 0.5]]))
    refused(run("solve", wrong, "mpo", "--kind", "preference"), "P + P.T = 1")


def test_unreadable_files(run: Run, tmp_path: Path) -> None:
    refused(run("solve", tmp_path / "missing.csv", "mpo"), "missing.csv", "No such file")
    for name, content, word in (
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"a,1\n1,2\n", "line 1, cell 1"),
        ("ragged.csv", b"1,2\n3\n", "line 2"),
        ("binary.csv", b"\xff\xfe\x00", "no text"),
        ("text.npy", b"1,2\n3,4\n", "array of numbers"),
        ("empty.npy", b"", "array of numbers"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(run("solve", tmp_path / name, "mpo"), name, word)
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(run("solve", tmp_path / "pickled.npy", "mpo"), "array of numbers")
    np.save(tmp_path / "complex.npy", np.eye(2) * 1j)
    refused(run("solve", tmp_path / "complex.npy", "mpo"), "real numbers")
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
        (["comal", "mpo", "--start", "0.5,0.5"], ["`--start`", "3 probabilities"]),
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


def test_parameters_and_names_that_no_game_has(run: Run) -> None:
    refused(run("solve", "condorcet:n=3,n=5"), "'n' twice")
    refused(run("solve", "condorcet:max_memory=3"), "--max-memory")
    refused(run("solve", "condorcet:name='rps'"), "'name'")
    refused(run("solve", "condorcet:n=" + "9" * 5000), "Parameters")
    refused(run("solve", "x" * 5000), "no game")
