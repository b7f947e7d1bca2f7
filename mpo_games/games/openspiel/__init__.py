"""OpenSpiel's games: compiled by a walk, kept on disk, and refused where they are too large."""

from mpo_games.games.openspiel.compile import compile_game as compile_game
from mpo_games.games.openspiel.compile import from_openspiel as from_openspiel
from mpo_games.games.openspiel.compile import names as names
from mpo_games.games.openspiel.compile import to_openspiel as to_openspiel
from mpo_games.games.openspiel.compile import write_table as write_table
from mpo_games.games.openspiel.source import spell as spell
from mpo_games.games.openspiel.source import turn_based as turn_based
