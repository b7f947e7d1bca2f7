"""The files of a run as it goes, records and checkpoints, on a disk that may be full."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from mpo_llm.networks.processes import Processes
from mpo_llm.training import checkpoint
from mpo_llm.training.checkpoint import Checkpoint
from mpo_llm.training.journal import Journal


@dataclass(slots=True)
class Saver:
    """Writes what a run has to keep. If the disk refuses, a warning says so and the run goes on."""

    folder: Path
    """The run's folder."""
    keep: int | None
    """How many checkpoints are kept; None is all."""
    processes: Processes
    whole: Checkpoint | None = None
    """The run after the last step that has been recorded: what a checkpoint saves."""
    saved: int | None = None
    """The step of the last checkpoint on the disk; None without any."""
    journal: Journal = field(init=False)
    """The records, `metrics.jsonl` and `samples.jsonl`."""
    refused: bool = False
    """Whether the disk refused the last write, of which a warning has told."""

    def __post_init__(self) -> None:
        self.journal = Journal(self.folder)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.processes.rank == 0

    def record(self) -> None:
        """Write the lines that wait in the journal."""
        try:
            self.journal.write()
        except OSError as error:
            self._tell(f"Cannot write the records: {error}")

    def save(self, *, ends: bool = False) -> str | None:
        """Save a checkpoint, unless it is there; the reason if the disk refuses.

        All processes must call this. If the run `ends` here, the caller tells of the reason.
        """
        assert self.whole is not None
        step = self.whole.state.step
        if step == self.saved:
            return None
        failed = None
        try:
            # First, because a run that is resumed counts on the records of all its steps.
            if self.writes:
                self.journal.sync()
        except OSError as error:
            failed = f"Cannot write the records: {error}"
        try:
            # All processes take part, since they may have to gather weights.
            writes = self.writes and failed is None
            checkpoint.save(self.folder / "checkpoints", self.whole, self.keep, writes=writes)
        except OSError as error:
            failed = str(error)
        # A barrier: no process goes on, and perhaps ends, before the checkpoint is written.
        failed = next((reason for reason in self.processes.gather(failed) if reason), None)
        if failed is None:
            self.saved = step
        if not ends:
            self._tell(failed)
        return failed

    def rescue(self, error: BaseException) -> None:
        """Save the last whole step because of `error`, which gets a note of what is saved."""
        whole = self.whole
        # Before the first step there is nothing to save.
        if not self.writes or whole is None or (self.saved is None and whole.state.step == 0):
            return
        if whole.state.step != self.saved:
            if self.processes.size > 1 and whole.state.policy.network.sharded:
                error.add_note("The last steps are lost: a process has a part of the weights only.")
            else:
                # Nothing may hide the error that ends the run.
                try:
                    self.journal.sync()
                    checkpoint.save(self.folder / "checkpoints", whole, self.keep)
                    self.saved = whole.state.step
                except Exception as other:
                    error.add_note(f"The last steps could not be saved: {other}.")
        if self.saved is not None:
            error.add_note(f"Step {self.saved} is saved: go on with `--resume`.")

    def _tell(self, failed: str | None) -> None:
        """Warn of a disk that refuses, once until a checkpoint has been written."""
        if failed is not None and not self.refused and self.writes:
            warnings.warn(
                f"{failed}. The last checkpoint is kept, and the run goes on.",
                RuntimeWarning,
                stacklevel=3,
            )
        self.refused = failed is not None
