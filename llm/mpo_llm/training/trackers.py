"""Trackers, such as TensorBoard: programs that draw the metrics of a run, by Accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def require_trackers(names: Sequence[str]) -> None:
    """`ValueError` for a tracker that Accelerate does not know, or whose package is missing."""
    # Accelerate itself leaves out a tracker that is not installed, without a word.
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = set(LOGGER_TYPE_TO_CLASS)
    here = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name == "all":  # Accelerate's word for all that are installed
            continue
        if name not in known:
            raise ValueError(
                f"`output.trackers`: there is no tracker {name!r}, only {', '.join(sorted(known))}."
            )
        if name not in here:
            # Packages are called as their trackers are.
            raise ValueError(
                f"`output.trackers`: the tracker {name!r} is not installed: pip install {name}, or "
                "leave it out."
            )


@dataclass(frozen=True, slots=True)
class Trackers:
    """The trackers of a run. What one of them raises is a `ValueError` of one sentence."""

    accelerator: Any
    """Accelerate's `Accelerator`, which holds them."""
    names: Sequence[str]
    """Their names, `output.trackers`."""

    def start(self) -> None:
        """Begin to track."""
        if self.names:
            with self._said():
                self.accelerator.init_trackers("tracker")

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Tell all trackers the metrics of a step."""
        with self._said():
            self.accelerator.log(dict(row), step=step)

    def end(self) -> None:
        """Let all trackers write what they hold."""
        with self._said():
            self.accelerator.end_training()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        # Each tracker has errors of its own. Accelerate has some, too, when nobody tracks.
        except Exception as error:
            if not self.names:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
            raise ValueError(
                f"A tracker of `output.trackers` ({', '.join(self.names)}) failed: {reason}."
            ) from error
