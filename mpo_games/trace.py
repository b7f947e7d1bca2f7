"""What a run recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mpo_games.protocol import Array


@dataclass(frozen=True, slots=True)
class Trace:
    """What was recorded: columns of equal length, among them `step` and `evaluations`.

    A column has shape `(records,)`, or `(records, batch...)` for a batch of games.
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
        return len(self.columns["step"])
