"""The records of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.protocol import Array
from mpo_games.table import Table


@dataclass(frozen=True, slots=True)
class Trace:
    """The records of a run: columns of equal length, among them `step` and `evaluations`.

    A column is `(records,)`, or `(records, batch...)` for a batch of games. `trace["gap"]` is one
    column; `KeyError` for a metric that was not recorded.
    """

    columns: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise KeyError(f"The trace has no column {name!r}; it has {', '.join(self.columns)}.")
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

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
