"""The file from which a run can go on: when `solve` writes it, and what happens if it cannot."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic

from mpo_games.atomic import require_writable
from mpo_games.checks import is_number
from mpo_games.labelled import shown
from mpo_games.protocol import P, State
from mpo_games.recording import Recorder
from mpo_games.solution import npz_path

SHARE = 20.0
"""Between two writes lies this many times the time of a write: 5 % of a run at most."""


class Checkpoints(Generic[P]):
    """Keeps the last whole state of a run, and writes it with all records so far to one file.

    `ValueError` unless the file can be written and `every`, in seconds, is at least 0.
    """

    def __init__(self, path: str | Path, every: float, recorder: Recorder[P]) -> None:
        if not (is_number(every) and every >= 0.0):
            raise ValueError(f"`checkpoint_every` must be at least 0 seconds, got {shown(every)}.")
        try:
            self.path = npz_path(path)
        except TypeError as error:
            raise ValueError(
                f"`checkpoint` must be the path of a file, got {type(path).__name__}."
            ) from error
        # Now, because hours of work must not end at a file that cannot be written.
        require_writable("checkpoint", self.path)
        self.every, self.recorder = every, recorder
        self.kept: tuple[State[P], Mapping[str, Any]] | None = None
        """The last whole state, and that of the generator."""
        self.tried = self.failed = False
        # Due after the first step, for the trial in `tick`.
        self.due = 0.0

    def tick(self) -> None:
        """What is due after a step: a write, or after the first step a trial without a file."""
        if self.tried or not self.every:
            self.write()
        else:
            # A state that cannot be saved is refused after its first step, not after hours.
            assert self.kept is not None
            self.recorder.solution(*self.kept).content()
            self.due = time.monotonic() + self.every
        self.tried = True

    def write(self) -> None:
        """Write the kept state; a disk that fails leaves the earlier file, and a warning."""
        began = time.monotonic()
        reason = self._failure()
        if reason is not None and not self.failed:
            _warn(
                f"The checkpoint {str(self.path)!r} cannot be written ({reason}): an earlier one "
                "is kept, and the run goes on."
            )
        # Said once, and again only after a write that went well.
        self.failed = reason is not None
        now = time.monotonic()
        # At 0 seconds a write after every step is what was asked for, whatever it takes.
        self.due = now + max(self.every, SHARE * (now - began)) if self.every else now

    def rescue(self, error: BaseException) -> None:
        """Write the kept state because of `error`, which gets a note if that fails."""
        # Nothing may hide the error that ends the run.
        try:
            reason = self._failure()
        except Exception as other:
            reason = str(other)
        if reason is not None:
            error.add_note(f"The checkpoint {str(self.path)!r} could not be written: {reason}.")

    def finish(self) -> None:
        """Write the kept state at the end; a warning if that fails."""
        reason = self._failure()
        if reason is not None:
            _warn(
                f"The checkpoint {str(self.path)!r} could not be written ({reason}): the end of "
                "the run is in the solution that is returned, and in no file."
            )

    def _failure(self) -> str | None:
        """Write the kept state; the reason if the disk or the memory does not suffice."""
        assert self.kept is not None
        try:
            self.recorder.solution(*self.kept).save(self.path)
        except (OSError, MemoryError) as error:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        return None


def _warn(sentence: str) -> None:
    """Warn, and on standard error where warnings are errors: these must not cost the run."""
    try:
        # The line that called `solve`.
        warnings.warn(sentence, RuntimeWarning, stacklevel=4)
    except RuntimeWarning:
        print(f"mpo-games: {sentence}", file=sys.stderr)
