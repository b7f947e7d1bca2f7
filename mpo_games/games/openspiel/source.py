"""OpenSpiel's games: loaded from a string, checked, and asked what each player knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    # Only for annotations: OpenSpiel is optional, and slow to import.
    import pyspiel


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What tells the information states of a game apart."""

    label: Callable[[pyspiel.State, tuple[str, str]], str]
    """`label(state, seen)` names the information state of the player who acts."""
    remember: Callable[[pyspiel.State, tuple[str, str], tuple[int, int]], tuple[str, str]]
    """`remember(state, seen, moved)`: what both players have seen at `state`, which the last move,
    `moved = (player, action)`, led to from where they had seen `seen`."""


def pyspiel_module() -> ModuleType:
    """OpenSpiel. `ImportError` names the command that installs it."""
    try:
        import pyspiel
    except ImportError as error:
        raise ImportError(
            'OpenSpiel is not installed: run `pip install "mpo-games[openspiel]"`.'
        ) from error
    module: ModuleType = pyspiel
    return module


def turn_based(game: str | pyspiel.Game) -> pyspiel.Game:
    """The `pyspiel.Game` to compile: loaded if `game` is a string, checked, and turn-based."""
    pyspiel = pyspiel_module()
    loaded = _load(pyspiel, game) if isinstance(game, str) else game
    if not all(hasattr(loaded, name) for name in ("get_type", "num_players")):
        raise ValueError(
            f"`game` must be a game string or a `pyspiel.Game`, got {type(game).__name__}."
        )
    kind = loaded.get_type()
    utility = pyspiel.GameType.Utility
    if loaded.num_players() != 2:
        raise ValueError(
            f"`game` must have two players: {shown(loaded)} has {loaded.num_players()}."
        )
    if kind.utility not in (utility.ZERO_SUM, utility.CONSTANT_SUM):
        found = kind.utility.name.lower()
        raise ValueError(f"`game` must be zero-sum or constant-sum: {shown(loaded)} is {found}.")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError(
            f"`game` must list its chance outcomes: {shown(loaded)} only samples them."
        )
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise ValueError(f"`game` must have two players: {shown(loaded)} is a mean-field game.")
    if kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS:
        return pyspiel.convert_to_turn_based(loaded)
    return loaded


def spell(name: str, parameters: Mapping[str, Any]) -> str:
    """OpenSpiel's string for a game with parameters, such as `liars_dice(dice_sides=4)`.

    `ValueError` if parameters stand both in `name` and in `parameters`, and for a text that such a
    string cannot hold.
    """
    if parameters and "(" in name:
        raise ValueError(
            f"`name`: {name!r} holds parameters already: write all of them there, "
            "or all of them as keywords."
        )
    for key, value in parameters.items():
        if not isinstance(value, str | int | float | np.integer | np.floating):
            raise ValueError(
                f"`{key}` must be a number or a text, such as 'kuhn_poker()' for a game, "
                f"got a {type(value).__name__}."
            )
        if isinstance(value, str) and len(list(_split(value, ","))) > 1:
            raise ValueError(f"`{key}`: OpenSpiel's game strings hold no comma, got {value!r}.")
    inside = ",".join(f"{key}={value}" for key, value in parameters.items())
    return f"{name}({inside})" if inside else name


def knowledge(source: pyspiel.Game) -> tuple[Knowledge, ...]:
    """What may name the information states of `source`, a turn-based game: the best first.

    It is OpenSpiel's information state string, and under perfect information the history (as some
    strings forget it). A game with neither is known by what a player observed and did so far, at
    every state. `ValueError` for a game that has none of them.
    """
    kind, ways = source.get_type(), list[Knowledge]()
    if kind.provides_information_state_string:
        ways.append(Knowledge(lambda state, _: str(state.information_state_string()), _nothing))
    if _openly_played(source):
        ways.append(Knowledge(_history, _nothing))
    if not ways and kind.provides_observation_string:
        ways.append(Knowledge(_memory, _observed))
    if not ways:
        raise ValueError(f"`game` must name its information states: {shown(source)} does not.")
    return tuple(ways)


def parts(parsed: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parse of a game string, and of every game inside it."""
    yield parsed
    for value in parsed.values():
        if isinstance(value, Mapping):
            yield from parts(value)


def shown(source: pyspiel.Game) -> str:
    """The game in a message: its string on one line, and not longer than one."""
    text = " ".join(str(source).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _nothing(
    _state: pyspiel.State, seen: tuple[str, str], _moved: tuple[int, int]
) -> tuple[str, str]:
    return seen


def _observed(
    state: pyspiel.State, seen: tuple[str, str], moved: tuple[int, int]
) -> tuple[str, str]:
    """Checksums of what each player observed and did: at 128 bits no two of them agree."""
    player, action = moved
    parts = (
        f"{seen[p]}|{action if p == player else ''}|{state.observation_string(p)}" for p in (0, 1)
    )
    first, second = (sha256(part.encode()).hexdigest()[:32] for part in parts)
    return first, second


def _history(state: pyspiel.State, _seen: tuple[str, str]) -> str:
    # Behind a simultaneous game stands its own state, which does not know the first mover's choice.
    inner = getattr(state, "simultaneous_game_state", None)
    return str((state if inner is None else inner()).history_str())


def _memory(state: pyspiel.State, seen: tuple[str, str]) -> str:
    player = state.current_player()
    return f"{state.observation_string(player)}\n{seen[player]}"


def _openly_played(source: pyspiel.Game) -> bool:
    """Whether every player knows the whole history but the moves of the same round."""
    pyspiel = pyspiel_module()
    information = pyspiel.GameType.Information
    inner = source
    state = source.new_initial_state()
    if hasattr(state, "simultaneous_game_state"):
        inner = state.simultaneous_game_state().get_game()
    return bool(inner.get_type().information == information.PERFECT_INFORMATION)


def parsed(name: str) -> Mapping[str, Any]:
    """OpenSpiel's parse of a game string: the parameters by name, and the game's own `name`.

    `ValueError` for a game that OpenSpiel does not know, and for a string that it misreads.
    """
    pyspiel, name = pyspiel_module(), name.strip()
    known = pyspiel.registered_names()
    _require_known(name.partition("(")[0], known)
    _require_well_written(name)
    try:
        found: Mapping[str, Any] = pyspiel.game_parameters_from_string(name)
    except (pyspiel.SpielError, RuntimeError, ValueError) as error:
        raise _not_loaded(name, error) from error
    for part in parts(found):
        _require_known(part["name"], known)
    return found


def _require_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f": did you mean {' or '.join(close)}?" if close else "."
        raise ValueError(f"`game`: OpenSpiel has no game {name!r}{hint}")


def _load(pyspiel: ModuleType, name: str) -> pyspiel.Game:
    short = parsed(name)["name"]
    (kind,) = (kind for kind in pyspiel.registered_games() if kind.short_name == short)
    # Before it is loaded, which may take long.
    if not kind.min_num_players <= 2 <= kind.max_num_players:
        raise ValueError(
            f"`game` must have two players: {short} has {kind.min_num_players}"
            f"{'' if kind.min_num_players == kind.max_num_players else ' or more'}."
        )
    try:
        return pyspiel.load_game(name.strip())
    # A game registered from Python can fail in any way, and a large one by `MemoryError`.
    except Exception as error:
        raise _not_loaded(name, error) from error


def _not_loaded(name: str, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return ValueError(f"`game`: OpenSpiel cannot load {name!r}: {reason}.")


def _require_well_written(name: str) -> None:
    """Refuse what OpenSpiel's reader passes over: a rest behind the bracket, a key given twice.

    Half a character (a lone surrogate) is no text that it can read.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"`game` must be text, but {name!a} holds half a character.") from error
    _, bracket, inside = name.partition("(")
    if not bracket:
        return
    depth = 1
    for place, character in enumerate(inside):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            rest, inside = inside[place + 1 :], inside[:place]
            if rest.strip():
                raise ValueError(f"`game`: {rest!r} stands behind the closing bracket of {name!r}.")
            break
    keys: set[str] = set()
    for item in _split(inside, ","):
        key, _, value = item.partition("=")
        if key in keys:
            raise ValueError(f"`game`: {name!r} sets the parameter {key!r} twice.")
        keys.add(key)
        _require_well_written(value)


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts of `text` between separators that stand outside all brackets."""
    depth = begin = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]
