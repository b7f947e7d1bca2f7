"""Numbers in the types of networks: sums of 1 up to their rounding, exact afterwards."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.games import families, tree_builder

# The lowest supported versions are tested without the extras.
torch = pytest.importorskip("torch")

TYPES: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "float64": lambda x: x,
    "float32 as a list": lambda x: x.astype(np.float32).tolist(),
    "float32 scalars": lambda x: [[np.float32(n) for n in row] for row in np.atleast_2d(x)],
    "seven digits": lambda x: x.round(7).tolist(),
    "tensor": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
    "half tensor": lambda x: torch.tensor(x, dtype=torch.float16),
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
}
LOOSE = {"float16": 2.0**-10, "half tensor": 2.0**-10, "bfloat16": 2.0**-7}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n", [2, 30])
def test_preferences(kind: str, n: int) -> None:
    scores = np.random.default_rng(0).normal(size=n)
    rates = sigmoid(scores[:, None] - scores)
    game = mg.PreferenceGame(TYPES[kind](rates))
    p = game.preferences[0]
    assert p.dtype == np.float64
    np.testing.assert_array_equal(p + p.T, np.ones((n, n)))
    np.testing.assert_allclose(p, rates, atol=LOOSE.get(kind, 1e-6))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n", [3, 100])
def test_distributions(kind: str, n: int) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(n), size=1)
    policy = mg.TabularPolicy.from_probs(TYPES[kind](probs))
    assert policy.coordinates.dtype == np.float64
    # What earlier releases took in float64 is kept as it is.
    exact = 1e-8 if isinstance(TYPES[kind](probs), list) and kind != "float32 scalars" else 1e-13
    np.testing.assert_allclose(np.exp(policy.log_probs).sum(), 1.0, rtol=exact)
    np.testing.assert_allclose(policy.probs, probs, rtol=4 * LOOSE.get(kind, 1e-6), atol=2e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_policies_of_games_and_trees(kind: str) -> None:
    row = np.ravel(np.random.default_rng(0).dirichlet(np.ones(3)))
    given = TYPES[kind](row)
    given = given[0] if kind == "float32 scalars" else given
    loose = {"rtol": 4 * LOOSE.get(kind, 1e-6), "atol": 2e-6}
    matrix = mg.MatrixGame(np.eye(3, dtype=np.float32)).policy(given, given)
    np.testing.assert_allclose(matrix.probs, [row, row], **loose)
    np.testing.assert_allclose(mg.load("comal").policy(given).probs, [row], **loose)
    leaves = {name: tree_builder.Payoff(1.0) for name in "abc"}
    tree = mg.build_tree(tree_builder.Decision(0, "s", leaves))
    whole = TYPES[kind](np.append([1.0, 1.0], row))
    whole = whole[0] if kind == "float32 scalars" else whole
    policy = mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, whole)
    np.testing.assert_allclose(policy.probs[2:], row, **loose)
    np.testing.assert_allclose(policy.probs[2:].sum(), 1.0, rtol=1e-8)
    planted = families.planted_equilibrium(given, given, np.random.default_rng(0))
    assert mg.exact.nash(planted).value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.tensor])
def test_chances(kind: Any) -> None:
    """The game of thirds in a coarse type is the game of thirds: its chances sum to 1."""
    thirds = [(kind(1 / 3), tree_builder.Payoff(kind(3.0 * i))) for i in range(3)]
    game = mg.build_tree(tree_builder.Chance(thirds))
    assert game.chance.dtype == game.payoff.dtype == np.float64
    assert game.chance.sum() == pytest.approx(1.0, abs=1e-15)
    assert game.payoff.sum() == pytest.approx(3.0, abs=1e-14)


def test_float64_that_was_taken_before_stays_to_the_last_bit() -> None:
    off = np.array([[0.1, 0.2, 0.7 + 9e-9], [0.25, 0.25, 0.5]])
    np.testing.assert_array_equal(mg.TabularPolicy.from_probs(off).coordinates, np.log(off))
    third = [(1 / 3, tree_builder.Payoff(1.0))] * 2 + [(1 / 3 + 1e-10, tree_builder.Payoff(1.0))]
    chance = mg.build_tree(tree_builder.Chance(third)).chance
    np.testing.assert_array_equal(chance, [np.add.reduceat([1 / 3, 1 / 3, 1 / 3 + 1e-10], [0])[0]])


@pytest.mark.parametrize(
    "probs",
    [
        [[0.333, 0.333, 0.333]],
        [[0.5, 0.5 + 2e-6]],
        np.array([[0.5, 0.5 + 1e-4]], dtype=np.float32),
        np.array([[0.5, 0.55]], dtype=np.float16),
        torch.tensor([[0.5, 0.55]], dtype=torch.bfloat16),
        np.full((1, 10**4), 1.05e-4, dtype=np.float16),
        [[1.00001, -0.00001]],
        [[1e308, 1e308]],
        [[True, True]],
    ],
)
def test_what_no_rounding_explains_is_refused(probs: Any) -> None:
    with pytest.raises(ValueError, match="`probs`"):
        mg.TabularPolicy.from_probs(probs)


@pytest.mark.parametrize(
    "rates",
    [
        [[0.5, 0.333], [0.666, 0.5]],
        np.array([[0.5, 0.3], [0.7001, 0.5]], dtype=np.float32),
        np.array([[0.5, 0.3], [0.72, 0.5]], dtype=np.float16),
        [[0.5, 1.00001], [-0.00001, 0.5]],
    ],
)
def test_preferences_that_no_rounding_explains_are_refused(rates: Any) -> None:
    with pytest.raises(ValueError, match="`preferences` must"):
        mg.PreferenceGame(rates)


def test_rounding_beyond_the_ends_is_cut_off() -> None:
    game = mg.PreferenceGame([[0.5, 1.0 + 1e-7], [-1e-7, 0.5]])
    assert game.preferences[0].tolist() == [[0.5, 1.0], [0.0, 0.5]]
    # Linear programs leave such probabilities.
    np.testing.assert_allclose(game.policy([1.0 + 1e-12, -1e-12]).probs, [[1, 0]], atol=1e-300)


def test_flags_and_whole_numbers() -> None:
    assert mg.MatrixGame([[True, False]]).payoff.tolist() == [[1.0, 0.0]]
    wins = mg.builders.from_wins(np.array([[False, True], [False, False]]))
    assert wins.preferences[0].tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert mg.load("rps").policy([1, 0, 0], np.array([0, 1, 0], np.int8)).probs.sum() == 2.0
