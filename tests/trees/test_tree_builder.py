"""Trees from plain Python data: what is built is the game that was written down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpo_games import exact
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Chance, Decision, Node, Payoff, TreeBuilder, build_tree
from mpo_games.policies import dilation
from mpo_games.policies.treeplex import TreeplexPolicy


def random_tree(seed: int, depth: int = 5) -> Node:
    """A random game of perfect recall: players remember their moves and see parts of the rest."""
    rng = np.random.default_rng(seed)
    movers = rng.integers(-1, 2, size=depth)
    seen = rng.integers(1, 4, size=(depth, 2))
    stops = rng.random(size=depth) < 0.3
    widths: dict[str, int] = {}

    def node(level: int, views: tuple[str, str]) -> Node:
        if level == depth or (stops[level] and rng.random() < 0.3):
            return Payoff(float(rng.normal()))
        mover = int(movers[level])
        label = f"{level}:{views[mover]}" if mover >= 0 else "chance"
        width = int(rng.integers(1, 4))
        if mover >= 0:
            width = widths.setdefault(f"{mover}{label}", width)
        children = []
        for a in range(width):
            shown = [str(a) if mover == i else str(a % seen[level, i]) for i in (0, 1)]
            children.append(node(level + 1, (views[0] + shown[0], views[1] + shown[1])))
        if mover >= 0:
            return Decision(mover, label, {str(a): child for a, child in enumerate(children)})
        return Chance(list(zip(rng.dirichlet(np.ones(width)).tolist(), children, strict=True)))

    return node(0, ("", ""))


def random_policy(game: SequenceFormGame, seed: int) -> TreeplexPolicy:
    weights = np.random.default_rng(seed).gamma(0.5, size=game.tree.sequences) + 1e-6
    probs = np.ones(game.tree.sequences)
    if game.tree.states:
        sums = np.add.reduceat(weights, game.tree.offset[:-1])
        probs[2:] = weights[2:] / np.repeat(sums, np.diff(game.tree.offset))
    return TreeplexPolicy.from_probs(game.tree, game.geometry, probs)


def behaviour(
    game: SequenceFormGame, policy: TreeplexPolicy
) -> Mapping[tuple[int, str, str], float]:
    tree, probs = game.tree, policy.probs
    keys = (
        (int(tree.owner[a]), tree.labels[tree.state_of[a]], str(tree.actions[a]))
        for a in range(2, tree.sequences)
    )
    return dict(zip(keys, probs[2:].tolist(), strict=True))


def expectation(node: Node, play: Mapping[tuple[int, str, str], float]) -> float:
    if isinstance(node, Payoff):
        return node.value
    if isinstance(node, Chance):
        return sum(p * expectation(child, play) for p, child in node.outcomes)
    return sum(
        play[node.player, node.state, a] * expectation(child, play)
        for a, child in node.actions.items()
    )


SEEDS = st.integers(0, 10**6)


@given(SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_values_are_those_of_the_nodes(seed: int) -> None:
    root = random_tree(seed)
    game = build_tree(root)
    for k in range(2):
        policy = random_policy(game, k)
        wanted = expectation(root, behaviour(game, policy))
        assert float(game.value(policy)) == pytest.approx(wanted, abs=1e-12)
        plan = policy.plan
        rows = np.repeat(np.arange(game.tree.sequences), np.diff(game.row))
        assert float(game.chance @ (plan[rows] * plan[game.column])) == pytest.approx(
            1.0, abs=1e-12
        )


@given(SEEDS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_best_responses_are_those_of_the_nodes(seed: int) -> None:
    """The gap is what two deviations gain on the nodes, and no deviation gains more."""
    root = random_tree(seed)
    game = build_tree(root)
    policy = random_policy(game, seed)
    play = behaviour(game, policy)

    def against(deviation: TreeplexPolicy) -> float:
        other = behaviour(game, deviation)
        first = {k: (other if k[0] == 0 else play)[k] for k in play}
        second = {k: (other if k[0] == 1 else play)[k] for k in play}
        return expectation(root, first) - expectation(root, second)

    gap = float(game.duality_gap(policy))
    assert against(game.best_response(policy)) == pytest.approx(gap, abs=1e-12)
    for k in range(3):
        assert against(random_policy(game, k)) <= gap + 1e-12


def kuhn() -> Node:
    def deal(mine: int, yours: int) -> Node:
        won = 1.0 if mine > yours else -1.0
        call = {"pass": Payoff(-1.0), "bet": Payoff(2 * won)}
        answer = {"pass": Payoff(1.0), "bet": Payoff(2 * won)}
        after = Decision(0, f"{mine}pb", call)
        passed = Decision(1, f"{yours}p", {"pass": Payoff(won), "bet": after})
        bet = Decision(1, f"{yours}b", answer)
        return Decision(0, f"{mine}", {"pass": passed, "bet": bet})

    return Chance([(1 / 6, deal(i, j)) for i in range(3) for j in range(3) if i != j])


def test_kuhn_from_its_rules() -> None:
    game = build_tree(kuhn(), dilation.kroer)
    assert (game.tree.states, game.tree.sequences) == (12, 26)
    assert exact.nash(game).value == pytest.approx(-1 / 18, abs=1e-14)
    assert game.tree.labels[: game.tree.split] == ("0", "1", "2", "0pb", "1pb", "2pb")
    assert game.tree.actions[:4] == ("", "", "pass", "bet")


def test_leaves_of_the_same_sequences_are_one_entry() -> None:
    coin = Chance([(0.25, Payoff(4.0)), (0.75, Payoff(-4.0))])
    game = build_tree(Decision(0, "only", {"a": coin, "b": Payoff(0.5)}))
    assert game.payoff.tolist() == [-2.0, 0.5]
    assert game.chance.tolist() == [1.0, 1.0]


def test_the_order_of_the_walk_is_the_order_of_the_data() -> None:
    game = build_tree(
        Decision(
            0,
            "r",
            {"x": Decision(0, "s", {"l": Payoff(0.0)}), "y": Decision(0, "t", {"m": Payoff(1.0)})},
        )
    )
    assert game.tree.labels == ("r", "s", "t")
    assert game.tree.actions[2:] == ("x", "y", "l", "m")


def leaf(value: float = 0.0) -> Node:
    return Payoff(value)


@pytest.mark.parametrize(
    ("root", "word"),
    [
        (Chance([(0.5, leaf()), (0.4, leaf())]), "sum to 1"),
        (Chance([(1.5, leaf()), (-0.5, leaf())]), "sum to 1"),
        (Decision(0, "s", {"a": leaf(float("nan")), "b": leaf()}), "finite"),
        (Decision(0, "s", {}), "no actions"),
        (Decision(2, "s", {"a": leaf()}), "player 0 or 1"),
        (
            Decision(
                0, "r", {"a": Decision(0, "s", {"c": leaf()}), "b": Decision(0, "s", {"c": leaf()})}
            ),
            "imperfect recall",
        ),
        (
            Decision(
                1, "r", {"a": Decision(0, "s", {"c": leaf()}), "b": Decision(0, "s", {"d": leaf()})}
            ),
            "different actions",
        ),
    ],
)
def test_refusals_are_sentences(root: Node, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        build_tree(root)
    assert str(caught.value).endswith(".")


def test_both_players_may_have_a_state_of_one_name() -> None:
    builder = TreeBuilder()
    mine = builder.state(0, "s", (0, 1), (0, 1))
    for a in mine:
        for b in builder.state(1, "s", (0, 1), (a, 1)):
            builder.payoff((a, b), 1.0, float(a == b - 2))
    game = builder.finish()
    assert game.tree.labels == ("s", "s")
    assert exact.nash(game).value == pytest.approx(0.5, abs=1e-14)
