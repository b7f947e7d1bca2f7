"""Trees of OpenSpiel know what it calls their actions, also from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

import mpo_games as mg

pytest.importorskip("pyspiel")


def test_a_bet_is_called_bet() -> None:
    game = mg.load("kuhn_poker")
    assert set(game.tree.names[2:]) == {"Pass", "Bet"}
    assert set(game.tree.actions[2:]) == {"0", "1"}
    assert set(game.initial_policy().table()["action"]) == {"Pass", "Bet"}


def test_a_cached_game_has_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPO_GAMES_CACHE", str(tmp_path))
    first, again = (mg.load("liars_dice", dice_sides=3) for _ in range(2))
    assert list(tmp_path.iterdir()) or first.chance.size < 2000
    assert first.tree.names == again.tree.names
    assert len(first.tree.names) == first.tree.sequences
    assert "Liar" in first.tree.names
