"""What policies play at a game's table, exactly: exploitability, payoffs, strategies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpo_llm.training.tables import Table
from mpo_llm.trees.answers import actions_of, labels_of
from mpo_llm.trees.policy import TreePolicy

MOST_STATES = 36
"""The most information states whose strategy is shown to people, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Move:
    """An action at an information state, and how often policies choose it."""

    state: str
    """The label of the information state."""
    told: str
    """What the player is told there."""
    said: str
    """What the player says."""
    probability: float
    """How often the policy does."""
    before: float
    """How often the start does."""
    reach: float
    """How likely the policy's own moves are to lead to the state."""


@dataclass(frozen=True, slots=True)
class Against:
    """Payoffs against another policy, in the mean over chance, in the game's units."""

    payoff: float
    """What the policy wins a game, in the mean over both seats."""
    seats: tuple[float, float]
    """What it wins in the first seat, and in the second."""
    exploitability: float
    """The exploitability of the other policy."""
    legal: float
    """How much of what the other policy says is legal, in the mean over all information states."""


@dataclass(frozen=True, slots=True)
class Played:
    """What a policy plays. All numbers are exact."""

    game: str
    """The game's name."""
    exploitability: float
    """What a best response wins against the policy a game, beyond the value, in the mean over both
    seats: half of NashConv."""
    value: float
    """What the first seat wins when the policy plays both."""
    legal: float
    """The probability of a legal answer, in the mean over all information states."""
    least_legal: float
    """The same at the state where it is least."""
    states: int
    """Information states of the game."""
    opponents: Mapping[str, Against]
    """Payoffs against other policies, by their names."""
    moves: tuple[Move, ...]
    """The strategy at all information states."""

    def shown(self) -> list[Move]:
        """The moves at the likeliest states, at most `MOST_STATES` of them, in the game's order."""
        reach = {move.state: move.reach for move in reversed(self.moves)}
        first = sorted(reach, key=lambda state: -reach[state])[:MOST_STATES]
        return [move for move in self.moves if move.state in set(first)]


def beside(table: Table, policy: TreePolicy, others: Mapping[str, TreePolicy]) -> Played:
    """What `policy` plays, beside others; `others["start"]` is shown as the play before."""
    game = table.game
    opponents = {name: against(table, policy, other) for name, other in others.items()}
    return Played(
        table.name,
        exploitability(table, policy),
        float(game.value(policy)),
        float(np.mean(policy.legal)),
        float(np.min(policy.legal)),
        game.tree.tree.states,
        opponents,
        moves(table, policy, others.get("start", policy)),
    )


def exploitability(table: Table, policy: TreePolicy) -> float:
    """Half the duality gap."""
    return 0.5 * float(table.game.duality_gap(policy))


def against(table: Table, policy: TreePolicy, other: TreePolicy) -> Against:
    """What `policy` wins against `other`."""
    game = table.game
    first, second = float(game.value(policy, other)), -float(game.value(other, policy))
    return Against(
        0.5 * (first + second),
        (first, second),
        exploitability(table, other),
        float(np.mean(other.legal)),
    )


def moves(table: Table, policy: TreePolicy, before: TreePolicy) -> tuple[Move, ...]:
    """How often each action is chosen at each information state."""
    tree = table.game.tree.tree
    labels, names = labels_of(tree), actions_of(tree)
    found = []
    for j, label in enumerate(labels):
        reach = float(policy.plan[tree.parent[j]])
        for s in range(tree.offset[j], tree.offset[j + 1]):
            found.append(
                Move(
                    label,
                    table.told(label),
                    table.said(label, names[s]),
                    float(policy.probs[s]),
                    float(before.probs[s]),
                    reach,
                )
            )
    return tuple(found)
