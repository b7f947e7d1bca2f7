"""The records of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mpo_games.protocol import Array


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

    def __len__(self) -> int:
        # The number of records, and not of columns: every run records `step`.
        return len(self.columns["step"])
