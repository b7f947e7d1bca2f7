"""The command line: `mpo-games solve GAME SOLVER [settings]`, `rank`, `show`, `export`, `list`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any

import tyro

from mpo_games.cli.commands import SOLVE_HELP, Export, List, Solve
from mpo_games.cli.rank import RANK_HELP, Rank
from mpo_games.cli.show import Show
from mpo_games.cli.solvers import SOLVERS
from mpo_games.cli.usage import WrongUsage, in_sentences, warnings_in_sentences
from mpo_games.exact.tables import CertificateError

COMMANDS = ("solve", "rank", "show", "export", "list")

Command = (
    Annotated[Solve, tyro.conf.subcommand("solve", description=SOLVE_HELP)]
    | Annotated[Rank, tyro.conf.subcommand("rank", description=RANK_HELP)]
    | Annotated[Show, tyro.conf.subcommand("show", description="Show a saved solution.")]
    | Annotated[
        Export, tyro.conf.subcommand("export", description="Write a game to a file of Gambit.")
    ]
    | Annotated[List, tyro.conf.subcommand("list", description="List the games and solvers.")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input; a sentence on standard error says what is wrong. 130: interrupted.
    """
    with warnings_in_sentences("mpo-games"):
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Commands from before release 0.2 have the earlier name.
    arguments = ["when-gap-fell" if word == "when-solved" else word for word in arguments]
    # Before release 0.3 payoffs were a kind `matrix`.
    told = ["", *arguments]
    arguments = [
        "payoff" if (before, word) == ("--kind", "matrix") else word
        for before, word in zip(told, arguments, strict=False)
    ]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        # Help is of a command, and there is no such one: tyro would show that of all.
        arguments = [word for word in arguments if word not in ("-h", "--help")]
    # Before tyro, which would demand a subcommand.
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"mpo-games {version('mpo-games')}")
        return 0
    try:
        command = in_sentences(partial(_parsed, arguments or ["--help"]), arguments, "mpo-games")
    except WrongUsage as error:
        print(f"mpo-games: {_meant(arguments) or error}", file=sys.stderr)
        return 2
    try:
        print(command.run(), flush=True)
    except BrokenPipeError:
        # A reader such as `head` has closed the pipe. Python flushes standard output once more when
        # it exits, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ArithmeticError, OSError, ImportError, CertificateError) as error:
        print(f"mpo-games: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("mpo-games: out of memory: take a smaller game.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = command.checkpoint if isinstance(command, Solve) else None
        hint = "with `--checkpoint FILE.npz` the run could be resumed"
        if kept is not None:
            hint = "nothing was saved yet"
            if kept.exists():
                hint = f"give the same command with `--resume {kept}` to go on"
        print(f"\nmpo-games: interrupted; {hint}.", file=sys.stderr)
        return 130
    return 0


def _parsed(arguments: list[str]) -> Any:
    """The command that the arguments describe."""
    return tyro.cli(
        Command,
        args=arguments,
        prog="mpo-games",
        description="Last-iterate Nash equilibria of preference games, matrix games and trees.\n\n"
        "Begin with `mpo-games list` and `mpo-games solve comal`; `--version` prints the version.",
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
    )


def _meant(arguments: Sequence[str]) -> str | None:
    """A sentence about a command or a solver that is misspelled, if one is."""
    words = enumerate(arguments[:1]) if arguments[:1] != ["solve"] else enumerate(arguments)
    for i, word in words:
        noun, known = ("command", COMMANDS) if i == 0 else ("solver", tuple(SOLVERS))
        # The second word is the game; a word behind an option is its value.
        if i == 1 or word in known or word.startswith("-") or arguments[i - 1].startswith("-"):
            continue
        if close := get_close_matches(word, known, n=2):
            return f"there is no {noun} {word!r}: did you mean {' or '.join(close)}?"
    return None
