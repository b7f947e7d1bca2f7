"""Compiled games of OpenSpiel on disk: a key that identifies, and a check of what is read back."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.games.openspiel.source import Knowledge, knowledge, parts, pyspiel_module
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.policies.tree import Tree

if TYPE_CHECKING:
    import pyspiel

FORMAT = 5
"""The version of the layout of cached files. A file of another version is not read."""

WORTH_CACHING = 2000
"""The number of leaves from which a compiled game is kept on disk. Smaller games compile in
milliseconds."""

CHECKSUM = 32
"""Bytes at the end of a file: the SHA-256 of what stands before them."""

PLAYS = 50
"""Random plays that compare a game from the disk with the live one."""


@dataclass(frozen=True, slots=True)
class CachedGame:
    """The place on disk of the game that a string of OpenSpiel describes."""

    key: str
    """All that decides the game: OpenSpiel's parse of the string, its version, and `FORMAT`."""
    path: Path
    """The file, named by a checksum of the key."""

    @classmethod
    def of(cls, name: str, source: pyspiel.Game) -> CachedGame | None:
        """The place of the game `source` that was loaded from `name`.

        None if the string does not decide the game: if it names a file, a game whose rules are
        Python code, or one whose payoffs are drawn. All may change between two runs.
        """
        pyspiel = pyspiel_module()
        parsed = pyspiel.game_parameters_from_string(name)
        if _native(source) and all(
            _decided(part) and (part is parsed or _native(_loaded(part))) for part in parts(parsed)
        ):
            key = json.dumps([parsed, pyspiel.__version__, FORMAT], sort_keys=True)
            checksum = sha256(key.encode()).hexdigest()[:32]
            return cls(key, _folder() / f"{parsed['name']}-{checksum}.npz")
        return None

    def read(
        self, source: pyspiel.Game, dilation: Dilation, display: str
    ) -> SequenceFormGame | None:
        """The game of the file; None if there is none, it is damaged, or it is another game."""
        # A damaged or foreign file can fail in any way (zip, zlib, JSON, shapes, permissions).
        with suppress(Exception):
            key, game = _unpack(self.path.read_bytes(), dilation, display)
            if key == self.key and any(plays_like(source, game, way) for way in knowledge(source)):
                return game
        return None

    def write(self, game: SequenceFormGame) -> None:
        """Keep the game if it is large enough, in place of whatever stands there."""
        if game.chance.size < WORTH_CACHING:
            return
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            # A folder of this name would make every later run compile the game again.
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            write_bytes(self.path, _pack(self.key, game))


def plays_like(source: pyspiel.Game, game: SequenceFormGame, way: Knowledge) -> bool:
    """Whether `PLAYS` random plays of `source`, with states named `way`, are plays of `game`.

    Compared are the information states, their actions, where they stand in the tree, and the chance
    and the payoff of the end. If several ends share one entry of the game, the payoff is compared
    up to what the other ends may add.
    """
    rng, tree = np.random.default_rng(), game.tree
    split = (slice(0, tree.split), slice(tree.split, None))
    states = [
        {label: part.start + j for j, label in enumerate(tree.labels[part])} for part in split
    ]
    for _ in range(PLAYS):
        state, at, chance = source.new_initial_state(), [0, 1], 1.0
        seen = way.remember(state, ("", ""), (-1, 0))
        while not state.is_terminal():
            player = state.current_player()
            if state.is_chance_node():
                outcomes = [(a, p) for a, p in state.chance_outcomes() if p > 0.0]
                action, p = outcomes[rng.integers(len(outcomes))]
                chance *= p
            else:
                j, legal = states[player].get(way.label(state, seen)), state.legal_actions()
                if j is None or tree.parent[j] != at[player]:
                    return False
                first, last = tree.offset[j], tree.offset[j + 1]
                if tree.actions[first:last] != tuple(str(a) for a in legal):
                    return False
                chosen = int(rng.integers(len(legal)))
                action, at[player] = legal[chosen], int(first) + chosen
            state.apply_action(action)
            seen = way.remember(state, seen, (player, action))
        payoffs = state.returns()
        if not abs(sum(payoffs) - game.utility_sum) <= 1e-9 * max(1.0, *map(abs, payoffs)):
            return False
        first, last = game.row[at[0]], game.row[at[0] + 1]
        entry = first + int(np.searchsorted(game.column[first:last], at[1]))
        if entry == last or game.column[entry] != at[1]:
            return False
        rest = game.chance[entry] - chance
        bound = max(abs(source.min_utility()), abs(source.max_utility()))
        small = 1e-9 * (1.0 + bound)
        if not (
            rest >= -small
            and abs(game.payoff[entry] - chance * payoffs[0]) <= max(rest, 0.0) * bound + small
        ):
            return False
    return True


def _decided(parsed: Mapping[str, Any]) -> bool:
    """Whether no parameter names a file, whose content may change, and no payoff is drawn."""
    # Its payoffs are drawn when a play first reaches them, so the random plays would change them.
    if parsed["name"] == "add_noise":
        return False
    texts = {
        key: value for key, value in parsed.items() if isinstance(value, str) and key != "name"
    }
    named = any("file" in key or "root" in key for key in texts)
    return not named and not any(_exists(value) for value in texts.values())


def _exists(text: str) -> bool:
    try:
        return text != "" and Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _loaded(parsed: Mapping[str, Any]) -> pyspiel.Game:
    pyspiel = pyspiel_module()
    return pyspiel.load_game(pyspiel.game_parameters_to_string(dict(parsed)))


def _native(game: pyspiel.Game) -> bool:
    """Whether the rules are OpenSpiel's own: a game from Python is an instance of its class."""
    return type(game).__module__ == "pyspiel"


def _folder() -> Path:
    base = os.environ.get("MPO_GAMES_CACHE")
    if base:
        return Path(base)
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "mpo-games"


def _pack(key: str, game: SequenceFormGame) -> bytes:
    # JSON: an array of strings pads each to the longest, and one of objects needs pickle.
    tree = game.tree
    names = json.dumps([key, tree.labels, tree.actions, tree.names]).encode()
    content = io.BytesIO()
    np.savez_compressed(
        content,
        parent=game.tree.parent,
        offset=game.tree.offset,
        split=game.tree.split,
        names=np.frombuffer(names, dtype=np.uint8),
        row=game.row,
        column=game.column,
        chance=game.chance,
        payoff=game.payoff,
        utility_sum=game.utility_sum,
    )
    archive = content.getvalue()
    return archive + sha256(archive).digest()


def _unpack(content: bytes, dilation: Dilation, display: str) -> tuple[str, SequenceFormGame]:
    archive, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    # The random plays would seldom meet a single payoff that was edited.
    if sha256(archive).digest() != checksum:
        raise ValueError("The file was changed after it was written.")
    with np.load(io.BytesIO(archive), allow_pickle=False) as file:
        key, labels, actions, spoken = json.loads(file["names"].tobytes())
        shape = file["parent"], file["offset"], int(file["split"])
        tree = Tree(*shape, tuple(labels), tuple(map(intern, actions)), tuple(map(intern, spoken)))
        row, column, chance, payoff = (file[n] for n in ("row", "column", "chance", "payoff"))
        total = float(file["utility_sum"])
    return key, SequenceFormGame(tree, row, column, chance, payoff, dilation, display, total)
