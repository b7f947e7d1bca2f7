"""The oracles of trees against published numbers, and against long runs of the solvers."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import DARK_HEX, GOOFSPIEL, LIARS_DICE, compiled
from hypothesis import given, settings
from hypothesis import strategies as st

import mpo_games as mg
from mpo_games import exact
from mpo_games.exact import trees as exact_trees
from mpo_games.exact.trees import nash_of_tree
from mpo_games.games.behavioural import BehaviouralGame, counterfactual_values
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Decision, Payoff, build_tree
from mpo_games.policies import dilation
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.policies.treeplex import TreeplexPolicy

VALUES = {
    "kuhn_poker": -1 / 18,
    "leduc_poker": -0.085606424078,
    LIARS_DICE: 1 / 16,
    DARK_HEX: 1 / 2,
    GOOFSPIEL: 0.0,
}


@pytest.mark.parametrize("name", VALUES)
def test_linear_programmes_reach_the_known_values(name: str) -> None:
    game = compiled(name)
    found = exact.nash(game)
    assert found.gap < 1e-13
    assert found.value == pytest.approx(VALUES[name], abs=1e-12)
    assert found.gap == game.duality_gap(found.policy)
    assert found.support.shape == found.policy.probs.shape
    assert (found.policy.plan[~found.support] <= exact.SUPPORT).all()


def matrix_as_tree(payoff: np.ndarray) -> SequenceFormGame:
    n, m = payoff.shape
    rows = {
        str(i): Decision(1, "column", {str(j): Payoff(float(payoff[i, j])) for j in range(m)})
        for i in range(n)
    }
    return build_tree(Decision(0, "row", rows))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_matrix_game_is_a_tree(n: int, m: int, seed: int) -> None:
    """Two programmes, two Newton iterations: the same values, the same QRE."""
    payoff = np.random.default_rng(seed).normal(size=(n, m))
    matrix, tree = mg.MatrixGame(payoff), matrix_as_tree(payoff)
    assert exact.nash(tree).value == pytest.approx(exact.nash(matrix).value, abs=1e-12)
    flat = exact.qre(matrix, 0.3).policy
    for game in (tree, BehaviouralGame(tree)):
        found = exact.qre(game, 0.3)
        policy = found.policy
        table = policy if isinstance(policy, TabularPolicy) else BehaviouralGame(tree).table(policy)
        assert np.allclose(table.probs[0], flat.probs, rtol=0, atol=1e-10)
        assert found.gap < 1e-13


def test_payoffs_of_any_scale() -> None:
    game = compiled("kuhn_poker")
    for scale in (0.0, 1e-9, 1e9):
        found = exact.nash(game.with_payoff(scale * game.payoff))
        assert found.value == pytest.approx(-scale / 18, rel=1e-12, abs=1e-300)
        assert found.gap <= 1e-14 * scale


def test_one_player_alone() -> None:
    game = build_tree(Decision(1, "only", {"a": Payoff(2.0), "b": Payoff(-3.0)}))
    assert exact.nash(game).value == -3.0
    wanted = np.exp([-2.0, 3.0]) / np.exp([-2.0, 3.0]).sum()
    assert np.allclose(exact.qre(game, 1.0).policy.probs[2:], wanted)
    view = BehaviouralGame(game)
    assert np.allclose(view.treeplex(exact.qre(view, 1.0).policy).probs[2:], wanted)


def test_nobody_decides() -> None:
    game = build_tree(Payoff(2.0))
    for found in (exact.nash(game), exact.nash(BehaviouralGame(game))):
        assert found.value == 2.0
        assert found.gap == 0.0
    for oracle in (game, BehaviouralGame(game)):
        qre = exact.qre(oracle, 0.1)
        assert qre.gap == qre.residual == 0.0
        assert oracle.value(qre.policy) == 2.0
        assert mg.solve(oracle, mg.MMD(0.1, 0.1), 5).gap == 0.0


def test_the_view_has_the_trees_equilibrium() -> None:
    view = BehaviouralGame(compiled("leduc_poker"))
    found = exact.nash(view)
    assert view.duality_gap(found.policy) < 1e-13
    assert (found.policy.probs[found.support] > 0).all()
    assert found.support.sum() == nash_of_tree(view.exact).support[2:].sum()


KUHN_QRE = np.array(
    [
        [1.0, 1.0],
        [0.75364232, 0.63415944],
        [0.64695966, 0.36584056],
        [0.10668266, 0.41154828],
        [0.24635768, 0.58845172],
        [0.70309809, 0.28438486],
        [0.25609184, 0.71561514],
        [0.44700625, 0.0620185],
        [0.29690191, 0.9379815],
        [0.47546799, 0.65005434],
        [0.01290797, 0.34994566],
        [0.46256001, 0.79722767],
        [0.52453201, 0.20277233],
    ]
)
"""Gambit's QRE of Kuhn at lambda = 10: plans, a column per player (from OpenSpiel's tests)."""


def test_gambits_qre_of_kuhn() -> None:
    game = compiled("kuhn_poker")
    found = exact.qre(game, 0.1)
    for player in (0, 1):
        plan = found.policy.plan[game.tree.owner == player]
        assert np.allclose(np.sort(plan), np.sort(KUHN_QRE[:, player]), rtol=1e-6)
    assert found.residual < 1e-13
    assert found.gap < 1e-14


def test_gambits_qre_of_dark_hex() -> None:
    """2x2 dark hex at lambda = 2: OpenSpiel's tests hold its plans, of which the root's here."""
    game = compiled(DARK_HEX)
    tree = game.tree
    plan = exact.qre(game, 0.5).policy.plan
    first = {0: [0.1997415, 0.1997415, 0.3002587, 0.3002587]}
    first[1] = [0.22738648, 0.22738648, 0.27261352, 0.27261352]
    roots = [j for j in range(tree.states) if tree.parent[j] < 2]
    for player, expected in first.items():
        plans = [
            np.sort(plan[tree.offset[j] : tree.offset[j + 1]])
            for j in roots
            if tree.parent[j] == player and tree.offset[j + 1] - tree.offset[j] == 4
        ]
        assert any(np.allclose(p, expected, rtol=1e-6) for p in plans)


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("name", VALUES)
def test_one_step_leaves_the_qre_where_it_is(name: str, alpha: float) -> None:
    game = compiled(name)
    found = exact.qre(game, alpha)
    magnet = game.center()
    assert found.residual < 1e-11
    assert abs(found.gap) < 1e-13
    moved = found.policy.mirror_step(game.feedback(found.policy), magnet, eta=0.5, alpha=alpha)
    assert np.allclose(moved.coordinates, found.policy.coordinates, rtol=0, atol=1e-10)


@pytest.mark.parametrize("weights", [dilation.unit, dilation.kroer, dilation.payoff_scaled])
def test_qre_of_every_dilated_entropy_and_magnet(weights: object) -> None:
    game = compiled("kuhn_poker").with_dilation(weights)  # type: ignore[arg-type]
    for magnet in (None, game.initial_policy(), _random(game, 0)):
        found = exact.qre(game, 0.05, magnet)
        start = game.center() if magnet is None else magnet
        gap = game.regularised_gap(found.policy, start, 0.05)
        assert abs(gap) < 1e-14
        assert found.residual < 1e-12


def _random(game: SequenceFormGame, seed: int) -> TreeplexPolicy:
    weights = np.random.default_rng(seed).gamma(1.0, size=game.tree.sequences)
    first, size = game.tree.offset[:-1], np.diff(game.tree.offset)
    probs = np.ones(game.tree.sequences)
    probs[2:] = weights[2:] / np.repeat(np.add.reduceat(weights, first), size)
    return TreeplexPolicy.from_probs(game.tree, game.geometry, probs)


@pytest.mark.parametrize("name", ["kuhn_poker", DARK_HEX])
def test_long_runs_of_mmd_end_at_the_two_qres(name: str) -> None:
    """From one magnet, dilated and behavioural MMD go to two points, each its oracle's."""
    alpha, tree = 0.2, compiled(name)
    view = BehaviouralGame(tree)
    magnet = tree.initial_policy()
    dilated = exact.qre(tree, alpha, magnet)
    run = mg.solve(tree, mg.MMD(alpha / float(tree.bound) ** 2, alpha), 2000, magnet=magnet)
    assert np.allclose(run.policy.coordinates, dilated.policy.coordinates, rtol=0, atol=1e-9)
    agent = exact.qre(view, alpha, view.table(magnet))
    run_view = mg.solve(view, mg.MMD(0.05, alpha), 4000)
    assert np.allclose(
        run_view.policy.log_probs[view.legal], agent.policy.log_probs[view.legal], atol=1e-9
    )
    assert abs(view.regularised_gap(agent.policy, view.table(magnet), alpha)) < 1e-14
    apart = np.abs(view.table(dilated.policy).probs - agent.policy.probs).max()
    assert apart > 0.05


@pytest.mark.parametrize(
    ("name", "alpha"), [("kuhn_poker", 0.01), (DARK_HEX, 0.05), (LIARS_DICE, 0.2)]
)
def test_the_agent_qre_is_the_softmax_of_its_q_values(name: str, alpha: float) -> None:
    view = BehaviouralGame(compiled(name))
    found = exact.qre(view, alpha)
    q = np.where(view.legal, view.feedback(found.policy) / alpha, -np.inf)
    q = np.exp(q - q.max(-1, keepdims=True))
    assert np.allclose(found.policy.probs, q / q.sum(-1, keepdims=True), rtol=0, atol=1e-11)
    assert abs(found.gap) < 1e-12


@pytest.mark.slow
def test_the_agent_qre_of_leduc() -> None:
    view = BehaviouralGame(compiled("leduc_poker"))
    found = exact.qre(view, 0.5)
    assert abs(found.gap) < 1e-12
    run = mg.solve(view, mg.MMD(0.02, 0.5), 4000)
    assert np.allclose(run.policy.probs, found.policy.probs, rtol=0, atol=1e-8)


def test_uncertified_answers_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    game = compiled("kuhn_poker")
    monkeypatch.setattr(exact.tables, "GAP_LIMIT", -1.0)
    with pytest.raises(exact.CertificateError, match="duality gap"):
        exact.nash(game)
    monkeypatch.setattr(exact_trees, "NEWTON_STEPS", 1)
    for oracle in (game, BehaviouralGame(game)):
        with pytest.raises(exact.CertificateError, match="residual"):
            exact.qre(oracle, 0.01)


def test_errors_are_sentences() -> None:
    game = compiled("kuhn_poker")
    for alpha in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="`alpha`"):
            exact.qre(game, alpha)
    batch = game.initial_policy().replace(np.zeros((2, game.tree.sequences)))
    for oracle in (game, BehaviouralGame(game)):
        magnet = batch if oracle is game else BehaviouralGame(game).table(batch)
        with pytest.raises(ValueError, match="`magnet`"):
            exact.qre(oracle, 0.1, magnet)
    with pytest.raises(ValueError, match="q_values"):
        exact.qre(BehaviouralGame(game, counterfactual_values), 0.1)
