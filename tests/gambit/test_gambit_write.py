"""Files written for Gambit: read back, and read by OpenSpiel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_trees import random_tree

import mpo_games as mg
from mpo_games.games.gambit.text import spelled, summing_to_1, written

RNG = np.random.default_rng(0)


def again(game: Any, tmp_path: Path, suffix: str = ".efg") -> Any:
    path = tmp_path / f"game{suffix}"
    text = mg.to_efg(game) if suffix == ".efg" else mg.to_nfg(game)
    path.write_text(text, encoding="utf-8")
    return mg.load(str(path))


def places(game: mg.SequenceFormGame) -> dict[tuple[int, str, str], int]:
    tree = game.tree
    return {
        # Gambit's names have single blanks for all white space.
        (
            int(tree.owner[s]),
            " ".join(tree.labels[tree.state_of[s]].split()),
            str(tree.actions[s]),
        ): s
        for s in range(2, tree.sequences)
    }


def assert_same_game(one: mg.SequenceFormGame, two: mg.SequenceFormGame) -> None:
    """The same names, and the same payoff `x' A y` for random policies."""
    here, there = places(one), places(two)
    assert here.keys() == there.keys()
    rng = np.random.default_rng(1)
    for _ in range(3):
        probs = rng.gamma(1.0, size=one.tree.sequences)
        sums = np.add.reduceat(probs, one.tree.offset[:-1])
        probs[2:] /= np.repeat(sums, np.diff(one.tree.offset))
        moved = np.ones_like(probs)
        for key, s in here.items():
            moved[there[key]] = probs[s]
        value = one.value(mg.TreeplexPolicy.from_probs(one.tree, one.geometry, probs))
        other = two.value(mg.TreeplexPolicy.from_probs(two.tree, two.geometry, moved))
        assert float(value) == pytest.approx(float(other), abs=1e-12)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_trees_come_back(first: int, tmp_path: Path) -> None:
    seen = 0
    for seed in range(first, first + 20):
        game = mg.build_tree(random_tree(seed, depth=5 if seed % 2 else 3))
        if game.tree.states:
            assert_same_game(game, again(game, tmp_path))
            seen += 1
    assert seen > 15


def test_openspiel_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("pyspiel")
    for seed in range(12):
        game = mg.build_tree(random_tree(seed, depth=3))
        if game.tree.states == 0 or not np.any(game.payoff):
            continue
        path = tmp_path / f"g{seed}.efg"
        path.write_text(mg.to_efg(game), encoding="utf-8")
        theirs = mg.load(f"efg_game(filename={path})")
        assert mg.exact.nash(theirs).value == pytest.approx(mg.exact.nash(game).value, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "ends"),
    [("kuhn_poker", 30), ("liars_dice(numdice=1,dice_sides=2)", None), ("matrix_rps", 9)],
)
def test_games_of_openspiel_come_back(name: str, ends: int | None, tmp_path: Path) -> None:
    pytest.importorskip("pyspiel")
    game = mg.load(name)
    assert isinstance(game, mg.SequenceFormGame)
    assert_same_game(game, again(game, tmp_path))
    if ends is not None:  # the tree is the natural one
        assert mg.to_efg(game).count("\nt ") == ends


def test_files_of_others_come_back(tmp_path: Path) -> None:
    for name in ("poker", "cycle", "share", "late"):
        game = mg.load(str(Path(__file__).parent / f"{name}.efg"))
        assert isinstance(game, mg.SequenceFormGame)
        back = again(game, tmp_path)
        assert_same_game(game, back)
        assert back.utility_sum == game.utility_sum


def test_matrices_and_preferences(tmp_path: Path) -> None:
    matrix = mg.MatrixGame(RNG.normal(size=(3, 2)), (("a", 'b "q"', "c \\ d"), ("x", "y")))
    back = again(matrix, tmp_path, ".nfg")
    assert np.array_equal(back.payoff, matrix.payoff)
    assert back.actions == matrix.actions
    value = mg.exact.nash(matrix).value
    assert mg.exact.nash(again(matrix, tmp_path)).value == pytest.approx(value, abs=1e-12)
    preferences = mg.load("comal")
    table = again(preferences, tmp_path, ".nfg")
    assert np.allclose(table.payoff, preferences.preferences[0], rtol=0, atol=1e-15)
    assert mg.exact.nash(table).value == pytest.approx(0.5, abs=1e-12)
    contexts = mg.PreferenceGame(np.stack([preferences.preferences[0], np.full((3, 3), 0.5)]))
    tree = again(contexts, tmp_path)
    assert (tree.tree.states, tree.utility_sum) == (4, 1.0)
    assert mg.exact.nash(tree).value == pytest.approx(0.5, abs=1e-12)
    with pytest.raises(ValueError, match="2 contexts"):
        mg.to_nfg(contexts)
    with pytest.raises(ValueError, match="batch"):
        mg.to_efg(mg.MatrixGame(np.zeros((2, 2, 2))))
    with pytest.raises(ValueError, match="`to_efg`"):
        mg.to_nfg(tree)
    with pytest.raises(ValueError, match="2 names"):
        mg.to_efg(matrix, players=("A",))
    assert mg.to_nfg(matrix, "t", ("A", 'B"')).startswith('NFG 1 R "t" { "A" "B\\"" }')


def test_numbers_are_written_exactly() -> None:
    for value in (0.0, 1 / 3, -2 / 7, 0.1, 1e-9, 123456.789, np.pi, 1e300, -5e-324, 2.0**60 + 512):
        assert float(written(value)) == value
        text = spelled(written(value))
        above, _, below = text.partition("/")
        assert float(above) / float(below or 1) == value
    with pytest.raises(ValueError, match="finite"):
        written(np.inf)
    for weights in ([1.0, 1.0, 1.0], [0.1, 0.7], RNG.dirichlet(np.ones(7)).tolist(), [1e-9, 1.0]):
        exact = summing_to_1(weights)
        assert sum(exact) == 1
        assert np.allclose([float(p) for p in exact], np.array(weights) / sum(weights), rtol=1e-13)


def test_large_files_are_read_in_seconds(tmp_path: Path) -> None:
    """20 000 nodes; the limit is far above what a free machine needs (half a second)."""
    import time

    lines = ['EFG 2 R "many" { "A" "B" }', 'c "" 1 "" {']
    lines += [f'"{k}" 1/2000' for k in range(2_000)]
    lines.append("} 0")
    for k in range(2_000):
        lines.append(f'p "" 1 {k + 1} "s{k}" {{ "l" "m" "r" }} 0')
        for move in range(3):
            lines.append(f'p "" 2 {move + 1} "t{move}" {{ "u" "v" }} 0')
            lines += [f't "" {move + 1} "" {{ {move} -{move} }}'] * 2
    path = tmp_path / "many.efg"
    path.write_text("\n".join(lines), encoding="utf-8")
    began = time.perf_counter()
    game = mg.load(str(path))
    assert isinstance(game, mg.SequenceFormGame)
    assert game.tree.states == 2_003
    assert time.perf_counter() - began < 20.0


def test_a_game_without_names_comes_back_without_names(tmp_path: Path) -> None:
    payoff = RNG.normal(size=(2, 3))
    unnamed = again(mg.MatrixGame(payoff), tmp_path, ".nfg")
    assert unnamed.actions == mg.MatrixGame(payoff).actions
    np.testing.assert_allclose(unnamed.payoff, payoff, rtol=1e-12)
    names = [["up", "down"], ["left", "middle", "right"]]
    named = again(mg.MatrixGame(payoff, names), tmp_path, ".nfg")
    assert named.actions == mg.MatrixGame(payoff, names).actions
