"""The outcome of `compare`: gaps of every run at the same evaluations, as a table and a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.checks import is_number
from mpo_games.labelled import shown
from mpo_games.protocol import Array
from mpo_games.table import Table
from mpo_games.trace import Trace
from mpo_games.written import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTILES = {"median": 0.5, "10 %": 0.1, "90 %": 0.9, "worst": 1.0}
"""The columns of the table: quantiles over games and seeds."""

MOST = 15
"""The most rows that a comparison prints."""

FAILED = 3
"""The most solvers whose failures it explains."""


@dataclass(frozen=True, slots=True)
class Run:
    """A solver on a game with a seed."""

    solver: str
    game: str
    seed: int
    setting: Mapping[str, float]
    """The setting of a `Method` or baseline, in units of the game's payoffs; or nothing."""
    gaps: Sequence[Sequence[float]]
    """The duality gap at each mark, of each game where the game is a batch; or nothing."""
    seconds: float
    """Seconds that the run took, with what it recorded."""
    failure: str = ""
    """Why there are no gaps; empty where there are."""

    def __repr__(self) -> str:
        end = self.failure or f"gap {np.max(self.gaps[-1]):.2g}"
        return f"{self.solver} on {self.game}, seed {self.seed}: {end}"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Gaps of solvers on games, all read at the same evaluations.

    Gaps are duality gaps in each game's own payoffs. Quantiles are over games and seeds.

    >>> compare({"MD": MirrorDescent(0.3), "MPO": MPO(0.3, 0.1, 50)}, "comal", 1000).solvers
    ('MPO', 'MD')
    """

    runs: tuple[Run, ...]
    """Every run, those that failed too."""
    marks: Array
    """The evaluations at which gaps were read; the last is the budget."""
    own: tuple[str, ...]
    """The solvers that are no baselines."""
    notes: tuple[str, ...]
    """What was left out, and why."""

    @property
    def solvers(self) -> tuple[str, ...]:
        """The solvers that have runs, best median first.

        Those that finished fewer runs than others are behind these: they had other games.
        """
        return tuple(self._ranked())

    @property
    def games(self) -> tuple[str, ...]:
        """The games, in the order in which they were given."""
        return tuple(dict.fromkeys(run.game for run in self.runs))

    @property
    def failures(self) -> tuple[Run, ...]:
        """The runs that have no gaps."""
        return tuple(run for run in self.runs if run.failure)

    def gaps(self, solver: str, game: str | None = None) -> Array:
        """The gaps of a solver, `(marks, runs)`, on one game or on all.

        `ValueError` for a name that has no runs.
        """
        for what, name, known in (("solver", solver, self.solvers), ("game", game, self.games)):
            if name is not None and name not in known:
                raise ValueError(f"`{what}` must be one of {', '.join(known)}, got {shown(name)}.")
        found = [
            np.asarray(run.gaps, dtype=np.float64)
            for run in self.runs
            if run.solver == solver and not run.failure and game in (None, run.game)
        ]
        return np.concatenate(found, axis=1) if found else np.empty((len(self.marks), 0))

    def trace(self, solver: str, game: str | None = None) -> Trace:
        """The same as a trace, which `mpo_games.plot.convergence` draws."""
        gaps = self.gaps(solver, game)
        return Trace({"step": self.marks, "evaluations": self.marks, "gap": gaps})

    def _ranked(self, game: str | None = None, mark: int = -1) -> dict[str, Array]:
        """The gaps of each solver at a mark, the solver with the best median first."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            gaps = found.setdefault(run.solver, [])
            if not run.failure and game in (None, run.game):
                gaps.extend(run.gaps[mark])
        most = max(map(len, found.values()), default=0)

        def rank(name: str) -> tuple[float, ...]:
            gaps = found[name]
            quantiles = np.quantile(gaps, (0.5, 0.9, 1.0)) if gaps else ()
            return most - len(gaps), *quantiles

        return {name: np.array(found[name]) for name in sorted(found, key=rank)}

    def table(self, at: float | None = None) -> Table:
        """A row for each solver, ranked as `solvers`: quantiles of the gap, runs, failed runs.

        `at` says after how many evaluations; by default after all. Gaps are known at the `marks`
        only: between two of them the table shows the earlier one, and says so. `ValueError` before
        the first mark and beyond the budget, where nothing is known.
        """
        first, budget = self.marks[0], self.marks[-1]
        end = budget if at is None else at
        notes: tuple[str, ...] = ()
        if not (is_number(end) and first <= end <= budget):
            raise ValueError(
                f"`at` must lie between {first:g} and {budget:g} evaluations, the first and the "
                f"last mark, got {shown(at)}."
            )
        # The last mark that is not beyond `at`.
        mark = int(np.searchsorted(self.marks, end, "right")) - 1
        if self.marks[mark] != end:
            notes = (f"Gaps after {self.marks[mark]:g} evaluations, the last mark before {end:g}.",)
        rows: list[tuple[Any, ...]] = []
        for name, last in self._ranked(mark=mark).items():
            cells = [
                float(np.quantile(last, q)) if last.size else np.inf for q in QUANTILES.values()
            ]
            failed = sum(run.solver == name for run in self.failures)
            rows.append((name, *cells, int(last.size), failed))
        formats = dict.fromkeys(QUANTILES, ".2g")
        return Table(("solver", *QUANTILES, "runs", "failed"), tuple(rows), formats, notes)

    def sentences(self) -> list[str]:
        """What the table does not say: which solvers were left out, which runs failed and why."""
        found = {run.solver: run for run in reversed(self.failures)}
        failed = [
            f"{name} failed, on {run.game} with seed {run.seed} for example: {run.failure}"
            for name, run in list(found.items())[:FAILED]
        ]
        if len(found) > FAILED:
            failed.append(f"{len(found) - FAILED} more solvers failed; .failures has all runs")
        return [*self.notes, *failed]

    def _shown(self) -> Table:
        """The table with the best rivals only, so that your own solvers are always in it."""
        whole = self.table()
        left = MOST - sum(row["solver"] in self.own for row in whole)
        rivals = [row["solver"] for row in whole if row["solver"] not in self.own][: max(left, 0)]
        names = {*rivals, *self.own}
        rows = tuple(row for row in whole.rows if row[0] in names)
        return Table(whole.columns, rows, whole.formats)

    def _head(self) -> str:
        counts = {
            "solver": len(self.solvers),
            "game": len(self.games),
            "seed": len({run.seed for run in self.runs}),
        }
        said = ", ".join(counted(n, what) for what, n in counts.items())
        return f"Duality gap after {self.marks[-1]:g} evaluations: {said}"

    def __repr__(self) -> str:
        table = self._shown()
        cut = len(self.solvers) - len(table)
        more = [f"... and {cut} more; .table() has all"] if cut else []
        said = [fill(sentence, 110) for sentence in self.sentences()]
        return "\n".join([self._head(), str(table), *more, *said])

    def _repr_html_(self) -> str:
        said = [self._head(), self._shown()._repr_html_(), *map(escape, self.sentences())]
        return "".join(f"<p>{line}</p>" if not line.startswith("<table") else line for line in said)

    def to_pandas(self) -> Any:
        """A `DataFrame` with a row for every run and mark, to group and draw as you like.

        `ImportError` without pandas.
        """
        rows = [
            (run.solver, run.game, run.seed, float(mark), float(np.max(gaps)))
            for run in self.runs
            for mark, gaps in zip(self.marks, run.gaps, strict=False)
        ]
        return Table(("solver", "game", "seed", "evaluations", "gap"), tuple(rows)).to_pandas()

    def plot(
        self,
        game: str | None = None,
        *,
        ax: Axes | None = None,
        bound: Callable[[Array], Array] | None = None,
        named: int = 6,
        **options: Any,
    ) -> Any:
        """Draw the median gap of every solver and the band of 80 % of the runs; returns the axes.

        Your own solvers are thick, in colours that no baseline has. Beside them the `named` best
        baselines have their colours and names, and the others are grey.

        Args:
            game: one of the games; by default the runs of all.
            ax: matplotlib axes; new ones by default.
            bound: a function of the evaluations that is drawn dashed, such as a theorem's.
            named: how many baselines have a name.
            options: what else `mpo_games.plot.convergence` takes.

        `ValueError` for a game that was not played, and where no run came to its end.
        """
        # Matplotlib takes longer to import than most runs take.
        from mpo_games.plot import convergence, own_looks, style, theme

        if game is not None and game not in self.games:
            raise ValueError(f"`game` must be one of {', '.join(self.games)}, got {shown(game)}.")
        shown_ones = [name for name, gaps in self._ranked(game).items() if gaps.size]
        if not shown_ones:
            raise ValueError("There is nothing to draw: no run came to its end.")
        rivals = [name for name in shown_ones if name not in self.own]
        mine = [name for name in shown_ones if name in self.own]
        faint = rivals[named:]
        # The last drawn is on top.
        order = [*reversed(faint), *reversed(rivals[:named]), *mine]
        drawn = convergence(
            {name: self.trace(name, game) for name in order},
            ax=ax,
            bound=bound,
            # A name that has a look keeps it.
            looks=own_looks([name for name in mine if style(name) is None]),
            faint=faint,
            **options,
        )
        if len(order) > 1:
            with theme():
                one = game or (self.games[0] if len(self.games) == 1 else "")
                drawn.set_title(one or self._median_of())
        return drawn

    def _median_of(self) -> str:
        seeds = len({run.seed for run in self.runs})
        return f"median of {len(self.games)} games" + (f" and {seeds} seeds" if seeds > 1 else "")
