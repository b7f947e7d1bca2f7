"""Any input to the core's constructors, builders and functions is a result or a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strange import anything, numbers, payoffs, preferences, tables
from verdict import inputs, tried

import mpo_games as mg
from mpo_games.games import builders, families
from mpo_games.games.tree_builder import Chance, Decision, Payoff

KUHN_LIKE = mg.build_tree(
    Decision(
        0, "a", {"x": Payoff(1.0), "y": Decision(1, "b", {"l": Payoff(-1.0), "r": Payoff(2.0)})}
    )
)
GAMES = [mg.load("rps"), mg.load("comal"), KUHN_LIKE]

SETTINGS: tuple[Callable[..., Any], ...] = (
    mg.APMD,
    mg.Adaptive,
    mg.AgainstMixture,
    mg.AnnealedMMD,
    mg.DCFR,
    mg.Decaying,
    mg.EGPO,
    mg.Ema,
    mg.Every,
    mg.Extragradient,
    mg.ExtragradientRMPlus,
    mg.GradientAscent,
    mg.M2WU,
    mg.MMD,
    mg.MPO,
    mg.MPO_RT,
    mg.Measured,
    mg.MirrorDescent,
    mg.NashMD,
    mg.OptimisticMD,
    mg.OptimisticMPO,
    mg.RTCFRPlus,
    mg.SmoothPRMPlus,
    mg.SmoothedEntropy,
    mg.WhenGapFell,
    mg.WhenInnerSolved,
    mg.log_spaced,
    mg.theory.rate_bound,
)


@st.composite
def calls(draw: st.DrawFn, functions: Any, value: Any) -> Callable[[], Any]:
    """A call of one of the functions, with a value for each parameter that needs one."""
    function = draw(st.sampled_from(functions))
    given = {
        name: draw(value)
        for name, p in inspect.signature(function).parameters.items()
        if p.default is p.empty or (isinstance(p.default, float) and draw(st.booleans()))
    }
    return lambda: function(**given)


@inputs(400)
@given(calls(SETTINGS, anything))
def test_settings(call: Callable[[], Any]) -> None:
    """A solver that is accepted takes steps."""
    solver = tried(call)
    if hasattr(solver, "step"):
        for game in GAMES:
            tried(lambda game=game: mg.solve(game, solver, 6).policy)


@inputs(300)
@given(tables)
def test_arrays(table: Any) -> None:
    for make in (mg.MatrixGame, mg.PreferenceGame, mg.TabularPolicy.from_probs, mg.probabilities):
        tried(lambda make=make: make(table))


@inputs(200)
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


@inputs(100)
@given(st.lists(anything, max_size=4), anything)
def test_from_function(responses: Any, answer: Any) -> None:
    tried(lambda: builders.from_function(lambda a, b: answer, responses))


@inputs(150)
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


@inputs(250)
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


KEYWORDS = ("budget", "tol", "seed", "at", "policy", "magnet", "resume", "metrics", "checkpoint")


@inputs(200)
@given(st.sampled_from(GAMES), st.dictionaries(st.sampled_from(KEYWORDS), anything, max_size=2))
def test_arguments_of_solve(game: Any, options: dict[str, Any]) -> None:
    # Texts may name files that can be written.
    if isinstance(options.get("checkpoint"), str | bytes):
        del options["checkpoint"]
    if isinstance(options.get("budget"), int | float) and not options["budget"] < 1e4:
        options["budget"] = 10.0
    tried(lambda: mg.solve(game, mg.MMD(0.1, 0.1), **{"budget": 20, **options}).policy)


@pytest.mark.parametrize("noun", ["game", "solver"])
@inputs(60)
@given(anything)
def test_nouns_of_solve(noun: str, thing: Any) -> None:
    pair = {"game": GAMES[0], "solver": mg.MMD(0.1, 0.1), noun: thing}
    tried(lambda: mg.solve(budget=20, **pair))


FAMILIES = (
    families.random_preferences,
    families.random_zero_sum,
    families.random_antisymmetric,
    families.badly_scaled,
    families.low_rank_cyclic,
    families.bradley_terry,
    families.condorcet_cycle,
    families.planted_equilibrium,
    families.many_equilibria,
)


@inputs(100)
@given(calls(FAMILIES, st.one_of(st.integers(-2, 40), anything)))
def test_families(call: Callable[[], Any]) -> None:
    tried(call)


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


@inputs(100)
@given(
    names, st.dictionaries(st.sampled_from(["n", "strength", "players", "x"]), anything, max_size=1)
)
def test_names(name: str, parameters: dict[str, Any]) -> None:
    tried(lambda: mg.load(name, **parameters))
