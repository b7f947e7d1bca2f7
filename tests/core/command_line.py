"""What the tests of the command line share."""

from collections.abc import Callable

COMAL = ["solve", "comal", "mpo", "--eta", "0.3", "--alpha", "0.1", "--period", "50"]

Run = Callable[..., tuple[int, str, str]]
"""Runs the command line on some arguments: exit code, standard output, standard error."""


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
