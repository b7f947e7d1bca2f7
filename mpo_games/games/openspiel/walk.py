"""The walk through every history of an OpenSpiel game, which stops before memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from sys import intern
from typing import TYPE_CHECKING

from mpo_games.games.memory import require_limit
from mpo_games.games.openspiel.size import SEQUENCE, needed, refuse, require_size
from mpo_games.games.openspiel.source import Knowledge, knowledge, pyspiel_module, shown
from mpo_games.games.tree_builder import ImperfectRecallError, TreeBuilder

if TYPE_CHECKING:
    import pyspiel

Where = tuple[int, int]
"""Both players' sequences at a node."""


def walk(source: pyspiel.Game, progress: bool, max_memory: float) -> tuple[TreeBuilder, float]:
    """Every history of the game, depth first, in the order of OpenSpiel's own algorithms.

    Returns the builder, and the sum of both players' payoffs, which must be the same at all leaves.
    `ValueError` if it is not, if the estimate of the memory exceeds `max_memory` GiB, and if
    OpenSpiel fails at a state.
    """
    limit = require_limit(max_memory)
    pyspiel = pyspiel_module()
    try:
        require_size(source, limit)
        *better, last = knowledge(source)
        for way in better:
            with suppress(ImperfectRecallError):
                return _walk(source, way, progress, limit)
        return _walk(source, last, progress, limit)
    # Beyond loading too OpenSpiel has errors of its own; they derive from RuntimeError.
    except (pyspiel.SpielError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"`game`: OpenSpiel fails within {shown(source)}: {reason}.") from error


def _walk(
    source: pyspiel.Game, way: Knowledge, progress: bool, limit: float
) -> tuple[TreeBuilder, float]:
    builder = TreeBuilder()
    total: float | None = None
    characters = nodes = 0
    # Only a walk needs the bar, and an import of the package should stay light.
    from tqdm import tqdm

    bar = tqdm(
        total=1.0,
        delay=1.0,
        desc=source.get_type().short_name,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        disable=None if progress else True,
    )

    def branches(
        state: pyspiel.State, at: Where, chance: float, share: float, seen: tuple[str, str]
    ) -> Iterator[tuple[pyspiel.State, Where, float, float, tuple[str, str]]]:
        """The nodes below `state`, made one by one: a wide game holds no wide list of states."""
        nonlocal characters
        player = state.current_player()
        if state.is_chance_node():
            outcomes = _chances(state)
            for action, p in outcomes:
                child = state.child(action)
                after = way.remember(child, seen, (player, action))
                yield child, at, chance * p, share / len(outcomes), after
            return
        legal = tuple(state.legal_actions())
        name, known = way.label(state, seen), len(builder.players)
        sequences = builder.state(player, name, legal, at)
        if len(builder.players) > known:
            characters += len(name)
            builder.spoken.append(_spoken(state, player, legal))
        for sequence, action in zip(sequences, legal, strict=True):
            there = (sequence, at[1]) if player == 0 else (at[0], sequence)
            child = state.child(action)
            after = way.remember(child, seen, (player, action))
            yield child, there, chance, share / len(legal), after

    root = source.new_initial_state()
    start = way.remember(root, ("", ""), (-1, 0))
    # A stack instead of recursion, whose depth Python limits. `share` is a node's part of the bar.
    stack = [iter([(root, (0, 1), 1.0, 1.0, start)])]
    with bar:
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            state, at, chance, share, seen = node
            nodes += 1
            # Every node would slow the walk; a wide state may alone be too large.
            if nodes % 1024 == 0 or builder.sequences * SEQUENCE > limit:
                reached = needed(builder, characters, len(stack))
                if reached > limit:
                    refuse(source, f"more than {nodes} histories", reached, limit)
            if not state.is_terminal():
                stack.append(branches(state, at, chance, share, seen))
                continue
            first, second = state.returns()
            total = first + second if total is None else total
            if not abs(first + second - total) <= 1e-9 * max(1.0, abs(first), abs(second)):
                raise ValueError(
                    f"`game` must have a constant sum: in {shown(source)} both players receive "
                    f"{total:g} together at one end and {first + second:g} at another."
                )
            builder.payoff(at, chance, first)
            bar.update(share)
    # A sum such as 1e-17 is rounding, and -0.0 a zero.
    return builder, 0.0 if total is None or abs(total) < 1e-9 else total


def _spoken(state: pyspiel.State, player: int, legal: tuple[int, ...]) -> tuple[str, ...]:
    """What OpenSpiel calls the actions: each text once in memory, since a game repeats them."""
    try:
        return tuple(intern(state.action_to_string(player, action)) for action in legal)
    # Names are for people only, and no reason to refuse a game.
    except Exception:
        return tuple(map(str, legal))


def _chances(state: pyspiel.State) -> list[tuple[int, float]]:
    outcomes = state.chance_outcomes()
    total = sum(p for _, p in outcomes)
    # Written so that NaN fails it.
    if not (all(p >= 0.0 for _, p in outcomes) and abs(total - 1.0) <= 1e-9):
        raise ValueError(
            f"`game`: the chances after {state.history_str()!r} must be probabilities that sum to "
            f"1, got {total}."
        )
    return [(action, p) for action, p in outcomes if p > 0.0]
