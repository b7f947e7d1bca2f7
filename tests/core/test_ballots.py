"""Ballots in all the forms that people write: with ties, by ranks, counted, in tables."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from mpo_games.games.builders import from_ballots

# The lowest supported versions are tested without the extras.
pd = pytest.importorskip("pandas")


def rates(*arguments: Any, **options: Any) -> list[list[float]]:
    return from_ballots(*arguments, **options).preferences[0].tolist()


def test_ties_by_hand() -> None:
    # Two voters a > b = c, one voter b = c > a.
    game = from_ballots([["a", ("b", "c")], ["a", {"c", "b"}], [["b", "c"], "a"]], "abc")
    third = 1 / 3
    np.testing.assert_allclose(
        game.preferences[0],
        [[0.5, 2 * third, 2 * third], [third, 0.5, 0.5], [third, 0.5, 0.5]],
    )


TIED: dict[str, Any] = {
    "tuple": ["a", ("b", "c"), "d"],
    "list": ["a", ["c", "b"], "d"],
    "set": ("a", {"b", "c"}, "d"),
    "frozenset": ["a", frozenset("bc"), "d"],
    "the last place": ["a", ("b", "c")],
    "iterator": iter(["a", ("b", "c"), "d"]),
    "ranks": {"d": 4, "b": 2, "a": 1, "c": 2},
    "dense ranks": {"d": 3, "b": 2, "a": 1, "c": 2},
    "average ranks": pd.Series({"d": 4, "b": 2.5, "a": 1, "c": 2.5}),
    "series of ranks": pd.Series({"a": 9, "b": 5, "c": 5, "d": 1}).rank(ascending=False),
}


@pytest.mark.parametrize("kind", TIED)
def test_all_spellings_of_a_tie_are_one(kind: str) -> None:
    assert rates([TIED[kind]], "abcd") == [
        [0.5, 1.0, 1.0, 1.0],
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.0, 0.0, 0.5],
    ]


def test_a_candidate_may_be_a_tuple() -> None:
    names = [("x", 1), ("y", 2), "z"]
    game = from_ballots([[("x", 1), (("y", 2), "z")]], names)
    assert game.responses == tuple(names)
    assert game.preferences[0].tolist() == [[0.5, 1, 1], [0, 0.5, 0.5], [0, 0.5, 0.5]]


def test_indices_may_be_tied() -> None:
    assert rates([[2, (0, 1)]]) == [[0.5, 0.5, 0], [0.5, 0.5, 0], [1, 1, 0.5]]
    assert rates(np.array([[2, 0, 1]])) == [[0.5, 1, 0], [0, 0.5, 0], [1, 1, 0.5]]


COUNTED: dict[str, Any] = {
    "Counter": Counter({"abc": 3, "cab": 1}),
    "mapping": {("a", "b", "c"): 3, ("c", "a", "b"): 1.0},
    "value_counts": pd.Series(["abc", "cab", "abc", "abc"]).value_counts(),
    "generator": (ballot for ballot in ["abc", "abc", "cab", "abc"]),
    "series": pd.Series(["abc", "cab", "abc", "abc"]),
    "voters": {1: "abc", 2: "abc", 3: "cab", 4: "abc"}.values(),
    "table": pd.DataFrame({"b": [2, 2, 3, 2], "a": [1, 1, 2, 1], "c": [3, 3, 1, 3]}),
    "table with gaps": pd.DataFrame(
        {"b": [2, 2, None, 2], "a": [1, 1, 2, 1], "c": [None, 3, 1, 3]}
    ),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_all_ways_of_counting_are_one(kind: str) -> None:
    game = from_ballots(COUNTED[kind], "abc")
    assert game.responses == ("a", "b", "c")
    np.testing.assert_allclose(
        game.preferences[0], [[0.5, 1, 0.75], [0, 0.5, 0.75], [0.25, 0.25, 0.5]]
    )


def test_a_table_names_its_candidates() -> None:
    game = from_ballots(COUNTED["table"])
    assert game.responses == ("b", "a", "c")
    order = [1, 0, 2]
    np.testing.assert_array_equal(
        game.preferences[0][np.ix_(order, order)], rates(COUNTED["table"], "abc")
    )


WRONG: dict[str, tuple[Any, str]] = {
    "a set": ([{"a", "b"}], "must have an order"),
    "a frozenset, counted": (Counter({frozenset("ab"): 2}), "must have an order"),
    "a set of ballots": ({"ab", "ba"}, "order"),
    "pairs with counts": (Counter({"ab": 2}).items(), "order"),
    "scores": ([{"a": 0.9, "b": 0.1}], "rank, from 1"),
    "ratings": ([{"a": 5, "b": 3}], "rank, from 1"),
    "infinite ranks": ([{"a": 1, "b": np.inf}], "rank, from 1"),
    "ranks as text": ([{"a": "1", "b": "2"}], "must be numbers"),
    "by voter": ({"x": "ab", "y": "ba"}, r"pass `\.values\(\)`"),
    "negative counts": ({"ab": -1}, "non-negative"),
    "no number of voters": ({"ab": np.nan}, "finite"),
    "unknown in a tie": ([["a", ("b", "z")]], "'z'"),
    "twice in a tie": ([["a", ("a", "b")]], "'a' twice"),
    "not a ballot": ([5], "ballot"),
    "no ballot": ([None], "ballot"),
    "masked": ([np.ma.array(["a", "b"], mask=[0, 1])], "ballot"),
    "a table in a list": ([pd.DataFrame({"a": [1]})], "ballot"),
    "names in a table": (pd.DataFrame({"first": ["a"], "second": ["b"]}), "ballots"),
    "a table without names": (pd.DataFrame([[0, 1], [1, 0]]), r"pass `\.to_numpy\(\)`"),
    "one number": (5, "ballots"),
    "nothing": (None, "ballots"),
    "an unhashable candidate": ([[{"a": 1}]], "candidates"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_has_no_order_is_refused_in_a_sentence(kind: str) -> None:
    ballots, says = WRONG[kind]
    with pytest.raises(ValueError, match=says) as caught:
        from_ballots(ballots, "abc")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "candidates", [{"a", "b"}, {"a": 0, "b": 1}, ["a", None], ["a", "a"], 5, []]
)
def test_candidates_have_an_order_too(candidates: Any) -> None:
    with pytest.raises(ValueError, match="`candidates` must"):
        from_ballots(["ab"], candidates)


def test_counts_come_once() -> None:
    with pytest.raises(ValueError, match="`counts` must not be given"):
        from_ballots({"ab": 2}, "ab", counts=[1])
    with pytest.raises(ValueError, match="`ballots` must hold indices"):
        from_ballots([[True, False]])


def test_an_index_that_is_a_name_is_refused() -> None:
    """10^9 candidates would take all memory."""
    with pytest.raises(ValueError, match="below 5000"):
        from_ballots([[0, 10**9]])
