"""A step, feedback, magnet or game of the user's own that is not right yet: a sentence each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import mpo_games as mg

GAME = mg.load("comal")
NO_STATE = "in the place of a state: it must return the new one"


@dataclass(frozen=True)
class Own:
    """A solver whose step is `move`."""

    move: Callable[[Any], Any]

    def step(self, game: Any, state: Any, rng: Any = None) -> Any:
        return self.move(state)


def forgets(*_: Any, **__: Any) -> None:
    """A function without a `return`."""


@pytest.mark.parametrize(
    "solver",
    [
        Own(forgets),
        Own(lambda state: state.policy),
        mg.Averaged(Own(forgets)),
        mg.Restarted(Own(forgets)),
        mg.MMD(0.3, 0.1, magnet=lambda game, state: None),
        mg.Averaged(mg.MMD(0.3, 0.1, magnet=lambda game, state: state.policy)),
        mg.MMD(0.3, 0.1, feedback=lambda game, state, prox, rng: None),
        mg.MMD(0.3, 0.1, feedback=lambda game, state, prox, rng: game.feedback(state.policy)),
        mg.MMD(0.3, 0.1, geometry=lambda game, state: None),
    ],
)
def test_what_is_no_state_is_refused(solver: Any) -> None:
    with pytest.raises(ValueError, match=NO_STATE):
        mg.solve(GAME, solver, 10)


def test_another_mistake_keeps_its_own_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        mg.solve(GAME, Own(lambda state: state.nonsense), 10)


@pytest.mark.parametrize(
    "move", [lambda state: state, lambda state: state.advance(state.policy, 0.0)]
)
def test_steps_that_charge_nothing_come_to_an_end(move: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="steps in a row charged no evaluation"):
        mg.solve(GAME, Own(move), 10)


@pytest.mark.parametrize(
    ("choice", "value", "got"),
    [
        ("feedback", mg.Every(5), r"Every\(5\), a function of \(game, state\)"),
        ("geometry", mg.optimistic, r"`optimistic`, a function of \(game, state, prox, rng\)"),
        ("pull", mg.optimistic, "`optimistic`, a function of"),
        ("magnet", lambda state: state, r"a function, a function of \(state\)"),
    ],
)
def test_a_choice_is_called_with_what_it_takes(choice: str, value: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"`{choice}` must be a function of \(.*\), like .*{got}"):
        mg.MMD(0.3, 0.1, **{choice: value})


def test_more_names_with_defaults_are_welcome() -> None:
    def magnet(game: Any, state: Any, rate: float = 0.1) -> Any:
        return state

    def pull(policy: Any, q: Any, magnet: Any, **settings: Any) -> Any:
        return mg.proximal(policy, q, magnet, **settings)

    own = mg.solve(GAME, mg.MMD(0.3, 0.1, magnet=magnet, pull=pull), 10)
    assert own.gap == mg.solve(GAME, mg.MMD(0.3, 0.1), 10).gap


@dataclass(frozen=True)
class Small:
    """A game with nothing but the two methods that every game has."""

    game: Any = GAME

    def initial_policy(self) -> Any:
        return self.game.initial_policy()

    def feedback(self, *args: Any, **settings: Any) -> Any:
        return self.game.feedback(*args, **settings)


@pytest.mark.parametrize(
    ("solver", "lacking"),
    [
        (mg.FictitiousPlay(), "`FictitiousPlay` needs a game with `best_response` and `average`"),
        (mg.MMD(0.3, 0.1, magnet=mg.WhenInnerSolved(0.1)), "`WhenInnerSolved` needs a game with"),
        (mg.Averaged(mg.MirrorDescent(0.3)), "`Averaged` needs a game with `average`"),
        (mg.Restarted(mg.MirrorDescent(0.3)), "`Restarted` needs a game with `duality_gap`"),
    ],
)
def test_what_a_method_needs_of_a_game(solver: Any, lacking: str) -> None:
    with pytest.raises(ValueError, match=lacking):
        mg.solve(Small(), solver, 100)


def test_a_game_without_a_gap_has_solutions_without_one() -> None:
    solution = mg.solve(Small(), mg.MirrorDescent(0.3), 10)
    with pytest.raises(KeyError, match="a Small has no `duality_gap`"):
        _ = solution.gap


def test_a_start_that_is_no_policy() -> None:
    class Listed(Small):
        def initial_policy(self) -> Any:
            return [0.3, 0.3, 0.4]

    with pytest.raises(ValueError, match=r"must be a policy, got \[0.3, 0.3, 0.4\]"):
        next(mg.iterate(Listed(), mg.MirrorDescent(0.3)))


@pytest.mark.parametrize(
    "make", [lambda: mg.MPO_RT(20.0, 0.1, 50), lambda: mg.MMD(5, 0.4, pull=mg.in_reward)]
)
def test_a_pull_in_the_reward_stays_on_this_side_of_the_magnet(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"`eta \* alpha` must be below 1"):
        make()


def test_also_for_settings_that_are_functions() -> None:
    solver = mg.MMD(lambda state: 5.0 * (state.step + 1), 0.1, pull=mg.in_reward)
    with pytest.raises(ValueError, match="must be below 1 with `pull=in_reward`, got eta=10"):
        mg.solve(GAME, solver, 10)


ENDS = {"left": mg.Payoff(1.0), "right": mg.Payoff(0.0)}
TREE = mg.build_tree(mg.Decision(0, "start", ENDS))


@pytest.mark.parametrize("player", [5, -1, "x"])
@pytest.mark.parametrize("game", [mg.load("matching_pennies"), TREE])
def test_a_player_is_one_of_two(game: Any, player: Any) -> None:
    with pytest.raises(ValueError, match="`player` must be 0, 1 or None"):
        game.feedback(game.initial_policy(), player=player)


BACKWARDS = [-1, -0.1, np.array([[0.1], [-0.1]]), float("nan")]


@pytest.mark.parametrize("number", BACKWARDS)
@pytest.mark.parametrize("setting", ["eta", "alpha"])
@pytest.mark.parametrize("game", [mg.load("matching_pennies"), TREE])
def test_a_step_goes_forward(game: Any, setting: str, number: Any) -> None:
    policy = game.initial_policy()
    with pytest.raises(ValueError, match=f"`{setting}` must be at least 0, got"):
        policy.mirror_step(
            game.feedback(policy), policy, **{"eta": 0.1, "alpha": 0.1, setting: number}
        )
