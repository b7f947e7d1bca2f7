"""The end of a run by a signal."""

from __future__ import annotations

from typing import Any


class Interrupted(Exception):
    """A signal asked the run to stop, and it has saved a checkpoint."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes of a sweep send it to the one that waits for them.
        return type(self), (self.signum, str(self))
