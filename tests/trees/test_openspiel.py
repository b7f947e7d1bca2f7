"""OpenSpiel's games and policies, against OpenSpiel's own algorithms."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from compiled import DARK_HEX, GOOFSPIEL, LIARS_DICE

import mpo_games as mg
from mpo_games.games import openspiel
from mpo_games.games.behavioural import BehaviouralGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Mixture

pyspiel = pytest.importorskip("pyspiel")

FIVE = ("kuhn_poker", "leduc_poker", LIARS_DICE, DARK_HEX, GOOFSPIEL)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setenv("MPO_GAMES_CACHE", str(folder))
    return folder


def random_policy(game: SequenceFormGame, seed: int) -> TreeplexPolicy:
    weights = np.random.default_rng(seed).gamma(0.5, size=game.tree.sequences)
    first, size = game.tree.offset[:-1], np.diff(game.tree.offset)
    probs = np.ones(game.tree.sequences)
    probs[2:] = weights[2:] / np.repeat(np.add.reduceat(weights, first), size)
    return TreeplexPolicy.from_probs(game.tree, game.geometry, probs)


@pytest.mark.parametrize("name", FIVE)
def test_the_gap_is_openspiels_nash_conv(name: str) -> None:
    source = openspiel.turn_based(name)
    game = openspiel.compile_game(source)
    assert game.source == str(source)
    for seed in range(2):
        policy = random_policy(game, seed)
        table = openspiel.to_openspiel(source, game, policy)
        theirs = pyspiel.nash_conv(source, openspiel_policy(table))
        assert float(game.duality_gap(policy)) == pytest.approx(theirs, abs=1e-12)


def openspiel_policy(table: Any) -> Any:
    from open_spiel.python.policy import python_policy_to_pyspiel_policy

    return python_policy_to_pyspiel_policy(table)


@pytest.mark.parametrize("name", [*FIVE, "matrix_rps", "blotto(coins=3,fields=2)"])
def test_policies_go_to_openspiel_and_come_back(name: str) -> None:
    game = openspiel.compile_game(name)
    policy = random_policy(game, 3)
    table = openspiel.to_openspiel(name, game, policy)
    assert np.allclose(table.action_probability_array.sum(-1), 1.0, rtol=0, atol=1e-14)
    back = openspiel.from_openspiel(game, table)
    assert np.allclose(back.probs, policy.probs, rtol=0, atol=1e-15)
    pure = game.best_response(policy)
    back = openspiel.from_openspiel(game, openspiel.to_openspiel(name, game, pure))
    assert np.array_equal(back.probs, pure.probs)


def test_the_value_of_play_is_openspiels() -> None:
    from open_spiel.python.algorithms.expected_game_score import policy_value

    game = openspiel.compile_game("leduc_poker")
    policy = random_policy(game, 0)
    source = pyspiel.load_game("leduc_poker")
    table = openspiel.to_openspiel(source, game, policy)
    theirs = policy_value(source.new_initial_state(), [table, table])
    assert float(game.value(policy)) == pytest.approx(theirs[0], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("kuhn_pokr", "did you mean kuhn_poker"),
        ("xyzzy", "no game 'xyzzy'"),
        ("leduc_poker(foo=3)", "Unknown parameter 'foo'"),
        ("kuhn_poker(players=3)", "two players"),
        ("matrix_pd", "zero-sum"),
        ("tiny_hanabi", "zero-sum"),
        ("backgammon", "fit into memory"),
        ("liars_dice_ir(numdice=1,dice_sides=3)", "imperfect recall"),
        ("misere(game=kuhn_poker(),x=1)", "cannot load"),
        ("leduc_poker(", "Missing closing bracket"),
        ("liars_dice(dice_sides=x)", "Wrong type for parameter dice_sides"),
        ("chess", "fit into memory"),
        ("dark_hex(board_size=3)", "fit into memory"),
    ],
)
def test_refusals_are_sentences(name: str, word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(word)) as caught:
        openspiel.compile_game(name)
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence


def test_sampled_chance_is_refused() -> None:
    kind = SimpleNamespace(
        utility=pyspiel.GameType.Utility.ZERO_SUM,
        chance_mode=pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC,
    )
    game = SimpleNamespace(get_type=lambda: kind, num_players=lambda: 2)
    with pytest.raises(ValueError, match="only samples"):
        openspiel.compile_game(game)


def test_policies_of_another_game_are_refused() -> None:
    kuhn, leduc = (openspiel.compile_game(n) for n in ("kuhn_poker", "leduc_poker"))
    policy = kuhn.initial_policy()
    with pytest.raises(ValueError, match="another game"):
        openspiel.to_openspiel("leduc_poker", kuhn, policy)
    with pytest.raises(ValueError, match="`policy`"):
        openspiel.to_openspiel("leduc_poker", leduc, policy)
    for game, wrong in ((kuhn, leduc.initial_policy()), (leduc, policy)):
        mixture = Mixture((wrong,), (1.0,))
        for refused in (
            lambda game=game, wrong=wrong: game.feedback(wrong),
            lambda game=game, wrong=mixture: game.feedback(game.initial_policy(), wrong),
            lambda game=game, wrong=wrong: game.duality_gap(wrong),
            lambda game=game, wrong=wrong: game.best_response(wrong),
            lambda game=game, wrong=wrong: mg.solve(game, mg.MMD(0.1, 0.1), 10, policy=wrong),
        ):
            with pytest.raises(ValueError, match="`policy` must have"):
                refused()
    table: Any = BehaviouralGame(kuhn).initial_policy()
    for refused in (kuhn.feedback, lambda p: mg.solve(kuhn, mg.MMD(0.1, 0.1), 10, policy=p)):
        with pytest.raises(ValueError, match="must be a TreeplexPolicy"):
            refused(table)
    with pytest.raises(ValueError, match="`policy` must be a table"):
        BehaviouralGame(leduc).feedback(table)
    batch = policy.replace(np.stack([policy.coordinates] * 2))
    with pytest.raises(ValueError, match="`policy`"):
        openspiel.to_openspiel("kuhn_poker", kuhn, batch)
    table = openspiel.to_openspiel("kuhn_poker", kuhn, policy)
    table.action_probability_array[0] = 0.9
    with pytest.raises(ValueError, match="sum to 1"):
        openspiel.from_openspiel(kuhn, table)


def test_without_openspiel_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(ImportError, match=r"mpo-games\[openspiel\]"):
        openspiel.compile_game("kuhn_poker")


def arrays(game: SequenceFormGame) -> tuple[Any, ...]:
    tree = game.tree
    return tree.parent, tree.offset, game.row, game.column, game.chance, game.payoff


def test_progress_does_not_change_the_game(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = openspiel.compile_game("kuhn_poker")
    loud = openspiel.compile_game("kuhn_poker", progress=True)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(quiet), arrays(loud), strict=True))
    assert capsys.readouterr().out == ""
