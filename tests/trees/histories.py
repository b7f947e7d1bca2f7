"""Regrets and reaches of a policy by a plain recursion over OpenSpiel's histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

Behaviour = dict[str, np.ndarray]
"""A number for each action of an information state, by the state's label."""


class Histories:
    """The histories of a game, visited one by one. A state without a policy plays uniformly."""

    def __init__(self, game: Any) -> None:
        self.root = frozen(game.new_initial_state())

    def regrets(self, policy: Behaviour, players: Sequence[int]) -> Behaviour:
        """The counterfactual regrets of the players' states."""
        found: dict[str, Any] = defaultdict(float)

        def walk(node: Any, reach: tuple[float, float, float]) -> float:
            if isinstance(node, float):
                return node
            if isinstance(node, list):
                return sum(p * walk(child, (reach[0], reach[1], reach[2] * p)) for p, child in node)
            player, label, children = node
            p = policy.get(label, uniform(len(children)))
            values = np.empty(len(children))
            for a, child in enumerate(children):
                there = (reach[0] * p[a], reach[1], reach[2])
                if player == 1:
                    there = (reach[0], reach[1] * p[a], reach[2])
                values[a] = walk(child, there)
            if player in players:
                sign = 1.0 - 2.0 * player
                regret = sign * reach[1 - player] * reach[2] * (values - p @ values)
                found[label] = found[label] + regret
            return float(p @ values)

        walk(self.root, (1.0, 1.0, 1.0))
        return found

    def reach(self, policy: Behaviour) -> Behaviour:
        """Each state's policy times the reach of the state by its own player."""
        found: Behaviour = {}

        def walk(node: Any, reach: tuple[float, float]) -> None:
            if isinstance(node, float):
                return
            if isinstance(node, list):
                for _, child in node:
                    walk(child, reach)
                return
            player, label, children = node
            p = policy.get(label, uniform(len(children)))
            found[label] = reach[player] * p
            for a, child in enumerate(children):
                there = (reach[0] * p[a], reach[1]) if player == 0 else (reach[0], reach[1] * p[a])
                walk(child, there)

        walk(self.root, (1.0, 1.0))
        return found


def matched(weights: np.ndarray) -> np.ndarray:
    """The policy in proportion to the positive weights; uniform if there are none."""
    positive = np.maximum(weights, 0.0)
    return positive / positive.sum() if positive.sum() > 0 else uniform(len(positive))


def uniform(actions: int) -> np.ndarray:
    return np.full(actions, 1.0 / actions)


def frozen(state: Any) -> Any:
    """The tree below a state of OpenSpiel: player 0's payoff, the outcomes of chance with their
    probabilities, or the player, the label of the information state and the children."""
    if state.is_terminal():
        return state.returns()[0]
    if state.is_chance_node():
        return [(p, frozen(state.child(a))) for a, p in state.chance_outcomes()]
    children = [frozen(state.child(a)) for a in state.legal_actions()]
    return state.current_player(), state.information_state_string(), children
