"""The command `rank`: models by their battles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

import mpo_games as mg
from mpo_games.cli import inputs
from mpo_games.cli.pictures import ENDINGS, write
from mpo_games.games.battles import Battles
from mpo_games.written import counted

RANK_HELP = """Rank models by their battles: equilibrium, Bradley-Terry, win rates.

FILE is a .csv, .tsv or .npy file. It holds battles, one a row, in the columns model_a, model_b and
winner, as Chatbot Arena has them: the winner is model_a, model_b, tie or tie (bothbad), or the name
of the model. Or it holds a square table: how often the model of the row beat that of the column, or
the share of their battles that it won, with an empty cell for a pair that never met.

examples:
  mpo-games rank battles.csv
  mpo-games rank battles.csv --plot ranking.pdf
  mpo-games rank wins.csv --kind wins --resamples 0
"""


@dataclass(frozen=True)
class Rank:
    """Rank models by their battles."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The battles, wins or preferences."""
    kind: Literal["auto", "battles", "wins", "preference"] = "auto"
    """What the file holds: `auto` looks at it."""
    prior: float = 0.0
    """Pseudo-wins for either side of each pair in the equilibrium, against small numbers."""
    resamples: int = 1000
    """How often the battles are drawn anew for the intervals (bootstrap); 0 for none."""
    level: float = 0.95
    """The share of the resamples that an interval covers."""
    seed: int = 0
    """The seed of the resamples."""
    table: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.csv", help_behavior_hint="(optional)")
    ] = None
    """Write the ranking with all digits."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = (
        None
    )
    """Draw the win rates of all pairs and the rankings, to a .png, .svg or .pdf file."""

    def run(self) -> str:
        """Read the file, rank the models, draw; returns the table and the findings."""
        inputs.require_writable("--plot", self.plot, ENDINGS)
        inputs.require_writable("--table", self.table, (".csv",))
        found, how = inputs.ranked(str(self.file), self.kind)
        ranking = mg.rank(
            found, prior=self.prior, resamples=self.resamples, level=self.level, seed=self.seed
        )
        size = f"{self.file}: {_size(found, len(ranking.models))}"
        told = "\n".join(filter(None, [size, how])) + f"\n\n{ranking}"
        if self.table is not None:
            told += f"\ntable  {ranking.table().to_csv(self.table)}"
        if self.plot is not None:
            write(ranking.plot, self.plot)
            told += f"\nplot  {self.plot}"
        return told


def _size(found: Battles, models: int) -> str:
    """What was read, so that a misreading is seen."""
    if not found.counted:
        return f"preferences between {models} models"
    battles, ties = (float(np.triu(table).sum()) for table in (found.played, found.ties))
    return f"{counted(battles, 'battle')} of {models} models, {ties:,g} of them ties"
