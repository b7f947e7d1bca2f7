"""`njit` of Numba, whose cache on disk may fail in any way without an end of the program.

Numba refuses to define a function if it finds no folder for the cache, as in a container without a
writable home, and it raises if a file of the cache is damaged or the disk is full.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])


def njit(*, cache: bool = False, **options: Any) -> Callable[[F], F]:
    """`numba.njit(**options)`; with `cache` the compiled function is kept on disk if possible.

    If no folder can be written, a `RuntimeWarning` says so once, and every process compiles anew.
    """

    def compiled(function: F) -> F:
        dispatcher: Any = numba.njit(**options)(function)
        if cache:
            try:
                dispatcher._cache = _Forgiving(function)  # type: ignore[no-untyped-call, unused-ignore]
            except (RuntimeError, OSError):
                _say_that_nothing_is_kept()
        return cast(F, dispatcher)

    return compiled


class _Forgiving(FunctionCache):  # type: ignore[misc, unused-ignore]
    """A cache that counts a file that it cannot read or write as missing."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call, unused-ignore]
        # Whatever a damaged pickle raises.
        except Exception:
            self._begin_anew()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call, unused-ignore]
        except OSError:
            pass  # a full disk; the compiled function is in memory
        except Exception:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Replace the index, so that the next process does not meet the same damage."""
        with suppress(OSError):
            self.flush()  # type: ignore[no-untyped-call, unused-ignore]


@cache
def _say_that_nothing_is_kept() -> None:
    warnings.warn(
        "Compiled code cannot be kept on disk, so every process compiles anew: set "
        "NUMBA_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
