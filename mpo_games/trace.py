"""The records of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.protocol import Array
from mpo_games.table import Table
from mpo_games.written import counted, plural


@dataclass(frozen=True, slots=True)
class Trace:
    """The records of a run: columns of equal length, among them `step` and `evaluations`.

    A column is `(records,)`, or `(records, batch...)` for a batch of games. `trace["gap"]` is one
    column; `KeyError` for a metric that was not recorded.

    >>> trace = solve(load('comal'), MMD(eta=0.3, alpha=0.1), 4, at=[0, 2, 4]).trace
    >>> print(trace.table())
    step  evaluations      gap
       0            0  0.06667
       2            2   0.0702
       4            4  0.07245
    """

    columns: Mapping[str, Array]
    """The numbers of every record, by the name of what was recorded."""

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise KeyError(f"The trace has no column {name!r}; it has {', '.join(self.columns)}.")
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __repr__(self) -> str:
        metrics = [name for name in self.columns if name not in ("step", "evaluations")]
        what = f"Trace: {counted(len(self), 'record')} of {', '.join(metrics) or 'nothing'}"
        if not len(self):
            return what
        ends = [f"{name} {np.max(self.columns[name][-1]):.4g}" for name in metrics]
        end = self.columns["evaluations"][-1]
        until = f" until {end:.10g} {plural(end, 'evaluation')}"
        return f"{what}{until}" + (f"; last: {', '.join(ends)}" if ends else "")

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def table(self) -> Table:
        """A line for each record; a column of a batch shows its worst game, the largest number."""
        columns = [np.asarray(column) for column in self.columns.values()]
        flat = [c.reshape(len(c), -1).max(axis=-1) if c.ndim > 1 else c for c in columns]
        return Table(tuple(self.columns), tuple(zip(*(c.tolist() for c in flat), strict=True)))

    def to_pandas(self) -> Any:
        """The records as a `DataFrame`, a batch as its worst game; `ImportError` without pandas."""
        return self.table().to_pandas()

    def __len__(self) -> int:
        # The number of records, and not of columns: every run records `step`.
        return len(self.columns["step"])
