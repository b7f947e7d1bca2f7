"""Signals that ask a run to stop: noted in the midst of a step, obeyed between two steps.

A handler that raises within a compiled kernel does harm: Numba answers with a `SystemError`, and
Python drops what is raised while it deletes an object. So a loop lets `Signals` note the signal.
Where there is no loop, `unmasked` finds the exception behind the `SystemError`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, Self, TypeVar

T = TypeVar("T")
A = ParamSpec("A")

CTRL_C = ("SIGINT",)
"""The signal of a user who waits."""

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""The signals of users, of schedulers and of a terminal that closes."""

REPEAT = 0.25
"""Seconds. A launcher passes Ctrl-C on to processes that have it already: a signal this soon after
the first is no second wish."""


class Signals:
    """Within this context the first signal is only noted, in `asked`, until `deliver` passes it on.

    A loop looks at `asked` between two steps, saves, and calls `deliver`. This does what the signal
    would have done without the context: it calls the earlier handler, which may return, or ends the
    process. A second SIGINT is passed on at once. On exit the earlier handlers are back, and a
    signal that is still noted is passed on.

    Ignored signals stay ignored. In threads other than the main one nothing is noted, because
    Python runs handlers in the main thread alone.
    """

    asked: int | None = None
    """The number of the signal that asks to stop, or None."""

    def __init__(self, names: tuple[str, ...]) -> None:
        # Windows has no SIGHUP.
        self._signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before: dict[int, Any] = {}
        self._since = 0.0
        self._process = 0

    def __enter__(self) -> Self:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals:
                before = signal.getsignal(signum)
                # None is a handler of C code, which could not be put back.
                if before not in (None, signal.SIG_IGN):
                    self._before[signum] = before
                    signal.signal(signum, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process = 0
        for signum, before in self._before.items():
            # Code within the context may have put a handler of its own there, to stay.
            if signal.getsignal(signum) == self._note:
                signal.signal(signum, before)
        if self.asked is not None:
            self.deliver()

    def deliver(self) -> None:
        """Pass the noted signal on; returns only if the earlier handler does."""
        if self.asked is not None:
            signum, self.asked = self.asked, None
            self._pass_on(signum, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # No loop looks at `asked` after the context, or in a process that was forked within it.
        if os.getpid() != self._process:
            self._pass_on(signum, frame)
        elif self.asked is None:
            self.asked, self._since = signum, time.monotonic()
        elif signum == signal.SIGINT and time.monotonic() - self._since >= REPEAT:
            first, self.asked = self.asked, None
            self._pass_on(signum, frame)
            # The earlier handler has returned, so the first signal is still to be passed on.
            self.asked = first

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        before = self._before[signum]
        if callable(before):
            before(signum, frame)
        else:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


def unmasked(error: BaseException) -> BaseException:
    """The exception behind a `SystemError`, such as `KeyboardInterrupt`; `error` itself if none is.

    If a signal handler raises while a compiled kernel returns, Python reports "returned a result
    with an exception set" and keeps the exception as the cause.
    """
    found: BaseException = error
    # The text, because other code may raise a `SystemError` from an error of its own.
    while isinstance(found, SystemError) and str(found).endswith("with an exception set"):
        if found.__cause__ is None:
            break
        found = found.__cause__
    return found


def unmasking(function: Callable[A, T]) -> Callable[A, T]:
    """The function, from which an interrupt comes out as what it is (see `unmasked`)."""

    @wraps(function)
    def call(*args: A.args, **kwargs: A.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except SystemError as error:
            raise unmasked(error) from None

    return call
