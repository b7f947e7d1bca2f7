"""Signals are obeyed between two steps, and pass on to whoever had them before."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from solutions import GAME, MPO

import mpo_games as mg
from mpo_games.interrupts import REPEAT, STOPS, Signals, unmasked, unmasking


@pytest.fixture
def heard() -> Any:
    """The signals that reach a handler of the user's, which returns."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: found.append(signum))
    yield found
    signal.signal(signal.SIGTERM, before)


def test_a_signal_waits_until_it_is_delivered(heard: list[int]) -> None:
    mine = signal.getsignal(signal.SIGTERM)
    with Signals(STOPS) as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (signals.asked, heard) == (signal.SIGTERM, [])
        signals.deliver()
        assert (signals.asked, heard) == (None, [signal.SIGTERM])
        signal.raise_signal(signal.SIGTERM)
    # What is noted when the context ends is not lost.
    assert heard == [signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) is mine


def test_a_second_ctrl_c_does_not_wait() -> None:
    with Signals(STOPS) as signals:
        signal.raise_signal(signal.SIGINT)
        # A launcher that repeats what the terminal has sent is no second wish.
        signal.raise_signal(signal.SIGINT)
        time.sleep(1.1 * REPEAT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signals.asked is None


def test_ignored_signals_and_handlers_of_others_stay() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Signals(STOPS) as signals:
            signal.raise_signal(signal.SIGTERM)
            assert signals.asked is None
            signal.signal(signal.SIGTERM, before)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_forked_process_is_ended_at_once() -> None:
    """As a pool ends its workers: a handler that only notes would let them live."""
    ready, begun = os.pipe()
    with Signals(STOPS):
        child = os.fork()
        if not child:
            os.write(begun, b"1")
            time.sleep(20.0)
            os._exit(0)
        # A signal within `fork` itself would be lost, whatever the handler.
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_run_goes_on_if_the_handler_returns(heard: list[int], tmp_path: Any) -> None:
    def ask(solution: mg.Solution) -> None:
        if solution.state.step == 8:
            signal.raise_signal(signal.SIGTERM)

    found = mg.solve(GAME, MPO, 20, callback=ask, checkpoint=tmp_path / "run")
    assert (found.state.step, heard) == (20, [signal.SIGTERM])


def test_a_run_within_a_run_passes_the_signal_on(tmp_path: Any) -> None:
    """The inner one saves and goes on, and the outer one ends between two of its steps."""

    def inner(game: Any, state: mg.State) -> float:
        def ask(solution: mg.Solution) -> None:
            if state.step == 8 and solution.state.step == 3:
                signal.raise_signal(signal.SIGINT)

        nested = mg.solve(GAME, MPO, 9, callback=ask, checkpoint=tmp_path / "inner")
        return float(nested.state.step)

    with pytest.raises(KeyboardInterrupt):
        mg.solve(GAME, MPO, 20, metrics={"inner": inner}, checkpoint=tmp_path / "outer")
    outer = mg.Solution.load(tmp_path / "outer", GAME)
    assert outer.trace["step"][-1] == 8
    assert (outer.trace["inner"] == 9.0).all()


def masked(cause: BaseException) -> SystemError:
    error = SystemError("<kernel> returned a result with an exception set")
    error.__cause__ = cause
    return error


def test_the_exception_behind_a_system_error_is_raised() -> None:
    stop = KeyboardInterrupt()
    assert unmasked(masked(masked(stop))) is stop
    other = SystemError("another")
    assert unmasked(other) is other

    class Kernel(type(GAME)):  # type: ignore[misc]
        def feedback(self, *args: Any, **options: Any) -> Any:
            raise masked(stop)

    game = Kernel(GAME.payoff)
    states = mg.iterate(game, MPO)
    next(states)
    for call in (lambda: next(states), lambda: mg.solve(game, MPO, 9), unmasking(game.feedback)):
        with pytest.raises(KeyboardInterrupt):
            call()
