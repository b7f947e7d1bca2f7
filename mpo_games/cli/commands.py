"""The commands: their options as fields, and what each does in `run`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tyro

import mpo_games as mg
from mpo_games.atomic import write_bytes
from mpo_games.cli import inputs, meaning, pictures, tables
from mpo_games.cli.progress import Lines
from mpo_games.cli.solvers import COMMANDS, SOLVERS, Chosen, build, summary
from mpo_games.games import catalogue
from mpo_games.games.memory import MAX_MEMORY
from mpo_games.protocol import Solver
from mpo_games.provenance import spell
from mpo_games.written import written

ELSEWHERE = (
    "and OpenSpiel's two-player zero-sum games by their names there: kuhn_poker, "
    "leduc_poker, liars_dice:dice_sides=4"
)
"""The last line of `list games`: OpenSpiel's names are too many to list."""

ROUNDING = 1e-13
"""A gap this small beside the largest payoff is rounding: more steps do not make it smaller."""

LAST = "last iterate"

SOLVE_HELP = """Solve a game and print the strategy.

GAME is a name of `mpo-games list games` or of OpenSpiel, with its parameters after a colon; a file
that holds a matrix, .csv, .tsv or .npy; or a file of Gambit, .efg or .nfg. A square matrix P
with entries in [0, 1] and P + P.T = 1 is read as a preference game, any other as the row player's
payoffs, unless it looks like numbers of wins or rounded preferences: then --kind must say what it
is. A .csv file may have names in its first row and column.

examples:
  mpo-games solve comal
  mpo-games solve comal mpo --eta 0.3 --alpha 0.1 --tol 1e-11
  mpo-games solve rps mpo --start 0.5,0.3,0.2/0.2,0.2,0.6
  mpo-games solve condorcet:n=5,strength=0.8 mmd --alpha 0.05
  mpo-games solve biased_rps mmd --feedback optimistic every --period 20
  mpo-games solve biased_rps regret-matching --plus --average
  mpo-games solve payoff.csv extragradient --plot gap.png
  mpo-games solve poker.efg pcfr-plus --restarts --strategy strategy.csv
  mpo-games solve payoff.csv mpo --save run.npz
  mpo-games solve payoff.csv mpo --resume run.npz --budget 1e6
  mpo-games solve liars_dice --checkpoint run.npz --resume run.npz --budget 1e5
"""


@dataclass(frozen=True)
class Solve:
    """Solve a game."""

    game: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GAME")]
    """A name with its parameters (`condorcet:n=5`, `kuhn_poker`), or a file."""
    solver: Chosen = field(default_factory=lambda: get_args(COMMANDS["auto"])[0]())
    """The solver; each has its own --help. AutoMPO by default."""
    budget: float = 10_000
    """Feedback evaluations to spend (extragradient needs two a step)."""
    tol: Annotated[
        float | None,
        tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 1e-13 of the largest payoff)"),
    ] = None
    """Stop when the duality gap is at most this, in payoffs; 0 never stops before the budget."""
    start: Annotated[
        str | None, tyro.conf.arg(metavar="P,P,...", help_behavior_hint="(default: uniform)")
    ] = None
    """The first policy and magnet: probabilities `0.2,0.5,0.3`, players' rows separated by `/`."""
    average: bool = False
    """Track the average iterate too."""
    restarts: bool = False
    """Restart the method from its best policy whenever the gap has halved."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on every entry of the feedback."""
    seed: int = 0
    """Seed of the noise."""
    kind: meaning.Kind = "auto"
    """What a table holds: payoffs, preferences, or how often the row beat the column."""
    max_memory: float = MAX_MEMORY
    """GiB that a named game may take: a larger one is refused."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = (
        None
    )
    """Draw the gap against the evaluations, to a .png, .svg or .pdf file."""
    strategy: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.csv", help_behavior_hint="(optional)")
    ] = None
    """Write the strategy: a row for each action at each information state, with their names."""
    save: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.npz", help_behavior_hint="(optional)")
    ] = None
    """Save the solution: `mpo-games show` reads it, Python can load it, and --resume can go on."""
    resume: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.npz", help_behavior_hint="(optional)")
    ] = None
    """Go on from a saved solution up to --budget, with the same game and solver.
    If it is the file of --checkpoint and does not exist yet, the run starts: one command does both.
    """
    checkpoint: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.npz", help_behavior_hint="(optional)")
    ] = None
    """Save there every minute, at the end, on Ctrl-C, SIGTERM and SIGHUP, and on any error."""

    def run(self) -> str:
        """Solve the game and write the files of the options; returns the table that is printed."""
        # Before the run, because hours of work must not end at a file that cannot be written.
        inputs.require_writable("--plot", self.plot, pictures.ENDINGS)
        inputs.require_writable("--strategy", self.strategy, (".csv",))
        inputs.require_writable("--save", self.save, (".npz",))
        inputs.require_writable("--checkpoint", self.checkpoint, (".npz",))
        name, exact = inputs.load(self.game, self.kind, self.max_memory)
        game = inputs.noisy(exact, self.noise)
        bound = float(np.max(exact.bound))
        label, plain, settings = build(self.solver, bound)
        # A method that answers with its average keeps one already.
        tracked = self.average and _answer(plain) == LAST
        solver: Solver = mg.Averaged(plain) if tracked else plain
        if self.restarts:
            label, solver = f"{label} restarted", mg.Restarted(solver)
        metrics = {"gap": mg.metrics.duality_gap}
        if tracked:
            solver = Beside(solver)
            metrics["average_gap"] = mg.metrics.average_gap
        elif _answer(solver) != LAST:
            metrics["iterate_gap"] = mg.metrics.iterate_gap
        tol = ROUNDING * bound if self.tol is None else self.tol or None
        resume = self._resumed(game, solver)
        # If the command that starts is given again to go on, `--start` has been used.
        begun = resume is not None and self.resume == self.checkpoint
        terminal = sys.stderr.isatty()
        began = time.perf_counter()
        solution = mg.solve(
            game,
            solver,
            self.budget,
            policy=None if self.start is None or begun else inputs.policy(exact, self.start),
            resume=resume,
            metrics=metrics,
            tol=tol,
            seed=self.seed,
            callback=None if terminal else Lines(self.budget),
            checkpoint=self.checkpoint,
            progress=terminal,
        )
        seconds = time.perf_counter() - began
        if isinstance(solver, Beside):
            method = {"method": written(solver.solver)}
            solution = replace(solution, provenance={**solution.provenance, **method})
        chosen = " ".join([label, *(tables.setting(key, value) for key, value in settings.items())])
        rows = [
            ("game", name),
            ("solver", chosen),
            *self._distances(exact, plain, solver, solution),
            *tables.value(exact, solution.policy, solution.gap),
            ("evaluations", f"{solution.state.evaluations:,g}"),
            ("seconds", f"{seconds:.3g}"),
        ]
        failures: list[str] = []
        sourced = inputs.sourced(solution, self.game, self.kind, label, self.save)
        for what, path, write in (
            ("strategy", self.strategy, lambda path: solution.table().to_csv(path)),
            ("saved", self.save, sourced.save),
            ("plot", self.plot, partial(pictures.write, partial(pictures.gap, solution, label))),
        ):
            if path is None:
                continue
            try:
                write(path)
                rows.append((what, str(path)))
            # A disk or a library that fails now must not cost the table, which is the work.
            except Exception as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                failures.append(f"{str(path)!r} could not be written: {reason.rstrip('.')}.")
        answer = _answer(solver)
        # The head of a column must be short.
        policies = {answer if answer in ("average", LAST) else "answer": solution.policy}
        if tracked:
            policies["average"] = solution.state.memory.get("average", solution.policy)
        if isinstance(exact, mg.SequenceFormGame):
            shown = tables.on_tree(policies)
        else:
            many = "context" if isinstance(exact, mg.PreferenceGame) else "player"
            shown = tables.strategies(policies, many)
        table = "\n".join([*tables.aligned(rows), "", *shown])
        if failures:
            print(table, flush=True)
            raise OSError(" ".join(failures))
        return table

    def _resumed(self, game: Any, solver: Solver) -> mg.Solution[Any] | None:
        """The solution of `--resume`, if there is one."""
        if self.resume is None:
            return None
        if self.resume == self.checkpoint and not self.resume.exists():
            return None
        return inputs.resumed(self.resume, game, solver)

    def _distances(
        self, exact: inputs.Loaded, plain: Solver, solver: Solver, solution: mg.Solution[Any]
    ) -> list[tuple[str, str]]:
        """Rows of the table: how far from equilibrium the run ended, in the game without noise."""
        rows = [("duality gap", f"{solution.gap:.3g} of the {_answer(solver)}")]
        if "iterate_gap" in solution.trace:
            rows.append(("", f"{float(solution.trace['iterate_gap'][-1]):.3g} of the {LAST}"))
        alpha = getattr(plain, "alpha", None)
        # A move of the magnet changes the regularised game. `Ema` moves, and never sets `moved_at`.
        still = not solution.state.moved_at and not isinstance(
            getattr(plain, "magnet", None), mg.Ema
        )
        if isinstance(alpha, float) and alpha > 0.0 and still:
            left = exact.regularised_gap(solution.iterate, solution.state.magnet, alpha)
            rows.append(("", f"{float(left):.3g} of the last iterate in the regularised game"))
        if "average_gap" in solution.trace:
            average = float(solution.trace["average_gap"][-1])
            rows.append(("", f"{average:.3g} of the average iterate"))
        if self.tol:
            verdict = "reached" if solution.converged else "not reached"
            rows.append(("tolerance", f"{self.tol:g}, {verdict}"))
        elif solution.converged:
            rows.append(("tolerance", "stopped at a gap of rounding size; `--tol 0` goes on"))
        return rows


class Beside:
    """A solver that keeps an average and answers with its last iterate all the same."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    # Files name the solver inside, as they did before solvers declared what they answer with.
    def __repr__(self) -> str:
        return spell(self.solver)

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        """A step of the solver."""
        return self.solver.step(game, state, rng)


def _answer(solver: Solver) -> str:
    """What the policy is that a solver answers with."""
    if isinstance(solver, mg.Averaged):
        return "average"
    if isinstance(solver, mg.Restarted) and isinstance(solver.solver, mg.Averaged):
        return "better of average and last iterate"
    return LAST


@dataclass(frozen=True)
class Export:
    """Write a game to a file of Gambit."""

    game: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GAME")]
    """A game, as for `solve`."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The .efg or .nfg file to write."""
    kind: meaning.Kind = "auto"
    """What a table holds: payoffs, preferences, or how often the row beat the column."""

    def run(self) -> str:
        """Write the file; returns the line that is printed."""
        inputs.require_writable("FILE", self.file, (".efg", ".nfg"))
        name, game = inputs.load(self.game, self.kind)
        if self.file.suffix == ".efg":
            text = mg.to_efg(game, self.game)
        elif isinstance(game, mg.SequenceFormGame):
            raise ValueError(f"{self.game!r} is a tree, which is written to a file .efg.")
        else:
            text = mg.to_nfg(game, self.game)
        write_bytes(self.file, text.encode())
        return f"{name}: written to {self.file}"


@dataclass(frozen=True)
class List:
    """List the games and solvers."""

    what: Annotated[
        Literal["games", "solvers", "all"], tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")
    ] = "all"
    """`games`, `solvers` or `all`."""

    def run(self) -> str:
        """Names and descriptions, a line each."""
        games = list(catalogue.describe().items())
        solvers = [(name, summary(constructor)) for name, (_, constructor, _) in SOLVERS.items()]
        parts = {"games": games, "solvers": solvers}
        chosen = parts if self.what == "all" else {self.what: parts[self.what]}
        lines = [[title, *tables.listing(rows)] for title, rows in chosen.items()]
        if "games" in chosen:
            wide = max(get_terminal_size().columns, tables.NARROWEST)
            lines[0] += wrap(ELSEWHERE, wide, initial_indent="  ", subsequent_indent="  ")
        return "\n\n".join("\n".join(part) for part in lines)
