"""Names of responses and actions: data is aligned by them, and results carry them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
from mpo_games.cli import tables
from mpo_games.games.builders import (
    from_ballots,
    from_function,
    from_scores,
    from_wins,
    majority_of,
    mean_of,
)

# The lowest supported versions are tested without the extras.
pd = pytest.importorskip("pandas")

ABC = ["a", "b", "c"]
WINS = pd.DataFrame([[0, 3, 1], [1, 0, 5], [4, 2, 0]], ABC, ABC)
RATES = from_wins(WINS.to_numpy()).preferences[0]
ORDERS = [[0, 1, 2], [2, 0, 1], [1, 0, 2]]


def shuffled(table: pd.DataFrame, order: list[int]) -> pd.DataFrame:
    """The same table with its columns in another order than its rows."""
    return table.iloc[:, order]


SQUARE: dict[str, Callable[[pd.DataFrame], Any]] = {
    "DataFrame": lambda t: t,
    "mappings": lambda t: t.to_dict(orient="index"),
    "mapping of series": lambda t: {name: t.loc[name] for name in t.index},
    "text and numbers": lambda t: t.set_axis([1, 2, 3]).set_axis(
        ["123"[ABC.index(name)] for name in t.columns], axis=1
    ),
    "numbers": lambda t: t.set_axis([7, 8, 9]).set_axis(
        [7 + ABC.index(name) for name in t.columns], axis=1
    ),
    "positions": lambda t: t.set_axis([0, 1, 2]).set_axis(
        [ABC.index(name) for name in t.columns], axis=1
    ),
}


@pytest.mark.parametrize("kind", SQUARE)
@pytest.mark.parametrize("order", ORDERS)
def test_columns_are_brought_into_the_order_of_the_rows(kind: str, order: list[int]) -> None:
    wins = SQUARE[kind](shuffled(WINS, order))
    np.testing.assert_array_equal(from_wins(wins).preferences[0], RATES)
    rates = SQUARE[kind](shuffled(pd.DataFrame(RATES, ABC, ABC), order))
    np.testing.assert_array_equal(mg.PreferenceGame(rates).preferences[0], RATES)
    np.testing.assert_allclose(mg.cyclicity.fit_bradley_terry(rates).sum(), 0.0, atol=1e-12)
    assert mg.cyclicity.cyclic_share(rates) == mg.cyclicity.cyclic_share(RATES)


@pytest.mark.parametrize("order", ORDERS)
def test_rows_in_another_order_are_another_order_of_responses(order: list[int]) -> None:
    game = from_wins(WINS.iloc[order])
    assert game.responses == tuple(ABC[i] for i in order)
    np.testing.assert_array_equal(game.preferences[0], RATES[np.ix_(order, order)])
    again = mg.PreferenceGame(
        pd.DataFrame(game.preferences[0], game.responses, game.responses), ABC
    )
    assert again.responses == ("a", "b", "c")
    np.testing.assert_array_equal(again.preferences[0], RATES)


@pytest.mark.parametrize("rows", [None, ABC])
@pytest.mark.parametrize("columns", [None, ABC])
def test_names_on_one_side_are_those_of_the_other(rows: Any, columns: Any) -> None:
    game = from_wins(pd.DataFrame(WINS.to_numpy(), rows, columns))
    assert game.responses == (tuple(ABC) if rows or columns else ())
    np.testing.assert_array_equal(game.preferences[0], RATES)


def test_contexts_have_names_and_their_tables_any_order() -> None:
    found = from_wins({"x": WINS, "y": WINS.iloc[[2, 0, 1], [1, 0, 2]]})
    assert (found.responses, found.contexts) == (("a", "b", "c"), ("x", "y"))
    np.testing.assert_array_equal(found.preferences, [RATES, RATES])
    text = str(mg.cyclicity.report(found)).splitlines()
    assert [line.split()[0] for line in text[2:4]] == ["x", "y"]
    policy = found.policy({"y": {"b": 1, "a": 0, "c": 0}, "x": {"a": 1, "b": 0, "c": 0}})
    assert policy.by_name() == ({"a": 1, "b": 0, "c": 0}, {"a": 0, "b": 1, "c": 0})


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(ABC, ["a", "b", "d"]), (ABC, [1, 2, 3]), (None, [1, 2, 3]), (None, ["1", "2", "3"])],
)
def test_names_that_contradict_each_other_are_refused(rows: Any, columns: Any) -> None:
    table = pd.DataFrame(WINS.to_numpy(), rows, columns)
    with pytest.raises(ValueError, match="`counts` must name its rows and its columns alike"):
        from_wins(table)


def test_scores_and_criteria_keep_their_names() -> None:
    scores = pd.Series([3.0, 1.0, 2.0], index=[2, 0, 1])
    assert from_scores(scores).responses == (2, 0, 1)
    assert from_scores(scores.to_dict()).responses == (2, 0, 1)
    criteria = pd.DataFrame([[1, 2, 3], [3, 1, 2]], ["short", "kind"], ABC)
    plain = mean_of(criteria.to_numpy(), [3, 1])
    for given in (criteria, {"short": criteria.loc["short"], "kind": criteria.loc["kind", ::-1]}):
        for weights in ({"kind": 1, "short": 3}, pd.Series([1, 3], ["kind", "short"]), [3, 1]):
            game = mean_of(given, weights)
            assert game.responses == ("a", "b", "c")
            np.testing.assert_array_equal(game.preferences, plain.preferences)
        assert majority_of(given).responses == ("a", "b", "c")
    permuted = pd.Series([1, 3], index=[1, 0])
    np.testing.assert_array_equal(
        mean_of(criteria.to_numpy(), permuted).preferences, plain.preferences
    )
    for weights, data in (
        ({"kind": 1, "rude": 3}, criteria),
        ({"kind": 1, "short": 3}, [[1], [2]]),
    ):
        with pytest.raises(ValueError, match="`weights` must name"):
            mean_of(data, weights)


def test_a_judges_responses_name_themselves() -> None:
    def prefers(a: int, b: int) -> float:
        return float(a > b)

    plain = from_function(prefers, [3, 1, 2])
    assert plain.responses == (3, 1, 2)
    for given in (
        iter([3, 1, 2]),
        (x for x in (3, 1, 2)),
        pd.Series([3, 1, 2]),
        np.array([3, 1, 2]),
    ):
        game = from_function(prefers, given)
        assert game.responses == (3, 1, 2)
        np.testing.assert_array_equal(game.preferences, plain.preferences)
    for named in ({"x": 3, "y": 1, "z": 2}, pd.Series([3, 1, 2], ["x", "y", "z"])):
        assert from_function(prefers, named).responses == ("x", "y", "z")
    assert from_function(lambda a, b: 0.5, [[1], [2]]).responses == ()
    for wrong in ({3, 1, 2}, {3: "x"}.items(), pd.DataFrame(WINS), 5, None):
        with pytest.raises(ValueError, match="`responses` must be"):
            from_function(prefers, wrong)
    for answer in (None, "0.5", [0.5, 0.5], 1j, np.nan, 1.1):
        with pytest.raises(ValueError, match="`prefers` must"):
            from_function(lambda a, b, answer=answer: answer, [1, 2])


GAME = mg.MatrixGame(pd.DataFrame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], ABC, ["x", "y", "z"]))


def test_policies_are_given_by_name() -> None:
    plain = GAME.policy([0.2, 0.3, 0.5], [1, 0, 0])
    for row in ({"c": 0.5, "a": 0.2, "b": 0.3}, pd.Series([0.5, 0.2, 0.3], ["c", "a", "b"])):
        policy = GAME.policy(row, {"z": 0, "y": 0, "x": 1})
        np.testing.assert_array_equal(policy.coordinates, plain.coordinates)
        assert policy.by_name()[0] == pytest.approx({"a": 0.2, "b": 0.3, "c": 0.5})
    counted = mg.MatrixGame(GAME.payoff).policy(pd.Series([0.5, 0.2, 0.3], [2, 0, 1]), [1, 0, 0])
    np.testing.assert_array_equal(counted.coordinates, plain.coordinates)
    for wrong in ({"a": 0.5, "b": 0.5, "d": 0}, {"x": 1, "y": 0, "z": 0}):
        with pytest.raises(ValueError, match="`row` must name 'a', 'b', 'c', got"):
            GAME.policy(wrong, [1, 0, 0])
    with pytest.raises(ValueError, match="`row` must name 'a', 'b', 'c', got 'a'"):
        GAME.policy({"a": 1.0}, [1, 0, 0])
    rows = mg.TabularPolicy.from_probs(pd.DataFrame([[0.5, 0.5]], columns=["l", "r"]))
    assert rows.by_name() == ({"l": 0.5, "r": 0.5},)


@pytest.mark.parametrize("solver", [mg.MPO(0.3, 0.1, 50), mg.AutoMPO(), mg.RegretMatching()])
def test_the_result_has_the_names(solver: Any, tmp_path: Path) -> None:
    solution, averaged = mg.solve(GAME, solver, 300), mg.solve(GAME, mg.Averaged(solver), 300)
    policies = [solution.policy, solution.best, averaged.state.memory["average"]]
    policies += [mg.Solution.load(solution.save(tmp_path / "run"), GAME).policy]
    policies += [mg.exact.nash(GAME).policy, mg.exact.qre(GAME, 0.1).policy]
    for policy in policies:
        assert [tuple(row) for row in policy.by_name()] == [("a", "b", "c"), ("x", "y", "z")]
    lines = list(tables.strategies({"last": solution.policy}))
    assert [line.split()[0] for line in lines if "." in line] == ["a", "b", "c", "x", "y", "z"]


def test_a_report_names_the_condorcet_winner() -> None:
    game = from_scores({"tea": 2.0, "milk": 1.0, "water": 0.0})
    assert "tea" in str(mg.cyclicity.report(game)).splitlines()[2].split()
    assert "none" in str(mg.cyclicity.report(mg.load("comal"))).splitlines()[2].split()


def test_names_for_an_array_and_another_order_for_a_table() -> None:
    table = np.array(GAME.payoff)
    assert mg.MatrixGame(table, ["abc", "xyz"]).actions == (("a", "b", "c"), ("x", "y", "z"))
    turned = mg.MatrixGame(pd.DataFrame(table, ABC, ["x", "y", "z"]), ["cab", "xzy"])
    np.testing.assert_array_equal(turned.payoff, table[np.ix_([2, 0, 1], [0, 2, 1])])
    assert from_ballots(["ab"], candidates="ba").responses == ("b", "a")
    for wrong in (["abc"], ["ab", "xyz"], ["aab", "xyz"], [{"a", "b", "c"}, "xyz"]):
        with pytest.raises(ValueError, match="`actions` must"):
            mg.MatrixGame(table, wrong)
    with pytest.raises(ValueError, match="`payoff` must name 'a', 'b', 'd'"):
        mg.MatrixGame(pd.DataFrame(table, ABC), ["abd", "xyz"])
    with pytest.raises(ValueError, match="`responses` must"):
        mg.PreferenceGame(RATES, responses={"a": 0, "b": 1, "c": 2})


def test_a_missing_name_is_named() -> None:
    square = {a: dict.fromkeys("abc", 1.0) for a in "abc"}
    short = {**square, "b": {"a": 1.0, "c": 1.0}}
    for make in (from_wins, mg.PreferenceGame, mg.MatrixGame):
        with pytest.raises(ValueError, match="must name 'a', 'b', 'c', got 'a', 'c'"):
            make(short)  # type: ignore[operator]
    with pytest.raises(ValueError, match="the rows 'a', 'b' and the columns 'a', 'b', 'c'"):
        from_wins({a: square[a] for a in "ab"})
    with pytest.raises(ValueError, match="`row` must name 'a', 'b', 'c', got 'a', 'b'"):
        GAME.policy({"a": 0.5, "b": 0.5}, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="`probs` must name 'a', 'b', 'c', got 'a', 'd'"):
        mg.PreferenceGame(RATES, responses="abc").policy({"a": 0.5, "d": 0.5})
