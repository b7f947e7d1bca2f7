"""What players know in games without information state strings, and constant sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mpo_games as mg
from experiments.lab.openspiel_games import SMALL, backward, row
from mpo_games.games import openspiel
from mpo_games.games.openspiel import walk as openspiel_walk
from mpo_games.games.openspiel.source import Knowledge, _history, _memory, _nothing, _observed
from mpo_games.games.tree_builder import Decision, Payoff

pyspiel = pytest.importorskip("pyspiel")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path))


def value(game: mg.SequenceFormGame) -> float:
    found = mg.exact.nash(game)
    assert float(game.duality_gap(found.policy)) < 1e-9
    return float(found.value)


@pytest.mark.parametrize(
    "name",
    [
        "breakthrough(rows=3,columns=2)",
        "connect_four(rows=2,columns=3,x_in_row=2)",
        "go(board_size=2,max_game_length=4)",
        "goofspiel(num_cards=4,points_order=descending)",
        "lines_of_action(max_game_length=2)",
        "markov_soccer(horizon=2)",
        "nim(pile_sizes=1;2;3)",
        "oshi_zumo(coins=4,horizon=5,min_bid=1)",
        "oware(num_houses_per_player=2,num_seeds_per_house=1)",
        "pig(diceoutcomes=2,horizon=6,winscore=3)",
        "repeated_game(stage_game=matrix_mp(),num_repetitions=2)",
        "repeated_game(stage_game=zerosum(game=matrix_bos()),num_repetitions=2)",
        "misere(game=oshi_zumo(coins=3,horizon=3,size=1))",
    ],
)
def test_perfect_information_is_backward_induction(name: str) -> None:
    wanted = backward(name)
    assert wanted is not None
    assert value(openspiel.compile_game(name)) == pytest.approx(wanted, abs=1e-9)


def test_openspiels_own_alpha_beta_search_agrees() -> None:
    from open_spiel.python.algorithms.minimax import alpha_beta_search

    for name in ("breakthrough(rows=3,columns=2)", "clobber(rows=2,columns=3)"):
        root, _ = alpha_beta_search(pyspiel.load_game(name))
        assert value(openspiel.compile_game(name)) == pytest.approx(root, abs=1e-9)


def test_the_second_mover_of_a_round_does_not_see_the_first_move() -> None:
    """Who sees the first move of matching pennies wins every round: the value would be -2."""
    game = openspiel.compile_game("repeated_game(stage_game=matrix_mp(),num_repetitions=2)")
    assert value(game) == pytest.approx(0.0, abs=1e-12)
    assert game.tree.split == game.tree.states - game.tree.split == 5


@pytest.mark.parametrize(
    "name",
    ["kuhn_poker", "leduc_poker(suit_isomorphism=True)", "goofspiel(num_cards=3,imp_info=True)"],
)
def test_what_is_observed_tells_as_much_as_information_state_strings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_string = value(openspiel.compile_game(name))
    way = Knowledge(_memory, _observed)
    monkeypatch.setattr(openspiel_walk, "knowledge", lambda source: (way,))
    assert value(openspiel.compile_game(pyspiel.load_game(name))) == pytest.approx(
        by_string, abs=1e-9
    )


def test_histories_are_too_much_for_imperfect_information(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: if the players of Kuhn poker saw the history, the value would be another."""
    way = Knowledge(_history, _nothing)
    monkeypatch.setattr(openspiel_walk, "knowledge", lambda source: (way,))
    open_cards = value(openspiel.compile_game(pyspiel.load_game("kuhn_poker")))
    assert abs(open_cards - (-1 / 18)) > 0.01


@pytest.mark.parametrize("name", ["liars_dice_ir(dice_sides=3)", "dark_hex_ir(board_size=2)"])
def test_imperfect_recall_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="imperfect recall"):
        openspiel.compile_game(name)


@pytest.mark.parametrize("total", [1.0, -4.0, 0.3])
def test_constant_sum_games_keep_player_0s_payoffs(total: float) -> None:
    payoff = np.array([[3.0, -1.0], [0.0, 2.0]])
    source = pyspiel.create_matrix_game(
        "own", "own", ["a", "b"], ["c", "d"], payoff.tolist(), (total - payoff).tolist()
    )
    game = openspiel.compile_game(source)
    assert game.utility_sum == pytest.approx(total)
    assert value(game) == pytest.approx(float(mg.exact.nash(mg.MatrixGame(payoff)).value))


def test_general_sums_are_refused_whatever_the_type_says(monkeypatch: pytest.MonkeyPatch) -> None:
    source = pyspiel.create_matrix_game("own", "own", ["a", "b"], ["c"], [[1], [2]], [[0], [3]])
    with pytest.raises(ValueError, match="zero-sum or constant-sum"):
        openspiel.compile_game(source)
    with pytest.raises(ValueError, match="1 together at one end and 5 at another"):
        openspiel_walk.walk(pyspiel.convert_to_turn_based(source), False, 1.0)


def test_errors_of_openspiel_within_a_game_are_sentences() -> None:
    # OpenSpiel loads this game, and only fails when it begins.
    with pytest.raises(ValueError, match=r"OpenSpiel fails within go\(board_size=50\): .*\.$"):
        openspiel.compile_game("go(board_size=50)")
    game = openspiel.compile_game("breakthrough(rows=3,columns=2)")
    with pytest.raises(ValueError, match="do not tell information states apart"):
        openspiel.to_openspiel("breakthrough(rows=3,columns=2)", game, game.initial_policy())


def test_two_trees_with_equal_payoffs_are_two_games(tmp_path: Path) -> None:
    """Six payoffs in two rows or in three: as many states, as many sequences, one description."""

    def tree(rows: int, columns: int) -> mg.SequenceFormGame:
        def leaves(i: int) -> dict[str, Payoff]:
            return {str(j): Payoff(1.0 + columns * i + j) for j in range(columns)}

        return mg.build_tree(
            Decision(0, "a", {str(i): Decision(1, "b", leaves(i)) for i in range(rows)})
        )

    wide, high = tree(2, 3), tree(3, 2)
    assert np.array_equal(wide.payoff, high.payoff)
    solver = mg.MMD(0.01, 0.1)
    path = mg.solve(wide, solver, 20).save(tmp_path / "run.npz")
    assert mg.solve(wide, solver, 40, resume=mg.Solution.load(path, wide)).state.evaluations == 40
    for other in (high, wide.with_dilation(lambda game: 2.0 * mg.dilation.unit(game))):
        with pytest.raises(ValueError):  # noqa: PT011 (the shape, the kind or the content)
            mg.solve(other, solver, 40, resume=mg.Solution.load(path, other))


def test_two_noisy_games_of_one_game_are_two_games() -> None:
    solver = mg.MMD(0.1, 0.1)
    run = mg.solve(mg.NoisyGame(mg.load("rps"), 0.1), solver, 20)
    with pytest.raises(ValueError, match="ran another game"):
        mg.solve(mg.NoisyGame(mg.load("rps"), 0.2), solver, 40, resume=run)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SMALL if "python" not in n and "flag" not in n])
def test_the_page_of_games_is_true(name: str) -> None:
    _, _, found, gap, other = row(name)
    assert float(gap) < 1e-9
    assert not other or float(found) == pytest.approx(float(other), abs=1e-6)
    page = (Path(__file__).parents[2] / "docs" / "openspiel_games.md").read_text()
    (line,) = (x for x in page.splitlines() if x.startswith(f"| `{name}` "))
    assert float(line.split("|")[3]) == pytest.approx(float(found), abs=1e-6)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(ValueError, match="half a character"):
        mg.load("chess(n=\ud800)")
