"""The command line: `mpo-games solve GAME SOLVER [settings]` and `mpo-games list`."""

from __future__ import annotations

import inspect
import os
import sys
import time
import warnings
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum, member
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args

import numpy as np
import tyro

import mpo_games as mg
from mpo_games.choices import pull
from mpo_games.games import catalogue
from mpo_games.games.noisy import NoisyGame
from mpo_games.protocol import Solver
from mpo_games.provenance import spell

SUPPORT = 1e-6
"""An action of larger probability is in the support."""

LISTED = 20
"""How many actions of a row, or information states of a tree, the final table lists."""

ELSEWHERE = (
    "  and OpenSpiel's two-player zero-sum games by their names there: kuhn_poker, "
    "leduc_poker, liars_dice:dice_sides=4"
)
"""What `list games` says of trees."""


class FollowedFeedback(Enum):
    """The choices of `--feedback`."""

    current = member(mg.current)
    optimistic = member(mg.optimistic)
    popov = member(mg.popov)
    half_step = member(mg.half_step)
    alternating = member(mg.alternating)


class MagnetPull(Enum):
    """The choices of `--pull`."""

    proximal = member(pull.proximal)
    in_reward = member(pull.in_reward)
    squared = member(pull.squared)
    mutation = member(pull.mutation)


SOLVERS: Mapping[str, tuple[str, Callable[..., Solver], Mapping[str, Any]]] = {
    "mmd": (
        "MMD",
        mg.MMD,
        {
            "eta": 0.15,
            "alpha": 0.2,
            "feedback": FollowedFeedback.current,
            "pull": MagnetPull.proximal,
            "magnet": mg.Fixed(),
        },
    ),
    "mpo": ("MPO", mg.MPO, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "optimistic-mpo": (
        "Optimistic MPO",
        mg.OptimisticMPO,
        {"eta": 0.5, "alpha": 0.2, "period": 20},
    ),
    "mpo-rt": ("MPO-RT", mg.MPO_RT, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "mirror-descent": ("MD", mg.MirrorDescent, {"eta": 0.15}),
    "auto": ("AutoMPO", mg.AutoMPO, {}),
    "optimistic-md": ("Optimistic MD", mg.OptimisticMD, {"eta": 0.5}),
    "extragradient": ("Extragradient", mg.Extragradient, {"eta": 0.5}),
    "egpo": ("EGPO", mg.EGPO, {"eta": 0.5, "alpha": 0.02}),
    "annealed-mmd": ("Annealed MMD", mg.AnnealedMMD, {"eta": 0.5, "alpha": 2.0, "power": 0.5}),
    "nash-md": ("Nash-MD", mg.NashMD, {"eta": 0.05, "alpha": 0.04}),
    "apmd": ("APMD", mg.APMD, {"eta": 0.15, "alpha": 0.6, "period": 100}),
    "m2wu": ("M2WU", mg.M2WU, {"eta": 0.15, "alpha": 0.2, "period": 50}),
    "fictitious-play": ("Fictitious play", mg.FictitiousPlay, {}),
    "gradient-ascent": ("GDA", mg.GradientAscent, {"eta": 0.05}),
    "regret-matching": ("RM", mg.RegretMatching, {"plus": False, "predictive": False}),
}
"""Name -> label, constructor, defaults; `eta` in units of 1/L and `alpha` of L = max |payoff|."""

SETTINGS: Mapping[str, tuple[str, str]] = {
    "eta": ("Step size, in units of 1 / payoff.", " / L, L = max |payoff|"),
    "alpha": ("Weight of the KL to the magnet, in units of payoff.", " L, L = max |payoff|"),
    "period": ("The magnet moves to the policy every so many steps.", ""),
    "feedback": ("Which feedback is followed.", ""),
    "pull": ("How the magnet pulls.", ""),
    "magnet": ("When the magnet moves.", ""),
    "power": ("eta and alpha fall like (step + 1)^-power.", ""),
    "plus": ("Cut the regrets at 0 after every step (RM+).", ""),
    "predictive": ("Add the last regret as the guess of the next (PRM).", ""),
}
"""What each setting means, and the unit of its default."""

SOLVE_HELP = """Solve a game and print the strategy.

GAME is a name of `mpo-games list games` or of OpenSpiel, with its parameters after a colon, or a
.csv or .npy file that holds a matrix. A square matrix P with entries in [0, 1] and P + P.T = 1 is
read as a preference game, any other as the row player's payoffs; --kind decides otherwise.

examples:
  mpo-games solve comal
  mpo-games solve comal mpo --eta 0.3 --alpha 0.1 --tol 1e-11
  mpo-games solve rps mpo --start 0.5,0.3,0.2/0.2,0.2,0.6
  mpo-games solve condorcet:n=5,strength=0.8 mmd --alpha 0.05
  mpo-games solve biased_rps mmd --feedback optimistic every --period 20
  mpo-games solve biased_rps regret-matching --plus --average
  mpo-games solve payoff.csv extragradient --plot gap.png
  mpo-games solve payoff.csv mpo --save run.npz
  mpo-games solve payoff.csv mpo --resume run.npz --budget 1e6
"""


def _command(name: str) -> Any:
    """The subcommand of one solver: its settings as a dataclass, read off `SOLVERS`."""
    _, constructor, defaults = SOLVERS[name]
    options: list[tuple[str, Any, Any]] = []
    for setting, default in defaults.items():
        meaning, unit = SETTINGS[setting]
        if unit:  # None: the default, scaled to the game.
            arg = tyro.conf.arg(
                help=meaning, metavar="FLOAT", help_behavior_hint=f"(default: {default}{unit})"
            )
            options.append((setting, Annotated[float | None, arg], None))
        else:
            kind = Magnet if setting == "magnet" else type(default)
            options.append((setting, Annotated[kind, tyro.conf.arg(help=meaning)], default))
    return Annotated[
        make_dataclass(name, options, frozen=True),
        tyro.conf.subcommand(name, description=_summary(constructor)),
    ]


def _summary(constructor: Callable[..., Solver]) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(constructor.__doc__ or "").partition("\n\n")[0].split())


def _schedule(name: str, schedule: type) -> Any:
    """The subcommand of one magnet schedule, which is its own settings."""
    return Annotated[schedule, tyro.conf.subcommand(name, description=_summary(schedule))]


COMMANDS: Mapping[str, Any] = {}
"""The subcommand of each solver."""

if TYPE_CHECKING:
    Magnet = Any
    Chosen = Any
else:
    Magnet = Union[  # noqa: UP007
        _schedule("fixed", mg.Fixed),
        _schedule("every", mg.Every),
        _schedule("ema", mg.Ema),
        _schedule("when-solved", mg.WhenSolved),
    ]
    COMMANDS = {name: _command(name) for name in SOLVERS}
    Chosen = Union[tuple(COMMANDS.values())]  # noqa: UP007


@dataclass(frozen=True)
class Solve:
    """Solve a game."""

    game: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GAME")]
    """A name with its parameters (`condorcet:n=5`, `kuhn_poker`), or a .csv or .npy file."""
    solver: Chosen = field(default_factory=lambda: get_args(COMMANDS["auto"])[0]())
    """How; each has its own --help. AutoMPO when none is named."""
    budget: float = 10_000
    """Feedback evaluations to spend (extragradient needs two a step)."""
    tol: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Stop when the duality gap is at most this, in units of payoff."""
    start: Annotated[str | None, tyro.conf.arg(metavar="P,P,...")] = None
    """First policy, and magnet: probabilities `0.2,0.5,0.3`, the players' rows separated by `/`.
    Uniform by default."""
    average: bool = False
    """Track the average iterate too."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every entry of the feedback."""
    seed: int = 0
    """Seed of the noise."""
    kind: Literal["auto", "matrix", "preference"] = "auto"
    """What a file holds: payoffs or preferences."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw the gap against the evaluations, to a .png, .svg or .pdf file."""
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Save the solution, to look at or to go on from."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Go on from a saved solution up to --budget, with the same game and solver."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Save there if the run is interrupted with Ctrl-C."""


@dataclass(frozen=True)
class List:
    """Say what there is."""

    what: Annotated[
        Literal["games", "solvers", "all"], tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")
    ] = "all"
    """`games`, `solvers` or `all`."""


Command = (
    Annotated[Solve, tyro.conf.subcommand("solve", description=SOLVE_HELP)]
    | Annotated[List, tyro.conf.subcommand("list", description="List the games and solvers.")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 2: bad input, said in one sentence on standard error. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"mpo-games {version('mpo-games')}")
        return 0
    command: Any = tyro.cli(
        Command,
        args=arguments or ["--help"],
        prog="mpo-games",
        description="Last-iterate Nash equilibria of preference games, matrix games and trees.\n\n"
        "Begin with `mpo-games list` and `mpo-games solve comal`; `--version` says which.",
        config=(
            tyro.conf.CascadeSubcommandArgs,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    try:
        said = _listing(command.what) if isinstance(command, List) else _solve(command)
        print(said, flush=True)
    except BrokenPipeError:  # whoever reads, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ArithmeticError, OSError, MemoryError, ImportError) as error:
        print(f"mpo-games: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = command.checkpoint if isinstance(command, Solve) else None
        hint = (
            f"give the same command with `--resume {kept}` to go on"
            if kept is not None and kept.exists()
            else "with `--checkpoint FILE.npz` the run could be resumed"
        )
        print(f"\nmpo-games: interrupted; {hint}.", file=sys.stderr)
        return 130
    return 0


def _solve(command: Solve) -> str:
    """Run one `solve` command and write its files; the final table."""
    _require_writable("--plot", command.plot, (".png", ".svg", ".pdf"))
    _require_writable("--save", command.save, (".npz",))
    _require_writable("--checkpoint", command.checkpoint, (".npz",))
    name, exact = _load(command.game, command.kind)
    game = NoisyGame(exact, command.noise) if command.noise else exact
    label, plain, settings = _build(command.solver, float(np.max(exact.bound)))
    solver: Solver = mg.Averaged(plain) if command.average else plain
    metrics = {"gap": mg.metrics.duality_gap}
    if command.average:
        metrics["average_gap"] = mg.metrics.average_gap
    began = time.perf_counter()
    solution = mg.solve(
        game,
        solver,
        command.budget,
        policy=None if command.start is None else _policy(exact, command.start),
        resume=None if command.resume is None else _resumed(command.resume, game, solver),
        metrics=metrics,
        tol=command.tol,
        seed=command.seed,
        checkpoint=command.checkpoint,
        progress=True,
    )
    seconds = time.perf_counter() - began
    rows = [
        ("game", name),
        ("solver", " ".join([label, *(_setting(key, value) for key, value in settings.items())])),
        ("duality gap", f"{solution.gap:.3g} of the last iterate"),
    ]
    alpha = getattr(plain, "alpha", None)
    still = not solution.state.moved and not isinstance(getattr(plain, "magnet", None), mg.Ema)
    if isinstance(alpha, float) and alpha > 0.0 and still:
        left = exact.regularised_gap(solution.policy, solution.state.magnet, alpha)
        rows.append(("", f"{float(left):.3g} of the last iterate in the regularised game"))
    if command.average:
        rows.append(("", f"{float(solution.trace['average_gap'][-1]):.3g} of the average iterate"))
    if command.tol is not None:
        rows.append(
            ("tolerance", f"{command.tol:g}, {'' if solution.converged else 'not '}reached")
        )
    rows += [
        ("evaluations", f"{solution.state.evaluations:,g}"),
        ("seconds", f"{seconds:.3g}"),
    ]
    if command.save is not None:
        rows.append(("saved", str(solution.save(command.save))))
    if command.plot is not None:
        _draw(solution, label, command.plot)
        rows.append(("plot", str(command.plot)))
    policies = {"last iterate": solution.policy}
    if command.average:
        policies["average"] = solution.state.memory.get("average", solution.policy)
    shown = _on_tree if isinstance(exact, mg.SequenceFormGame) else _strategies
    return "\n".join([*_aligned(rows), "", *shown(policies)])


def _load(text: str, kind: str) -> tuple[str, Any]:
    """What the game is called, and the game."""
    path = Path(text)
    if path.suffix in {".csv", ".npy"}:
        table = _table(path)
        balanced = (
            table.ndim >= 2
            and table.shape[-1] == table.shape[-2]
            and (
                np.all((table >= 0) & (table <= 1))
                and np.allclose(table + np.swapaxes(table, -1, -2), 1.0, rtol=0.0, atol=1e-9)
            )
        )
        preference = balanced if kind == "auto" else kind == "preference"
        if not preference and table.ndim != 2:
            raise ValueError(f"{text!r} must hold one payoff matrix, got shape {table.shape}.")
        try:
            game = mg.PreferenceGame(table) if preference else mg.MatrixGame(table)
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error
        size = " x ".join(map(str, table.shape))
        return f"{text}, read as {size} {'preferences' if preference else 'payoffs'}", game
    if kind != "auto":
        raise ValueError(f"`--kind` is for .csv and .npy files, not for the game {text!r}.")
    name, _, tail = text.partition(":")
    parameters: dict[str, Any] = {}
    for item in filter(None, tail.split(",")):
        key, _, value = item.partition("=")
        try:
            parameters[key] = literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"Parameters of a game are numbers, `NAME:key=1,other=2`, got {item!r}."
            ) from error
    return text, catalogue.load(name, **parameters)


def _table(path: Path) -> Any:
    """The numbers in a .csv or .npy file."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file.
            if path.suffix == ".npy":
                return np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
            return np.loadtxt(file, delimiter=",", ndmin=2)
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except (ValueError, TypeError, EOFError, Warning) as error:
        raise ValueError(
            f"{str(path)!r} does not hold a matrix of numbers (without a header or pickles)."
        ) from error


def _build(chosen: Any, bound: float) -> tuple[str, Solver, dict[str, Any]]:
    """Label, solver and settings that were chosen, defaults scaled to the payoffs' `bound`."""
    label, constructor, defaults = SOLVERS[type(chosen).__name__]
    scale = {"eta": 1.0 / (bound or 1.0), "alpha": bound or 1.0}
    settings = {}
    for part in fields(chosen):
        given = getattr(chosen, part.name)
        if given is None:
            given = defaults[part.name] * scale[part.name]
        settings[part.name] = given.value if isinstance(given, Enum) else given
    return label, constructor(**settings), settings


def _policy(game: Any, text: str) -> Any:
    """The policy of `game` written as `0.2,0.5,0.3`, rows separated by `/`."""
    try:
        rows = [[float(p) for p in row.split(",")] for row in text.split("/")]
    except ValueError as error:
        raise ValueError(
            f"`--start` must be probabilities like 0.2,0.5,0.3 or 0.5,0.5/0.9,0.1, got {text!r}."
        ) from error
    if not hasattr(game, "policy"):
        raise ValueError("`--start` is for tables: the policies of a tree have no rows.")
    try:
        return game.policy(*(rows * game.players if len(rows) == 1 else rows))
    except TypeError as error:
        raise ValueError(
            f"`--start` must have {game.players} rows separated by `/`, got {text!r}."
        ) from error


def _resumed(path: Path, game: Any, solver: Solver) -> mg.Solution[Any]:
    """The saved solution, if it is one of this game and solver."""
    solution = mg.Solution.load(path, game)
    ours, theirs = spell(solver), solution.provenance["solver"]
    if ours != theirs:
        raise ValueError(f"{str(path)!r} was run with {theirs}, not with {ours}: repeat that.")
    return solution


def _require_writable(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """`ValueError`, before the run, if what it finds could not be written to `path`."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ValueError(f"`{option}` must end in {' or '.join(suffixes)}, got {str(path)!r}.")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"`{option}` must be a file in a folder that exists, got {str(path)!r}.")


def _draw(solution: mg.Solution[Any], label: str, path: Path) -> None:
    """Write the convergence plot to `path`, whole or not at all."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from mpo_games import plot

    axes = plot.convergence({label: solution.trace})
    content = io.BytesIO()
    with plot.theme():
        axes.figure.savefig(content, format=path.suffix[1:])
    path.write_bytes(content.getvalue())


def _strategies(policies: Mapping[str, Any]) -> Iterable[str]:
    """The action probabilities of each row, likeliest first where there are many."""
    if not all(isinstance(policy, mg.TabularPolicy) for policy in policies.values()):
        return
    probs = np.stack([policy.probs for policy in policies.values()], axis=-1)
    legal = next(iter(policies.values())).legal
    for r, (row, mask) in enumerate(zip(probs, legal, strict=True)):
        actions = np.flatnonzero(mask)
        support = int(np.sum(row[actions, 0] > SUPPORT))
        title = f"row {r}" if len(probs) > 1 else "strategy"
        yield f"{title}: support {support} of {len(actions)} actions"
        shown = actions
        if len(actions) > LISTED:
            shown = actions[np.argsort(-row[actions, 0], kind="stable")[:LISTED]]
        cells = [("action", *policies), *((str(a), *(f"{p:.6f}" for p in row[a])) for a in shown)]
        yield from (f"  {line}" for line in _aligned(cells))
        if len(shown) < len(actions):
            rest = row[actions, 0].sum() - row[shown, 0].sum()
            yield f"  and {len(actions) - len(shown)} more, {max(rest, 0.0):.6f} in all"


def _on_tree(policies: Mapping[str, Any]) -> Iterable[str]:
    """The action probabilities of each information state, where these are few."""
    tree = next(iter(policies.values())).tree
    if tree.states > LISTED:
        yield f"{tree.states} information states: too many to list; --save keeps them"
        return
    cells = [("player", "information state", "action", *policies)]
    state_of, played = tree.state_of, [policy.probs for policy in policies.values()]
    for a in range(2, tree.sequences):
        probs = (f"{p[a]:.6f}" for p in played)
        state = tree.labels[state_of[a]]
        cells.append((str(tree.owner[a]), state, str(tree.actions[a]), *probs))
    yield from _aligned(cells)


def _listing(what: str) -> str:
    """What there is, one line each."""
    games = list(catalogue.describe().items())
    solvers = [(name, _summary(constructor)) for name, (_, constructor, _) in SOLVERS.items()]
    parts = {"games": games, "solvers": solvers}
    chosen = parts if what == "all" else {what: parts[what]}
    lines = [[title, *(f"  {line}" for line in _aligned(rows))] for title, rows in chosen.items()]
    if "games" in chosen:
        lines[0].append(ELSEWHERE)
    return "\n\n".join("\n".join(part) for part in lines)


def _setting(name: str, value: Any) -> str:
    """`name=value`: a number rounded, a choice by its name, a schedule with its settings."""
    if isinstance(value, float | int):
        return f"{name}={value:.6g}"
    return f"{name}={getattr(value, '__name__', value)}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells begin in the same column."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
