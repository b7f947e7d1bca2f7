"""`make kills` in short: runs that are killed or interrupted go on to the same bits."""

from __future__ import annotations

import os
import signal
import sys

import kills
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")


@pytest.mark.parametrize("case", [kills.sampled, kills.magnet], ids=["sampled", "magnet"])
def test_a_killed_run_goes_on_to_the_same_bits(case: kills.Maker) -> None:
    found = kills.core(case(budget=600), 3, signal.SIGKILL, np.random.default_rng(0))
    assert (found.hit, found.equal) == (3, 3)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_within_a_kernel_leaves_a_checkpoint(signum: signal.Signals) -> None:
    """Each process ends as the signal says, and not by a `SystemError`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = kills.core(kills.kernels(200, 400), 3, signum, np.random.default_rng(0))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (found.hit, found.saved, found.equal) == (3, 3, 3)


@pytest.mark.slow
def test_a_killed_training_run_goes_on_to_the_same_bits() -> None:
    pytest.importorskip("torch")
    path = list(sys.path)
    try:
        found = kills.training(2, np.random.default_rng(0), steps=3)
    finally:
        sys.path[:] = path
    assert (found.hit, found.equal) == (2, 2)
