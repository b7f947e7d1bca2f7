"""OpenSpiel games for the tests of trees."""

from __future__ import annotations

from functools import cache
from tempfile import TemporaryDirectory

import pytest

from mpo_games.games.openspiel import compile_game
from mpo_games.games.sequence_form import SequenceFormGame

LIARS_DICE = "liars_dice(numdice=1,dice_sides=4)"
DARK_HEX = "dark_hex(board_size=2,gameversion=adh)"
GOOFSPIEL = (
    "turn_based_simultaneous_game("
    "game=goofspiel(num_cards=4,imp_info=True,points_order=descending))"
)


@cache
def compiled(name: str) -> SequenceFormGame:
    """The game, compiled once for all tests, and never read from the user's disk cache."""
    pytest.importorskip("pyspiel")
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPO_GAMES_CACHE", folder)
        return compile_game(name)
