"""What the compiled kernels must compute, state by state in plain NumPy; and trees to compute on.

Nothing here is fast, in log space or clever: sums of products, as the definitions have them.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy.special import logsumexp

from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Chance, Decision, Node, Payoff, build_tree
from mpo_games.policies.tree import Tree
from mpo_games.policies.treeplex import TreeplexPolicy

CARDS = "JQK"


def kuhn() -> SequenceFormGame:
    """Kuhn poker, by hand."""

    def deal(x: int, y: int) -> Node:
        sign = 1.0 if x > y else -1.0
        answer = Decision(1, CARDS[y] + "b", {"pass": Payoff(1.0), "bet": Payoff(2 * sign)})
        last = Decision(0, CARDS[x] + "pb", {"pass": Payoff(-1.0), "bet": Payoff(2 * sign)})
        passed = Decision(1, CARDS[y] + "p", {"pass": Payoff(sign), "bet": last})
        return Decision(0, CARDS[x], {"pass": passed, "bet": answer})

    deals = [(1 / 6, deal(x, y)) for x in range(3) for y in range(3) if x != y]
    return build_tree(Chance(deals))


def matrix_tree(payoff: np.ndarray) -> SequenceFormGame:
    """A matrix game in which the column player moves second and has not seen the row."""
    columns = [
        Decision(1, "column", {str(j): Payoff(float(u)) for j, u in enumerate(row)})
        for row in payoff
    ]
    return build_tree(Decision(0, "row", {str(i): column for i, column in enumerate(columns)}))


def random_tree(seed: int, depth: int = 6) -> SequenceFormGame:
    """A game of chance and both players in any order, who are told of some moves and not others.

    A player's state is named by all that the player was told and did: so nobody forgets.
    """
    rng = np.random.default_rng(seed)
    sizes: dict[str, int] = {}

    def node(depth: int, seen: tuple[str, str]) -> Node:
        kind = rng.choice(["chance", "zero", "one", "leaf"], p=[0.2, 0.35, 0.35, 0.1])
        if depth == 0 or kind == "leaf":
            return Payoff(float(rng.normal()))
        told = rng.uniform(size=2) < 0.5

        def below(player: int | None, a: int) -> Node:
            public = [f"{s}:{a}" if t else s for s, t in zip(seen, told, strict=True)]
            if player is not None:
                public[player] = f"{seen[player]}/{a}"
            return node(depth - 1, (public[0], public[1]))

        if kind == "chance":
            chances = rng.dirichlet(np.ones(rng.integers(1, 4)))
            return Chance([(float(p), below(None, a)) for a, p in enumerate(chances)])
        player = ("zero", "one").index(kind)
        label = f"{player}{seen[player]}"
        size = sizes.setdefault(label, int(rng.integers(1, 4)))
        return Decision(player, label, {str(a): below(player, a) for a in range(size)})

    return build_tree(node(depth, ("", "")))


def trees() -> st.SearchStrategy[SequenceFormGame]:
    """Random games."""
    return st.builds(random_tree, st.integers(0, 2**32 - 1), st.integers(0, 6))


def random_policy(game: SequenceFormGame, rng: np.random.Generator) -> TreeplexPolicy:
    """Random play at every state, some of it rare."""
    probs = np.ones(game.tree.sequences)
    for j in range(game.tree.states):
        actions = own_actions(game.tree, j)
        probs[actions] = rng.dirichlet(np.full(len(probs[actions]), 0.5))
    return TreeplexPolicy.from_probs(game.tree, game.geometry, np.maximum(probs, 1e-12))


def own_actions(tree: Tree, j: int) -> slice:
    """The sequences of state `j`'s actions."""
    return slice(int(tree.offset[j]), int(tree.offset[j + 1]))


def below(tree: Tree, a: int) -> list[int]:
    """The states whose parent is sequence `a`."""
    return [j for j in range(tree.states) if tree.parent[j] == a]


def dense(game: SequenceFormGame) -> np.ndarray:
    """`A`, `(sequences, sequences)`: player 0's payoff at a pair of sequences."""
    matrix = np.zeros((game.tree.sequences, game.tree.sequences))
    for s in range(game.tree.sequences):
        for k in range(game.row[s], game.row[s + 1]):
            matrix[s, game.column[k]] += game.payoff[k]
    return matrix


def plan(tree: Tree, probs: np.ndarray) -> np.ndarray:
    """How often the owner of a sequence plays it: the product of the own probabilities."""
    z = np.ones(tree.sequences)
    for j in range(tree.states):
        z[own_actions(tree, j)] = z[tree.parent[j]] * probs[own_actions(tree, j)]
    return z


def feedback(game: SequenceFormGame, z: np.ndarray) -> np.ndarray:
    """The gradient of both players' payoffs."""
    matrix = dense(game)
    return matrix @ z - matrix.T @ z


def dilated_entropy(tree: Tree, weights: np.ndarray, z: np.ndarray) -> float:
    """The sum over states of weight times reach times negative entropy."""
    total = 0.0
    for j in range(tree.states):
        pi = z[own_actions(tree, j)] / z[tree.parent[j]]
        total += weights[j] * z[tree.parent[j]] * np.sum(pi * np.log(pi))
    return total


def dilated_gradient(tree: Tree, weights: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The gradient of `dilated_entropy` in `z`."""
    gradient = np.zeros(tree.sequences)
    for j in range(tree.states):
        gradient[own_actions(tree, j)] += weights[j] * (
            np.log(z[own_actions(tree, j)] / z[tree.parent[j]]) + 1.0
        )
        gradient[tree.parent[j]] -= weights[j]
    return gradient


def bregman(tree: Tree, weights: np.ndarray, z: np.ndarray, other: np.ndarray) -> float:
    """`psi(z) - psi(other) - <grad psi(other), z - other>`."""
    fall = dilated_entropy(tree, weights, z) - dilated_entropy(tree, weights, other)
    return float(fall - dilated_gradient(tree, weights, other) @ (z - other))


def maximiser(tree: Tree, weights: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Behaviour and values of `max <c, z> - psi(z)`: bottom-up, the softmax of every state."""
    value = np.array(c)
    probs = np.ones(tree.sequences)
    for j in reversed(range(tree.states)):
        scaled = value[own_actions(tree, j)] / weights[j]
        probs[own_actions(tree, j)] = np.exp(scaled - logsumexp(scaled))
        value[tree.parent[j]] += weights[j] * logsumexp(scaled)
    return probs, value


def mirror_step(
    tree: Tree,
    weights: np.ndarray,
    z: np.ndarray,
    q: np.ndarray,
    magnet: np.ndarray,
    eta: float,
    alpha: float,
) -> np.ndarray:
    """Behaviour of `argmax eta <q, z'> - eta alpha D(z' || magnet) - D(z' || z)`.

    That is `max <c, z'> - psi(z')` at the mean of the gradients, whole ones: no term is left out.
    """
    own, pull = (dilated_gradient(tree, weights, x) for x in (z, magnet))
    return maximiser(tree, weights, (own + eta * q + eta * alpha * pull) / (1 + eta * alpha))[0]


def best_values(tree: Tree, q: np.ndarray) -> np.ndarray:
    """What each sequence is worth under best play below it."""
    value = np.array(q)
    for j in reversed(range(tree.states)):
        value[tree.parent[j]] += value[own_actions(tree, j)].max()
    return value


def mean_values(tree: Tree, probs: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What each sequence is worth under `probs` below it."""
    value = np.array(q)
    for j in reversed(range(tree.states)):
        value[tree.parent[j]] += probs[own_actions(tree, j)] @ value[own_actions(tree, j)]
    return value


def centred(tree: Tree, probs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` less their mean under `probs` at every state."""
    out = np.zeros(tree.sequences)
    for j in range(tree.states):
        actions = own_actions(tree, j)
        out[actions] = values[actions] - probs[actions] @ values[actions]
    return out


def proportional(tree: Tree, weights: np.ndarray) -> np.ndarray:
    """Probabilities in proportion to the positive weights; uniform where there are none."""
    probs = np.ones(tree.sequences)
    for j in range(tree.states):
        positive = np.maximum(weights[own_actions(tree, j)], 0.0)
        if not positive.any():
            positive = np.ones(positive.size)
        probs[own_actions(tree, j)] = positive / positive.sum()
    return probs
