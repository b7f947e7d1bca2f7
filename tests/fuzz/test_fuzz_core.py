"""Any input to the core's constructors, builders and functions is a result or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import right
from hypothesis import given
from hypothesis import strategies as st
from right import GAMES
from strange import anything, changed, numbers, payoffs, preferences, tables
from verdict import inputs, tried

import mpo_games as mg
from mpo_games.games import builders
from mpo_games.games.tree_builder import Chance, Decision, Payoff

inner = st.one_of(tables, anything)


@inputs(250)
@given(changed(right.solvers, inner))
def test_settings(call: Callable[[], Any]) -> None:
    """A solver that is accepted takes steps."""
    solver = tried(call)
    if solver is not None:
        for game in GAMES:
            tried(lambda game=game: mg.solve(game, solver, 6).policy)


@pytest.mark.parametrize("kind", ["games", "trees", "policies", "measures", "runs"])
@inputs(100)
@given(st.data())
def test_functions(kind: str, data: st.DataObject) -> None:
    tried(data.draw(changed(getattr(right, kind), inner)))


@inputs(150)
@given(tables)
def test_arrays(table: Any) -> None:
    for make in (mg.MatrixGame, mg.PreferenceGame, mg.TabularPolicy.from_probs, mg.probabilities):
        tried(lambda make=make: make(table))


@inputs(100)
@given(
    st.sampled_from(
        [
            builders.from_wins,
            builders.from_ballots,
            builders.from_scores,
            builders.majority_of,
            builders.mean_of,
        ]
    ),
    tables,
)
def test_builders(build: Callable[[Any], Any], data: Any) -> None:
    tried(lambda: build(data))


@inputs(50)
@given(st.lists(anything, max_size=4), anything)
def test_from_function(responses: Any, answer: Any) -> None:
    tried(lambda: builders.from_function(lambda a, b: answer, responses))


@inputs(75)
@given(st.one_of(payoffs(), preferences()), st.booleans(), st.integers(0, 5))
def test_oracles_and_solvers(table: Any, preference: bool, which: int) -> None:
    game = tried(lambda: (mg.PreferenceGame if preference else mg.MatrixGame)(table))
    if game is None:
        return
    tried(lambda: float(np.max(game.duality_gap(game.initial_policy()))))
    found = tried(lambda: mg.exact.nash(game))
    if found is not None:
        assert np.isfinite(found.policy.probs).all()
        assert np.isfinite(found.value).all()
    solvers = (
        mg.AutoMPO(),
        mg.CFRPlus(),
        mg.MPO(0.3, 0.1, 5),
        mg.OptimisticMD(0.5),
        mg.SmoothPRMPlus(0.1),
        mg.FictitiousPlay(),
    )
    tried(lambda: mg.solve(game, solvers[which], 40).policy.probs)


labels = st.one_of(st.text(max_size=2), st.integers(0, 2), st.sampled_from([None, 0.5, (1,), "\n"]))
chances = st.one_of(st.sampled_from([0.5, 0.25, 1.0, 0.0]), numbers)
nodes: st.SearchStrategy[Any] = st.recursive(
    st.builds(Payoff, st.one_of(st.integers(-2, 2), numbers, anything)),
    lambda inner: st.one_of(
        st.builds(Chance, st.lists(st.tuples(st.just(0.5), inner), min_size=2, max_size=2)),
        st.builds(Chance, st.lists(st.tuples(chances, inner), max_size=3)),
        st.builds(
            Decision,
            st.one_of(st.integers(0, 1), anything),
            labels,
            st.dictionaries(labels, inner, max_size=3),
        ),
        st.builds(
            Decision,
            st.integers(0, 1),
            st.text("ab", min_size=8, max_size=8),
            st.dictionaries(st.sampled_from("lr"), inner, min_size=1),
        ),
        st.builds(Decision, anything, anything, anything),
        st.builds(Chance, anything),
    ),
    max_leaves=8,
)


@inputs(125)
@given(st.one_of(nodes, anything), st.integers(0, 3))
def test_trees(root: Any, which: int) -> None:
    game = tried(lambda: mg.build_tree(root))
    if game is None:
        return
    tried(lambda: float(np.max(game.duality_gap(game.initial_policy()))))
    found = tried(lambda: mg.exact.nash(game))
    assert found is None or np.isfinite(found.value).all()
    solver = (mg.AutoMPO(), mg.CFRPlus(), mg.MPO(0.3, 0.1, 5), mg.OptimisticMD(0.5))[which]
    tried(lambda: mg.solve(game, solver, 20).policy.probs)


names = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "rps",
            "comal",
            "kuhn_poker",
            "condorcet",
            "condorcet:n=5",
            "liars_dice:dice=2",
            "kuhn_poker(players=3)",
            "kuhn_poker(",
            "x.efg",
            "no.csv",
            "condorcet:n=1e9",
            "chess",
            "hex(board_size=9)",
            "matrix_rps",
            "normal_form_extensive_game(game=",
        ]
    ),
    st.text("rpskuhn_poker:=(),123.", max_size=16),
)


@inputs(50)
@given(
    names, st.dictionaries(st.sampled_from(["n", "strength", "players", "x"]), anything, max_size=1)
)
def test_names(name: str, parameters: dict[str, Any]) -> None:
    tried(lambda: mg.load(name, **parameters))
