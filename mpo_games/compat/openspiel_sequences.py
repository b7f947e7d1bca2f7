"""The sequences of a compiled game under the names and in the order of OpenSpiel's Python code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.tree import Tree
from mpo_games.protocol import Array, Indices

if TYPE_CHECKING:
    import pyspiel

EMPTY_STATES = [f"***EMPTY_INFOSET_P{player}***" for player in (0, 1)]
EMPTY_ACTIONS = [f"***EMPTY_INFOSET_ACTION_P{player}***" for player in (0, 1)]

ROUNDING = 1e-6
"""Sequences that a script assigns may miss their sums by this much: published ones are rounded."""


@dataclass(frozen=True)
class OpenSpielSequences:
    """Both players' tables of `open_spiel.python.algorithms.sequence_form_utils`.

    A sequence is named `"information state -=- action"`. Each list has an entry per player.
    """

    infosets: list[dict[str, int]]
    """The number of each information state, in the order in which a walk finds them."""
    infoset_actions_to_seq: list[dict[str, int]]
    """The place of each sequence in its player's vector, in the order in which a walk takes it."""
    infoset_action_maps: list[dict[str, list[str]]]
    """The sequences of each information state's actions."""
    infoset_parent_map: list[dict[str, str | None]]
    """The sequence that leads to each information state; None for the empty sequence."""
    infoset_actions_children: list[dict[str, list[str]]]
    """The information states that each sequence leads to, if any."""
    order: list[Indices]
    """The compiled game's number of each of a player's sequences."""
    tree: Tree

    def split(self, plan: Array) -> list[Array]:
        """Each player's part of a realisation plan `(sequences,)`, in OpenSpiel's order."""
        return [plan[places] for places in self.order]

    def joined(self, parts: Sequence[ArrayLike], name: str) -> Array:
        """The realisation plan `(sequences,)` of both players' parts.

        `ValueError`, which calls the parts `name`, unless these are realisation plans up to
        `ROUNDING`.
        """
        plan = np.empty(self.tree.sequences)
        if len(parts) != 2:
            raise ValueError(f"`{name}` must hold two arrays, one per player, got {len(parts)}.")
        for player, (part, places) in enumerate(zip(parts, self.order, strict=True)):
            array = np.asarray(part, dtype=np.float64)
            if array.shape != places.shape:
                raise ValueError(
                    f"`{name}[{player}]` must have shape {places.shape}, got {array.shape}."
                )
            plan[places] = array
        if not (np.isfinite(plan) & (plan >= 0.0)).all():
            raise ValueError(f"`{name}` must be finite and at least 0.")
        if not (np.abs(plan[:2] - 1.0) <= ROUNDING).all():
            raise ValueError(f"`{name}` must begin with 1, the probability of the empty sequence.")
        if self.tree.states:
            flow = np.add.reduceat(plan, self.tree.offset[:-1])
            off = np.abs(flow - plan[self.tree.parent])
            if not (off <= ROUNDING).all():
                j = int(np.argmax(off))
                raise ValueError(
                    f"`{name}` is no realisation plan: the actions at {self.tree.labels[j]!r} add "
                    f"up to {flow[j]:.9g}, and the sequence that leads there has "
                    f"{plan[self.tree.parent[j]]:.9g}."
                )
        return plan


def openspiel_sequences(source: pyspiel.Game, game: SequenceFormGame) -> OpenSpielSequences:
    """The tables of `game`, which was compiled from `source`. Walks through the whole game."""
    tree = game.tree
    owner = tree.owner
    names = [*EMPTY_ACTIONS]
    ends = zip(tree.state_of[2:], tree.actions[2:], strict=True)
    names += [_key(tree.labels[j], action) for j, action in ends]
    number = [{names[s]: s for s in np.flatnonzero(owner == player)} for player in (0, 1)]
    states = [range(tree.split), range(tree.split, tree.states)]
    label = [{tree.labels[j]: j for j in states[player]} for player in (0, 1)]
    infosets, places = _walk(source)
    maps: list[dict[str, list[str]]] = []
    parents: list[dict[str, str | None]] = []
    children: list[dict[str, list[str]]] = []
    for player in (0, 1):
        empty = EMPTY_ACTIONS[player]
        if infosets[player].keys() != label[player].keys() | {EMPTY_STATES[player]}:
            raise ValueError(
                "`game` must keep OpenSpiel's names of its information states: its own forget what "
                "a player did."
            )
        maps.append({EMPTY_STATES[player]: [empty]})
        parents.append({empty: None})
        children.append({empty: []})
        for state in list(infosets[player])[1:]:
            j = label[player][state]
            above = names[tree.parent[j]]
            maps[player][state] = names[tree.offset[j] : tree.offset[j + 1]]
            parents[player][state] = above
            children[player].setdefault(above, []).append(state)
    order = [np.array([number[player][key] for key in places[player]]) for player in (0, 1)]
    return OpenSpielSequences(infosets, places, maps, parents, children, order, tree)


def _walk(source: pyspiel.Game) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """The numbers of states and sequences, each at its first visit, depth first."""
    infosets = [{EMPTY_STATES[player]: 0} for player in (0, 1)]
    places = [{EMPTY_ACTIONS[player]: 0} for player in (0, 1)]
    # The sequence of an action gets its place when the walk goes through the action, which is
    # after all that lies behind the actions before it.
    stack = [(source.new_initial_state(), 0, EMPTY_ACTIONS[0])]
    while stack:
        state, player, key = stack.pop()
        places[player].setdefault(key, len(places[player]))
        if state.is_terminal():
            continue
        if state.is_chance_node():
            moves = [(action, player, key) for action, p in state.chance_outcomes() if p > 0]
        else:
            player, name = state.current_player(), state.information_state_string()
            infosets[player].setdefault(name, len(infosets[player]))
            moves = [(a, player, _key(name, a)) for a in state.legal_actions()]
        # Reversed, because the stack gives back the last entry first.
        stack += [(state.child(a), who, there) for a, who, there in reversed(moves)]
    return infosets, places


def _key(state: str, action: int | str) -> str:
    return f"{state} -=- {action}"
