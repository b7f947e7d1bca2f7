"""The command line: what its help and its lists say."""

from command_line import Run

from mpo_games.cli import commands, solvers
from mpo_games.games import catalogue


def test_every_solver_has_help_and_its_name_in_the_list(run: Run) -> None:
    _, listed, _ = run("list", "solvers")
    for name in solvers.SOLVERS:
        assert f"  {name} " in listed
        code, out, _ = run("solve", "comal", name, "--help")
        assert code == 0
        settings = set(solvers.SOLVERS[name][2]) - {"magnet"}
        assert all(f"--{setting}" in out for setting in settings)
        assert ("{fixed,every,ema,when-gap-fell}" in out) == ("magnet" in solvers.SOLVERS[name][2])


def test_help_shows_examples_that_work(run: Run) -> None:
    code, out, _ = run("solve", "--help")
    assert code == 0
    lines = [line.split() for line in commands.SOLVE_HELP.splitlines() if "mpo-games solve" in line]
    assert len(lines) >= 5
    for words in lines:
        assert " ".join(words) in out
        name = words[2].partition(":")[0]
        # The others are files that the reader has, and games that need OpenSpiel.
        if name in catalogue.names():
            assert run(*words[1:], "--budget", 10)[0] == 0


def test_list_games_is_the_catalogue(run: Run) -> None:
    _, out, _ = run("list", "games")
    # A description goes on below itself, and the last names are OpenSpiel's.
    begun = [line.split()[0] for line in out.splitlines()[1:] if line[2] != " "]
    assert begun[: len(catalogue.names())] == list(catalogue.names())
    assert "OpenSpiel" in " ".join(out.split()[-20:])
    _, everything, _ = run("list")
    assert out.strip() in everything


def test_no_arguments_is_help_and_version_is_the_version(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert "solve" in out
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("mpo-games ")


def test_a_misspelled_command_or_solver_gets_a_suggestion(run: Run) -> None:
    for words, answer in (
        ("slove comal", "no command 'slove': did you mean solve?"),
        ("solve comal optimistic-mdd", "no solver 'optimistic-mdd': did you mean optimistic-md"),
        ("solve --budget 9 comal mpoo", "no solver 'mpoo': did you mean mpo"),
    ):
        code, _, error = run(*words.split())
        assert code == 2
        assert error.splitlines()[-1].startswith(f"mpo-games: there is {answer}")
