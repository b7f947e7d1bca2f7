"""A run says once that its threads wait for cores, and only where that is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from mpo_llm.training import contention
from mpo_llm.training.contention import Contention
from mpo_llm.training.train import train


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def steps(*spent: tuple[float, float]) -> list[str | None]:
    """What is said after each step of these wall-clock and processor seconds."""
    wall, processor = Clock(), Clock()
    watched = Contention(wall, processor)
    said = []
    for wall_seconds, processor_seconds in spent:
        with watched.measured():
            wall.now += wall_seconds
            processor.now += processor_seconds
        # What happens between two steps does not count.
        wall.now += 1000.0
        said.append(watched.message())
    return said


def test_it_is_said_once() -> None:
    """A step that was seen: 291 s instead of 11, on two threads."""
    first, *others = steps((291.0, 40.0), (291.0, 40.0), (291.0, 1.0))
    assert first is not None
    assert "291 s, but only 40 s of processor time" in first
    assert others == [None, None]


@pytest.mark.parametrize(
    ("wall", "processor"),
    [
        (600.0, 600.0),  # one thread, undisturbed
        (600.0, 1200.0),  # two threads, undisturbed
        (600.0, 150.0),  # a core shared by four: exactly the limit
        (29.0, 1.0),  # too short to mean something
    ],
)
def test_it_is_not_said(wall: float, processor: float) -> None:
    assert steps((wall, processor)) == [None]


def test_steps_add_up() -> None:
    said = steps((20.0, 2.0), (20.0, 2.0))
    assert said[0] is None
    assert said[1] is not None
    assert "40 s, but only 4 s" in said[1]


def test_it_names_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found += steps((100.0, 5.0))
    one, two = found
    assert one is not None
    assert two is not None
    assert "OMP_NUM_THREADS" not in one
    assert "The 2 threads of this run wait for each other: set OMP_NUM_THREADS=1" in two


def test_a_failed_step_counts() -> None:
    clock = Clock()
    watched = Contention(clock, lambda: 0.0)

    def fail() -> None:
        clock.now += 50.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), watched.measured():
        fail()
    assert watched.wall == 50.0


def test_train_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With limits of 0 every run has waited."""
    monkeypatch.setattr(contention, "LEAST", 0.0)
    monkeypatch.setattr(contention, "MANY", 0.0)
    with pytest.warns(UserWarning, match="other processes keep the cores busy") as said:
        train(tiny.config(tmp_path, budget={"steps": 3}))
    assert len(said) == 1
