"""Random trees with perfect recall, for the tests of files."""

from __future__ import annotations

import numpy as np

from mpo_games.games.tree_builder import Chance, Decision, Node, Payoff


def random_tree(seed: int, depth: int = 4) -> Node:
    """A tree in which players miss some moves of chance and of each other."""
    rng = np.random.default_rng(seed)
    sizes: dict[str, int] = {}

    def grow(left: int, seen: tuple[str, str]) -> Node:
        kind = rng.uniform()
        if left == 0 or kind < 0.1:
            value = rng.choice([rng.normal(), rng.integers(-3, 4), rng.integers(9) / 7])
            return Payoff(float(value))
        public = rng.uniform() < 0.5
        if kind < 0.35:
            size = int(rng.integers(2, 4))
            chances = rng.dirichlet(np.ones(size)) if public else np.full(size, 1 / size)
            if rng.uniform() < 0.2:
                chances = np.append(chances, 0.0)
            tags = [f"c{k}." if public else "" for k in range(chances.size)]
            nodes = [grow(left - 1, (seen[0] + tag, seen[1])) for tag in tags]
            return Chance(list(zip(chances.tolist(), nodes, strict=True)))
        player = int(rng.integers(2))
        # What a player has seen and done names the state, so recall is perfect.
        label = f"p{player}:{seen[player]}"
        size = sizes.setdefault(label, int(rng.integers(1, 4)))
        actions: dict[str, Node] = {}
        for k in range(size):
            after = [seen[0], seen[1]]
            after[player] += f"me{k}."
            after[1 - player] += f"you{k}." if public else ""
            actions[f"a {k}"] = grow(left - 1, (after[0], after[1]))
        return Decision(player, label, actions)

    return grow(depth, ("", ""))
