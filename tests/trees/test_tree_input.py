"""What people write in trees: chances and payoffs of any kind, actions in any order."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.games.tree_builder import Chance, Decision, Node, Payoff, build_tree

WIN, LOSS = Payoff(1.0), Payoff(-1.0)


def coin(first: Any, second: Any) -> Node:
    return Chance([(first, WIN), (second, LOSS)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.nan, np.nan),
        (np.float32("nan"), 0.5),
        (np.inf, 0.5),
        (-np.inf, np.inf),
        (0.5, 0.4),
        (1.5, -0.5),
        (0.0, 0.0),
        ("0.5", 0.5),
        (None, 1.0),
        (0.5j, 0.5),
        ([0.5], 0.5),
        (Decimal("NaN"), 1.0),
    ],
)
def test_chances_that_are_none_are_refused(first: Any, second: Any) -> None:
    for root in (coin(first, second), Decision(0, "s", {"a": coin(first, second), "b": WIN})):
        with pytest.raises(ValueError, match=r"[Cc]hance|`outcomes`") as caught:
            build_tree(root)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        {},
        {0.5: WIN, 0.50001: LOSS},
        {(0.5, WIN), (0.5, LOSS)},
        [0.5, WIN],
        [(0.5, WIN, LOSS)],
        [WIN],
        "ab",
        None,
        WIN,
    ],
)
def test_outcomes_are_pairs_in_an_order(outcomes: Any) -> None:
    with pytest.raises(ValueError, match=r"^`outcomes` .*must .*\.$"):
        build_tree(Chance(outcomes))


@pytest.mark.parametrize("value", [np.nan, np.inf, "1", None, 1j, [1.0, 2.0], {}, Decimal("NaN")])
def test_payoffs_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"payoff.*must.*\.$"):
        build_tree(Decision(0, "s", {"a": Payoff(value), "b": WIN}))


@pytest.mark.parametrize("node", [None, 1.0, {"a": WIN}, [(1.0, WIN)], "s", Payoff])
def test_what_is_no_node_is_refused(node: Any) -> None:
    for root in (node, Chance([(1.0, node)]), Decision(0, "s", {"a": node})):
        with pytest.raises(ValueError, match="must be a `Chance`, a `Decision` or a `Payoff`, got"):
            build_tree(root)


@pytest.mark.parametrize("actions", [[("a", WIN)], ["a"], {"a"}, None, "ab"])
def test_actions_are_a_mapping(actions: Any) -> None:
    with pytest.raises(ValueError, match="`actions` at 's' must be a mapping"):
        build_tree(Decision(0, "s", actions))


@pytest.mark.parametrize("player", [2, -1, np.nan, 0.0, "0", None])
def test_players_are_0_and_1(player: Any) -> None:
    with pytest.raises(ValueError, match="player 0 or 1"):
        build_tree(Decision(player, "s", {"a": WIN}))


def test_a_state_has_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        build_tree(Decision(0, ["s"], {"a": WIN}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outcomes",
    [
        ((p, leaf) for p, leaf in [(0.5, WIN), (0.5, LOSS)]),
        zip([Fraction(1, 2), 0.5], [WIN, LOSS], strict=True),
        [[np.float32(0.5), WIN], [np.float16(0.5), LOSS]],
        [(Decimal("0.5"), Payoff(Fraction(1))), (np.array(0.5), Payoff(np.int64(-1)))],
        [(0.5, WIN), (0.5, Payoff(Decimal(-1))), (-0.0, LOSS)],
    ],
)
def test_numbers_and_containers_of_all_kinds(outcomes: Any) -> None:
    game = build_tree(Chance(outcomes))
    assert float(game.value(game.initial_policy())) == 0.0
    assert game.chance.sum() == 1.0


def test_actions_are_told_apart_by_name_at_every_node() -> None:
    """Matching pennies, whose second node lists its actions the other way round."""
    game = build_tree(
        Decision(
            0,
            "mine",
            {
                "heads": Decision(1, "yours", {"heads": WIN, "tails": LOSS}),
                "tails": Decision(1, "yours", {"tails": WIN, "heads": LOSS}),
            },
        )
    )
    assert game.tree.actions[2:] == ("heads", "tails", "heads", "tails")
    nash = mg.exact.nash(game)
    assert nash.value == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(nash.policy.probs[2:], 0.5)
    probs = np.array([1, 1, 1, 0, 1, 0.0])
    both_heads = mg.TreeplexPolicy.from_probs(game.tree, game.geometry, probs)
    assert float(game.value(both_heads)) == 1.0


def test_policies_on_trees_have_no_names() -> None:
    tree = build_tree(Decision(0, "s", {"a": WIN, "b": LOSS}))
    named = {"root": 1, "other root": 1, "b": 1, "a": 0}
    with pytest.raises(ValueError, match="`probs` must name 0, 1, 2, 3, got 'root'"):
        mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, named)  # type: ignore[arg-type]
