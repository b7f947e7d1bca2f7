"""Games that are too large are refused at once, by a sentence that names the limit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.games import openspiel
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.openspiel.size import DOUBT, surely
from mpo_games.games.tree_builder import Decision, Payoff, build_tree

HUGE = (
    "cursor_go",
    "chess",
    "go",
    "capture_the_flag",
    "dots_and_boxes",
    "latent_ttt",
    "nim",
    "oshi_zumo(coins=3,size=1)",
    "phantom_ttt",
    "yacht",
    "hex(board_size=500)",
    "goofspiel(num_cards=100000)",
    "mnk(m=10000,n=10000)",
    "blotto(coins=60,fields=8)",
    "normal_form_extensive_game(game=leduc_poker())",
    "misere(game=normal_form_extensive_game(game=leduc_poker()))",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_game_is_refused_at_once(name: str) -> None:
    pytest.importorskip("pyspiel")
    began = time.perf_counter()
    with pytest.raises(ValueError, match=r"must fit into memory.* GiB.*`max_memory`") as caught:
        mg.load(name)
    assert time.perf_counter() - began < 10.0
    assert "\n" not in str(caught.value)


def test_the_walk_stops_at_the_limit_and_a_larger_one_lets_it_go_on() -> None:
    pytest.importorskip("pyspiel")
    with pytest.raises(ValueError, match=r"leduc_poker\(\) has more than \d+ histories"):
        mg.load("leduc_poker", max_memory=1e-3)
    assert mg.load("leduc_poker", max_memory=1e-2).tree.states == 936  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("condorcet", {"n": 100_001}),
        ("random_zero_sum", {"n": 100_000, "m": 100_000}),
        ("random_preferences", {"n": 10**12}),
        ("blotto", {"fields": 40, "soldiers": 5}),
        ("blotto", {"fields": 3, "soldiers": 10_000}),
        ("many_equilibria", {"n": 3, "k": 1_000_000}),
        ("low_rank_cyclic", {"n": 10, "rank": 10**9}),
    ],
)
def test_a_huge_matrix_is_refused_before_it_is_made(name: str, parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"game '{name}' with .* GiB.*`max_memory`"):
        mg.load(name, **parameters)  # type: ignore[arg-type]


def test_the_limit_of_a_matrix_can_be_raised() -> None:
    with pytest.raises(ValueError, match="`max_memory`"):
        mg.load("condorcet", n=101, max_memory=1e-5)
    assert mg.load("condorcet", n=101, max_memory=1e-2).payoff.shape == (1, 101, 101)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, True, "2"])
def test_a_limit_is_a_positive_number(limit: float) -> None:
    with pytest.raises(ValueError, match="`max_memory` must be a finite number above 0"):
        mg.load("rps", max_memory=limit)


def test_a_behavioural_table_is_as_wide_as_the_widest_state() -> None:
    wide = {str(i): Payoff(0.0) for i in range(2000)}
    tree = build_tree(Decision(0, "a", {"x": Decision(1, "b", wide), "y": Payoff(1.0)}))
    with pytest.raises(ValueError, match=r"a table of 1 x 2 x 2000 takes .* GiB"):
        BehaviouralGame(tree, max_memory=1e-6)
    assert BehaviouralGame(tree).blank.shape == (1, 2, 2000)


@pytest.mark.parametrize("tail", [0.0, 0.5, 0.99])
def test_the_bound_on_the_size_is_seldom_wrong(tail: float) -> None:
    """Estimates of mean 1 with tails from none to 1 in 100 plays: the bound is below 1."""
    rng = np.random.default_rng(0)
    assert DOUBT <= 1e-6
    for _ in range(200):
        hit = rng.random(100) >= tail
        estimates = np.where(hit, 1.0 / (1.0 - tail), 1e-9)
        assert surely(np.log(estimates).tolist()) <= np.log(1.0 / (1.0 - tail)) + 1e-9
        if tail == 0.0:
            assert surely(np.log(estimates).tolist()) >= -1e-9


def test_names_are_read_as_written() -> None:
    pytest.importorskip("pyspiel")
    for name, word in (
        ("kuhn_poker()x", "behind the closing bracket"),
        ("kuhn_poker(players=2,players=2)", "'players' twice"),
        ("misere(game=kuhn_pokr())", "did you mean kuhn_poker"),
        ("bridge", "two players"),
    ):
        with pytest.raises(ValueError, match=word):
            openspiel.compile_game(name)
    with pytest.raises(ValueError, match="holds parameters already"):
        mg.load("kuhn_poker(players=2)", players=2)
    with pytest.raises(ValueError, match="no comma"):
        mg.load("start_at", game="kuhn_poker()", history="0,1")
    assert openspiel.compile_game(" kuhn_poker ").tree.states == 12
