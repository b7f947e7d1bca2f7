"""What any input may lead to: a result without NaN, or a sentence. Soon, and in little memory."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, settings

import mpo_games as mg

T = TypeVar("T")

LONGEST, LARGEST = 10, 2 * 2**30
"""Seconds of this process, and bytes of growth, that no input may take."""

ASLEEP = 60
"""Seconds on the clock that no input may take. Other processes may hold the machine."""

MORE = int(os.environ.get("FUZZ", "0"))
"""The factor of `make fuzz`; 0 in the test suite."""

REFUSALS = (ValueError, mg.exact.CertificateError)
"""What may be raised. An oracle that cannot certify its answer says so by an error of its own."""

SENTENCE = re.compile(r"[A-Z`'\"(0-9.\-].*[.?]", re.S)

counted = {"results": 0, "sentences": 0}
"""Over all tests of this process."""


def inputs(count: int) -> settings:
    """Settings for a test: a third of `count` inputs in the suite, always the same ones; in
    `make fuzz` `count` times `FUZZ`, others in every run."""
    return settings(
        max_examples=count * MORE if MORE else max(20, count // 3),
        derandomize=not MORE,
        deadline=None,
        database=None,
        report_multiple_bugs=bool(MORE),
        suppress_health_check=list(HealthCheck),
    )


def tried(call: Callable[[], T]) -> T | None:
    """The result of `call`, checked; None if it was refused in a sentence."""
    try:
        # Numbers that overflow are found by their results, and refused.
        with _bounded(), np.errstate(all="ignore"):
            found = call()
    except REFUSALS as error:
        text = str(error)
        assert SENTENCE.fullmatch(text), f"not a sentence: {text!r}"
        assert "\n" not in text, f"more than a line: {text!r}"
        counted["sentences"] += 1
        return None
    require_numbers(found)
    counted["results"] += 1
    return found


def require_numbers(found: Any) -> None:
    """No NaN in an array, a float, a policy, or a sequence of these."""
    found = getattr(found, "coordinates", found)
    if isinstance(found, float | np.ndarray) and np.asarray(found).dtype.kind == "f":
        assert not np.isnan(found).any(), f"NaN in {found!r}"
    elif isinstance(found, tuple | list):
        for each in found:
            require_numbers(each)


class Hang(Exception):
    """A call took longer than `LONGEST`."""


@contextmanager
def _bounded() -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise Hang(f"no answer in {LONGEST} s")

    before = {kind: signal.signal(kind, ring) for kind in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    signal.alarm(ASLEEP)
    peak = _peak()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)
    assert _peak() - peak < LARGEST, f"{(_peak() - peak) / 2**30:.1f} GiB more than before"


def _peak() -> int:
    """The largest memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
