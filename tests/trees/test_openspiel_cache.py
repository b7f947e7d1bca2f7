"""The compiled games on disk: what identifies them, and what is read back."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.compat.mmd_dilated import MMDDilatedEnt
from mpo_games.games import openspiel
from mpo_games.games.openspiel import cache as openspiel_cache
from mpo_games.games.openspiel import compile
from mpo_games.games.openspiel.cache import CachedGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies import dilation

pyspiel = pytest.importorskip("pyspiel")

DICE = "liars_dice(numdice=1,dice_sides=3)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that keeps small games too."""
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path))
    monkeypatch.setattr(openspiel_cache, "WORTH_CACHING", 0)
    return tmp_path


def arrays(game: SequenceFormGame) -> tuple[Any, ...]:
    tree = game.tree
    return tree.parent, tree.offset, game.row, game.column, game.chance, game.payoff


def same(one: SequenceFormGame, other: SequenceFormGame) -> bool:
    return (one.tree.labels, one.tree.actions) == (other.tree.labels, other.tree.actions) and all(
        np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True)
    )


def never(*args: object) -> Any:
    raise AssertionError("the game was walked again")


def place(name: str) -> CachedGame:
    found = CachedGame.of(name, openspiel.turn_based(name))
    assert found is not None
    return found


def test_games_that_openspiel_shows_alike_are_told_apart(folder: Path) -> None:
    """Both print themselves as `normal_form_extensive_game()`."""
    for _ in range(2):
        kuhn = openspiel.compile_game("normal_form_extensive_game(game=kuhn_poker())")
        rps = openspiel.compile_game("normal_form_extensive_game(game=matrix_rps())")
        assert (kuhn.tree.sequences, rps.tree.sequences) == (130, 8)
        assert float(mg.exact.nash(kuhn).value) == pytest.approx(-1 / 18, abs=1e-12)
        assert float(mg.exact.nash(rps).value) == pytest.approx(0.0, abs=1e-12)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyspiel.create_matrix_game("matrix_rps", "", ["a"], ["b"], [[3.0]], [[-3.0]]),
        lambda: pyspiel.convert_to_turn_based(
            pyspiel.create_matrix_game("matrix_rps", "", ["a"], ["b"], [[3.0]], [[-3.0]])
        ),
        lambda: pyspiel.load_game("misere(game=kuhn_poker())"),
        lambda: pyspiel.load_game("normal_form_extensive_game(game=kuhn_poker())"),
    ],
    ids=["matrix", "turn-based matrix", "misere", "normal form"],
)
def test_objects_are_never_kept(make: Callable[[], Any], folder: Path) -> None:
    openspiel.compile_game(make())
    assert not list(folder.iterdir())
    assert openspiel.compile_game("matrix_rps").tree.sequences == 8


def test_files_and_python_code_are_never_kept(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("open_spiel.python.games")
    for name in ("python_kuhn_poker", "misere(game=python_kuhn_poker())"):
        openspiel.compile_game(name)
    for name in ("cached_tree(game=kuhn_poker())", "start_at(game=kuhn_poker(),history=0;1)"):
        before = len(list(folder.iterdir()))
        openspiel.compile_game(name)
        assert len(list(folder.iterdir())) == before + 1
    shutil.rmtree(folder)
    folder.mkdir()
    written = tmp_path / "game.nfg"
    for payoff in (1, 5):
        written.write_text(f'NFG 1 R "x" {{ "a" "b" }} {{ 1 1 }}\n\n{payoff} -{payoff}\n')
        game = openspiel.compile_game(f"nfg_game(filename={written})")
        assert game.payoff.tolist() == [payoff]
    assert list(folder.iterdir()) == [written]


def test_the_key_is_the_parse() -> None:
    one, other = (
        place("liars_dice(numdice=1,dice_sides=3)"),
        place("liars_dice(dice_sides=3,numdice=1)"),
    )
    assert one == other
    for another in ("liars_dice(dice_sides=4,numdice=1)", "misere(game=liars_dice(dice_sides=3))"):
        assert place(another).key != one.key


def wrong_payoff(game: SequenceFormGame) -> SequenceFormGame:
    return game.with_payoff(2.0 * game.payoff)


def another_game(_game: SequenceFormGame) -> SequenceFormGame:
    return openspiel.compile_game("liars_dice(numdice=1,dice_sides=2)")


def other_rules(_game: SequenceFormGame) -> SequenceFormGame:
    return openspiel.compile_game(f"misere(game={DICE})")


@pytest.mark.parametrize("wrong", [wrong_payoff, another_game, other_rules])
def test_another_game_under_the_right_key_is_noticed(
    wrong: Callable[[SequenceFormGame], SequenceFormGame], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, file = openspiel.compile_game(DICE), place(DICE)
    file.path.write_bytes(openspiel_cache._pack(file.key, wrong(right)))
    assert same(openspiel.compile_game(DICE), right)
    monkeypatch.setattr(compile, "walk", never)
    assert same(openspiel.compile_game(DICE), right)


def truncated(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path, whole: bytes) -> None:
    path.write_bytes(b"")


def altered(path: Path, whole: bytes) -> None:
    path.write_bytes(whole.replace(b"payoff", b"pAyoff"))


def one_payoff_edited(path: Path, whole: bytes) -> None:
    """A valid archive, in which only one number is another."""
    with np.load(io.BytesIO(whole)) as file:
        content = dict(file)
    content["payoff"][7] *= -1.0
    out = io.BytesIO()
    np.savez_compressed(out, **content)
    for checksum in (b"", whole[-openspiel_cache.CHECKSUM :]):
        path.write_bytes(out.getvalue() + checksum)
        with pytest.raises(ValueError, match="was changed"):
            openspiel_cache._unpack(path.read_bytes(), dilation.unit, DICE)


def foreign(path: Path, whole: bytes) -> None:
    with path.open("wb") as file:
        np.savez(file, payoff=np.zeros(3))


def without_permission(path: Path, whole: bytes) -> None:
    path.chmod(0)


def a_folder(path: Path, whole: bytes) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


def a_dangling_link(path: Path, whole: bytes) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        empty,
        altered,
        one_payoff_edited,
        foreign,
        without_permission,
        a_folder,
        a_dangling_link,
    ],
)
def test_a_damaged_file_costs_one_rebuild(
    damage: Callable[[Path, bytes], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, path = openspiel.compile_game(DICE), place(DICE).path
    damage(path, path.read_bytes())
    assert same(openspiel.compile_game(DICE), right)
    monkeypatch.setattr(compile, "walk", never)
    again = openspiel.compile_game(DICE, dilation=dilation.kroer)
    assert same(again, right)
    assert np.array_equal(again.weights, dilation.kroer(again))
    # What is written through a link is where the link leads.
    assert {file.name for file in folder.iterdir()} <= {path.name, "nowhere"}


@pytest.mark.parametrize(
    "name",
    [
        "kuhn_poker",
        "goofspiel(num_cards=4,points_order=descending)",
        "phantom_go(board_size=2,max_game_length=3)",
        "markov_soccer(horizon=2)",
        "pig(diceoutcomes=2,horizon=6,winscore=3)",
    ],
)
def test_every_kind_of_information_is_recognised_when_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = openspiel.compile_game(name)
    monkeypatch.setattr(compile, "walk", never)
    assert same(openspiel.compile_game(name), game)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path / "file" / "below"))
    assert openspiel.compile_game(DICE).tree.states == 192


def test_small_games_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openspiel_cache, "WORTH_CACHING", 2000)
    openspiel.compile_game("kuhn_poker")
    assert not list(folder.iterdir())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MPO_GAMES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    openspiel.compile_game(DICE)
    (file,) = (tmp_path / "mpo-games").iterdir()
    assert file.name.startswith("liars_dice-")


def test_drawn_payoffs_are_the_same_in_every_run(folder: Path) -> None:
    """`add_noise` draws a payoff when a play first reaches it: a play of the check is one, too."""
    name = f"add_noise(epsilon=1.0,seed=1,game={DICE})"
    first, second = (openspiel.compile_game(name) for _ in range(2))
    assert same(first, second)
    assert not list(folder.iterdir())


def test_the_drop_in_reads_the_game_of_a_string_from_the_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = MMDDilatedEnt(DICE, 0.1)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(compile, "walk", never)
    assert same(MMDDilatedEnt(DICE, 0.1).compiled, first.compiled)
