"""The outcome of a run, and how it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpo_games.protocol import State
from mpo_llm.training.comparison import Comparison
from mpo_llm.training.played import Played
from mpo_llm.training.progress import duration


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run."""

    state: State[Any]
    """The last state."""
    reached: str
    """The limit of the budget that ended the run."""
    counts: Mapping[str, int]
    """The amounts spent, by the names of a budget's limits."""
    seconds: Mapping[str, float]
    """Seconds by what they were spent on."""
    saved: Path
    """The last checkpoint."""
    processes: int
    """How many processes shared the work."""
    sharded: bool
    """Whether they shared the weights as well."""
    changes: Sequence[Mapping[str, Any]] = ()
    """The changes that were accepted when the run was resumed: `step`, `name`, and the fingerprints
    `before` and `after`."""
    comparison: Comparison | Played | None = None
    """The last policy beside the start, if the run was `attended`."""

    def __str__(self) -> str:
        spent = ", ".join(f"{n.replace('_', ' ')} {c:,}" for n, c in self.counts.items())
        # A run whose budget is spent from the start has no seconds.
        total = sum(self.seconds.values()) or 1.0
        where = ", ".join(f"{name} {s / total:.0%}" for name, s in self.seconds.items())
        return "\n".join(
            [
                f"ended by  budget.{self.reached}",
                f"run by    {self.processes} {'FSDP ' if self.sharded else ''}processes"
                if self.processes > 1
                else "run by    1 process",
                f"spent     {spent}",
                f"time      {duration(total)}: {where}",
                *(f"changed   {c['name']}, accepted at step {c['step']}" for c in self.changes),
                f"saved     {self.saved}",
            ]
        )
