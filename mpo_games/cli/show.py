"""The command `show`: what a saved solution holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mpo_games.cli import inputs, meaning, pictures, tables


@dataclass(frozen=True)
class Show:
    """Show a saved solution."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz")]
    """The file of --save or --checkpoint, or of `solution.save`."""
    game: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="GAME", help_behavior_hint="(optional)"),
    ] = None
    """Its game, as for `solve`, if the file does not name it: that of --checkpoint does not."""
    kind: meaning.Kind = "auto"
    """What a table holds, if GAME is one."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = (
        None
    )
    """Draw the gap against the evaluations, to a .png, .svg or .pdf file."""
    strategy: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.csv", help_behavior_hint="(optional)")
    ] = None
    """Write the strategy: a row for each action at each information state, with their names."""

    def run(self) -> str:
        """Load the solution and write the files of the options; returns its summary and table."""
        inputs.require_writable("--plot", self.plot, pictures.ENDINGS)
        inputs.require_writable("--strategy", self.strategy, (".csv",))
        name, solution = inputs.saved(self.file, self.game, self.kind)
        rows = [("game", name), ("file", str(self.file))]
        if self.plot is not None:
            source = solution.provenance.get("source", {})
            label = str(source.get("solver", "")) if isinstance(source, dict) else ""
            pictures.write(lambda: pictures.gap(solution, label), self.plot)
            rows.append(("plot", str(self.plot)))
        if self.strategy is not None:
            solution.table().to_csv(self.strategy)
            rows.append(("strategy", str(self.strategy)))
        strategy = tables.listed(solution.table())
        return "\n\n".join(["\n".join(tables.aligned(rows)), str(solution.summary()), strategy])
