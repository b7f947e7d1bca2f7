"""Independent calls side by side by joblib, with a sign of life."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

SECONDS = 10.0
"""Between two lines of progress, where there is no terminal that shows a bar."""


def finished(
    function: Callable[..., T], calls: Sequence[Sequence[Any]], workers: int | None = None
) -> Iterator[tuple[int, T]]:
    """Yield `(i, function(*calls[i]))` as soon as it is there, in whatever order.

    `workers` is joblib's `n_jobs`: how many calls run at once, -1 for one on each CPU. None is what
    `joblib.parallel_config` says, and else 1. A caller that stops early ends the calls that run.
    """
    import joblib

    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    tasks = (joblib.delayed(_numbered)(function, i, call) for i, call in enumerate(calls))
    yield from parallel(tasks)


def _numbered(function: Callable[..., T], i: int, call: Sequence[Any]) -> tuple[int, T]:
    return i, function(*call)


class Progress:
    """A bar on a terminal; elsewhere a line on standard error every `SECONDS`."""

    def __init__(self, total: int, done: int = 0, *, what: str = "runs", show: bool = True) -> None:
        self.total, self.done, self.what, self.show = total, done, what, show
        self.began = self.said = monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.show and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, initial=self.done, unit=f" {self.what}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self) -> None:
        """One more is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif self.show and monotonic() - self.said >= SECONDS:
            self.said = monotonic()
            spent = self.said - self.began
            print(f"{self.done} of {self.total} {self.what}, {spent:.0f} s", file=sys.stderr)
