"""Games, solvers and policies of a user's own, with no more methods than a run asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg

INSIDE = mg.MatrixGame([[0.0, 1.0], [2.0, 0.0], [0.5, 0.5]])
MPO = mg.MPO(0.3, 0.1, 5)


class OnlyFeedback:
    """A game without a start and without a number of players."""

    def __init__(self, game: Any = INSIDE) -> None:
        self.inside = game

    def feedback(self, policy: Any, opponent: Any = None, *, player: Any = None, rng: Any = None):
        return self.inside.feedback(policy, opponent, player=player)


class WithStart(OnlyFeedback):
    """The same with a start."""

    def initial_policy(self) -> Any:
        return self.inside.initial_policy()


class WithGap(WithStart):
    """The same with a duality gap."""

    def duality_gap(self, policy: Any) -> Any:
        return self.inside.duality_gap(policy)


class Forwarding:
    """A game that has no method itself: it forwards them."""

    def __init__(self, game: Any) -> None:
        self.inside = game

    def __getattr__(self, name: str) -> Any:
        if name == "inside":
            raise AttributeError(name)
        return getattr(self.inside, name)


@pytest.mark.parametrize("game", [WithStart(), WithGap(), Forwarding(INSIDE)])
def test_a_game_needs_what_the_solver_asks_for(game: Any) -> None:
    solution = mg.solve(game, MPO, 40)
    np.testing.assert_array_equal(
        solution.policy.coordinates, mg.solve(INSIDE, MPO, 40).policy.coordinates
    )
    assert ("gap" in solution.trace) == (type(game) is not WithStart)


def test_a_game_without_feedback_is_none() -> None:
    for bad in (WithGap, "comal", None, object()):
        with pytest.raises(ValueError, match="`game` must be a game"):
            mg.solve(bad, MPO, 40)


@dataclass(frozen=True)
class Point:
    """A policy that knows one verb."""

    coordinates: np.ndarray
    name: str = ""

    def mirror_step(
        self, q: Any, magnet: Any, *, eta: Any, alpha: Any, player: Any = None
    ) -> Point:
        return Point(self.coordinates + eta * q, self.name)

    def snapshot(self) -> Point:
        return self


@dataclass(frozen=True)
class Line:
    """A game of points."""

    slope: float = -1.0

    def initial_policy(self) -> Point:
        return Point(np.ones(3), "here")

    def feedback(self, policy: Any, opponent: Any = None, *, player: Any = None, rng: Any = None):
        return self.slope * policy.coordinates


def test_a_policy_that_is_a_dataclass_is_saved_by_its_arrays(tmp_path: Path) -> None:
    solver = mg.MMD(0.1, 0.1)
    half = mg.solve(Line(), solver, 10)
    loaded = mg.Solution.load(half.save(tmp_path / "run"), Line())
    assert loaded.policy.name == "here"
    end, whole = (mg.solve(Line(), solver, 30, resume=r) for r in (loaded, half))
    np.testing.assert_array_equal(end.policy.coordinates, whole.policy.coordinates)


def test_the_coordinates_of_any_policy_are_checked() -> None:
    with pytest.raises(FloatingPointError, match="`policy` is NaN at step 1"):
        mg.solve(Line(np.nan), mg.MMD(0.1, 0.1), 10)
    with pytest.raises(ValueError, match="`policy` must have shape"):
        mg.solve(Line(), mg.MMD(0.1, 0.1), 10, policy=Point(np.ones(4)))


class Keeping:
    """A solver whose own memory has the names of fields of the state."""

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        q = game.feedback(state.policy)
        policy = state.policy.mirror_step(q, state.magnet, eta=0.1, alpha=0.1)
        eta = state.memory.get("eta", 0.0) + 0.5
        return state.advance(policy, 1.0, {"q": q, "eta": eta, "alpha": 2.0})


def test_a_user_s_memory_comes_back_as_memory(tmp_path: Path) -> None:
    half = mg.solve(INSIDE, Keeping(), 10)
    loaded = mg.Solution.load(half.save(tmp_path / "run"), INSIDE).state
    assert loaded.memory.keys() == half.state.memory.keys() == {"q", "eta", "alpha"}
    assert (loaded.q, loaded.eta, loaded.alpha) == (None, None, None)
    assert (loaded.memory["eta"], loaded.memory["alpha"]) == (5.0, 2.0)
