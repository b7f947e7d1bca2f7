"""The behavioural view: play, values and averages are the tree's, however they are written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import kuhn

import mpo_games as mg
from mpo_games.games.behavioural import (
    BehaviouralGame,
    counterfactual_values,
    others_reach,
    q_values,
)
from mpo_games.games.outcome_sampling import OutcomeSampling
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import Chance, Decision, Node, Payoff, build_tree
from mpo_games.policies.tabular import TabularPolicy


@st.composite
def trees(draw: st.DrawFn) -> SequenceFormGame:
    """Random games: chance, then both players in turn, who see parts of the past."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = rng.integers(1, 4, size=8)

    def node(depth: int, history: str, seen: tuple[str, str]) -> Node:
        if depth == 4 or (depth > 1 and rng.uniform() < 0.2):
            return Payoff(float(rng.normal()))
        if depth in (0, 3) and rng.uniform() < 0.7:
            chances = rng.dirichlet(np.ones(2))
            return Chance(
                [
                    (float(c), node(depth + 1, history + str(i), (seen[0] + "c" * i, seen[1])))
                    for i, c in enumerate(chances)
                ]
            )
        player = depth % 2
        label = f"{depth}{seen[player]}"
        actions = {}
        for a in range(int(sizes[(depth + len(seen[player])) % 8])):
            told = [s + "." for s in seen]
            told[player] += str(a)
            actions[str(a)] = node(depth + 1, history + str(a), (told[0], told[1]))
        return Decision(player, label, actions)

    return build_tree(node(0, "", ("", "")))


def random_policy(game: BehaviouralGame, seed: int) -> TabularPolicy:
    rng = np.random.default_rng(seed)
    weights = np.where(game.legal, rng.gamma(0.5, size=game.legal.shape) + 1e-3, 0.0)
    return TabularPolicy.from_probs(weights / weights.sum(-1, keepdims=True), game.legal)


@given(trees(), st.integers(0, 1000))
def test_a_table_and_its_tree_are_the_same_policy(game: SequenceFormGame, seed: int) -> None:
    view = BehaviouralGame(game)
    policy = random_policy(view, seed)
    tree = view.treeplex(policy)
    assert np.array_equal(view.table(tree).coordinates, policy.coordinates)
    assert np.allclose(tree.plan, tree.replace(tree.coordinates).plan, rtol=1e-14, atol=0)
    assert view.duality_gap(policy) == game.duality_gap(tree)
    assert view.value(policy) == game.value(tree)
    best = view.best_response(policy)
    assert np.isclose(
        view.duality_gap(policy),
        _against(view, best, policy, 0) + _against(view, best, policy, 1),
        atol=1e-12,
    )


def _against(view: BehaviouralGame, best: TabularPolicy, policy: TabularPolicy, side: int) -> float:
    mine = np.array([True, False]) == (side == 0)
    both = np.where(mine[:, None], best.coordinates, policy.coordinates)
    value = float(view.value(policy.replace(both)))
    return value if side == 0 else -value


@given(trees(), st.integers(0, 1000))
def test_counterfactual_values_are_q_values_times_reach(game: SequenceFormGame, seed: int) -> None:
    q, v = BehaviouralGame(game), BehaviouralGame(game, counterfactual_values)
    policy, opponent = random_policy(q, seed), random_policy(q, seed + 1)
    reach = np.zeros(q.legal.shape)
    reach.reshape(-1)[q.cells] = others_reach(game, q.treeplex(opponent).plan)[2:]
    assert np.allclose(
        v.feedback(policy, opponent), reach * q.feedback(policy, opponent), atol=1e-13
    )
    payoffs = game.payoff / game.chance
    low, high = min(payoffs.min(), -payoffs.max()), max(payoffs.max(), -payoffs.min())
    values = q.feedback(policy, opponent)[q.legal]
    assert values.min() >= low - 1e-12
    assert values.max() <= high + 1e-12


@given(trees(), st.integers(0, 1000))
def test_counterfactual_values_are_the_gradient_of_the_value(
    game: SequenceFormGame, seed: int
) -> None:
    """The slope in p_j(a) is own reach x counterfactual value, by central differences."""
    view = BehaviouralGame(game, counterfactual_values)
    policy = random_policy(view, seed)
    q, probs = view.feedback(policy), policy.probs
    tree = game.tree
    own = view.treeplex(policy).plan[np.repeat(tree.parent, np.diff(tree.offset))]
    for k in range(0, view.cells.size, 3):
        step = np.zeros(view.legal.size)
        step[view.cells[k]] = 1e-6
        moved = [
            view.value(
                policy.replace(
                    np.log(
                        probs + s * step.reshape(probs.shape),
                        where=view.legal,
                        out=np.full(probs.shape, -np.inf),
                    )
                )
            )
            for s in (1, -1)
        ]
        sign = 1.0 if tree.owner[k + 2] == 0 else -1.0
        slope = sign * float(moved[0] - moved[1]) / 2e-6
        assert np.isclose(slope, own[k] * q.reshape(-1)[view.cells[k]], atol=1e-8)


@given(trees(), st.integers(0, 1000))
def test_feedback_is_linear_and_one_side_at_a_time(game: SequenceFormGame, seed: int) -> None:
    view = BehaviouralGame(game)
    p, a, b = (random_policy(view, seed + i) for i in range(3))
    mixed = view.feedback(p, mg.Mixture((a, b), (2.0, -1.0)))
    assert np.allclose(mixed, 2 * view.feedback(p, a) - view.feedback(p, b), atol=1e-13)
    whole = view.feedback(p)
    for player in (0, 1):
        side = view.feedback(p, player=player)
        assert np.array_equal(side[:, player], whole[:, player])
        assert not side[:, 1 - player].any()


@given(trees(), st.integers(0, 1000))
def test_counterfactual_values_see_the_average_as_the_mixture(
    game: SequenceFormGame, seed: int
) -> None:
    """Kuhn's theorem: the average policy plays like the mixture of realisation plans."""
    view = BehaviouralGame(game, counterfactual_values)
    p, a, b = (random_policy(view, seed + i) for i in range(3))
    mixture = mg.Mixture((a, b), (0.3, 0.7))
    average = view.average(mixture)
    assert np.allclose(average.probs.sum(-1), 1.0)
    assert np.allclose(view.feedback(p, average), view.feedback(p, mixture), atol=1e-13)


def test_where_nobody_comes_q_is_0_and_the_average_keeps_the_first() -> None:
    view = BehaviouralGame(kuhn())
    uniform = view.initial_policy()
    pure = view.best_response(uniform)
    q = view.feedback(uniform, pure)
    assert np.isfinite(q).all()
    labels, tree = view.tree.labels, view.tree
    states = [view.cells[tree.offset[labels.index(s)] - 2] // view.legal.shape[-1] for s in labels]
    reach = others_reach(view.exact, view.treeplex(pure).plan)[tree.offset[:-1]]
    rows = q.reshape(-1, view.legal.shape[-1])[states]
    assert (reach < 1e-300).any()
    assert not rows[reach < 1e-300].any()
    average = view.average(mg.Mixture((pure, pure), (0.5, 0.5)))
    assert np.allclose(average.probs, pure.probs, atol=1e-12)


def test_batches_are_their_parts() -> None:
    view = BehaviouralGame(kuhn())
    parts = [random_policy(view, seed) for seed in range(3)]
    batch = TabularPolicy(np.stack([p.coordinates for p in parts]))
    for name in ("feedback", "duality_gap", "value"):
        whole = getattr(view, name)(batch)
        assert np.allclose(whole, [getattr(view, name)(p) for p in parts], rtol=0, atol=1e-15)
    run = mg.solve(view, mg.MMD(0.1, 0.1), 20, policy=batch)
    alone = [mg.solve(view, mg.MMD(0.1, 0.1), 20, policy=p) for p in parts]
    assert np.allclose(run.policy.probs, [r.policy.probs for r in alone], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "solver",
    [
        mg.MMD(0.1, 0.05),
        mg.MMD(0.1, 0.05, feedback=mg.alternating),
        mg.OptimisticMPO(0.1, 0.05, 50),
        mg.MPO_RT(0.1, 0.05, 50),
        mg.EGPO(0.1, 0.05),
        mg.NashMD(0.1, 0.05),
        mg.APMD(0.1, 0.05, 50),
        mg.GradientAscent(0.1),
        mg.FictitiousPlay(),
        mg.RegretMatching(),
    ],
    ids=lambda s: type(s).__name__,
)
def test_every_solver_of_tables_runs(solver: mg.Solver) -> None:
    view = BehaviouralGame(kuhn())
    run = mg.solve(view, solver, 100)
    assert np.allclose(run.policy.probs.sum(-1), 1.0)
    assert run.gap < view.duality_gap(view.initial_policy())


def test_alternating_players_move_only_their_rows() -> None:
    view = BehaviouralGame(kuhn())
    policy = random_policy(view, 0)
    step = policy.mirror_step(view.feedback(policy, player=1), policy, eta=0.5, alpha=0.1, player=1)
    assert np.array_equal(step.coordinates[:, 0], policy.coordinates[:, 0])
    assert not np.array_equal(step.coordinates[:, 1], policy.coordinates[:, 1])


def test_euclidean_tables_are_played_as_they_are_written() -> None:
    view = BehaviouralGame(kuhn())
    policy = TabularPolicy.uniform(view.legal, mg.Euclidean())
    assert np.allclose(view.feedback(policy), view.feedback(view.initial_policy()), atol=1e-15)
    table = view.table(view.treeplex(policy), mg.Euclidean())
    assert np.allclose(table.probs, policy.probs, atol=1e-15)
    moved = mg.solve(view, mg.MMD(0.1, 0.1), 50, policy=policy).policy
    twin = TabularPolicy.from_probs(moved.probs, view.legal)
    for mixture in ((policy, moved), (view.best_response(moved), moved)):
        average = view.average(mg.Mixture(mixture, (0.5, 0.5)))
        written = [TabularPolicy.from_probs(p.probs, view.legal) for p in mixture]
        same = view.average(mg.Mixture(tuple(written), (0.5, 0.5)))
        assert isinstance(average.geometry, mg.Euclidean)
        assert np.allclose(average.probs, same.probs, atol=1e-15)
    assert np.isclose(view.duality_gap(moved), view.duality_gap(twin), atol=1e-14)


@given(trees(), st.integers(0, 1000))
def test_the_agents_gap_is_what_each_state_gains(game: SequenceFormGame, seed: int) -> None:
    view = BehaviouralGame(game)
    policy, magnet = random_policy(view, seed), random_policy(view, seed + 1)
    q, alpha, total = view.feedback(policy), 0.3, 0.0
    p, rho = policy.probs, magnet.probs
    for i, player in np.ndindex(*view.legal.shape[:2]):
        own = view.legal[i, player]
        best = alpha * np.log(np.sum(rho[i, player, own] * np.exp(q[i, player, own] / alpha)))
        kl = np.sum(p[i, player, own] * np.log(p[i, player, own] / rho[i, player, own]))
        total += best - p[i, player, own] @ q[i, player, own] + alpha * kl
    assert np.isclose(view.regularised_gap(policy, magnet, alpha), total, atol=1e-12)


@pytest.mark.parametrize("exploration", [0.0, 0.4])
def test_outcome_sampling_is_unbiased(exploration: float) -> None:
    """The mean of a million games lies within five standard errors of the exact feedback."""
    game = kuhn()
    policy = BehaviouralGame(game).treeplex(random_policy(BehaviouralGame(game), 3)).smooth(0.2)
    other = game.initial_policy()
    rng, batches = np.random.default_rng(0), 300
    sampled = OutcomeSampling(game, 5000, exploration)
    for opponent in (None, other, mg.Mixture((policy, other), (2.0, -1.0))):
        draws = np.array([sampled.feedback(policy, opponent, rng=rng) for _ in range(batches)])
        error = draws.std(axis=0, ddof=1) / np.sqrt(batches)
        off = np.abs(draws.mean(axis=0) - game.feedback(policy, opponent))
        assert (off <= 5 * error + 1e-12).all()
        assert error.max() < 0.02


def test_sampled_behavioural_feedback_is_unbiased_too() -> None:
    game = kuhn()
    for feed in (q_values, counterfactual_values):
        exact, sampled = (BehaviouralGame(g, feed) for g in (game, OutcomeSampling(game, 5000)))
        policy = exact.initial_policy()
        rng = np.random.default_rng(1)
        draws = np.array([sampled.feedback(policy, rng=rng) for _ in range(200)])
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - exact.feedback(policy)) <= 5 * error + 1e-12).all()
        assert sampled.duality_gap(policy) == exact.duality_gap(policy)
        assert sampled.regularised_gap(policy, policy, 0.1) == exact.regularised_gap(
            policy, policy, 0.1
        )


def test_exploration_bounds_the_variance() -> None:
    game = kuhn()
    view = BehaviouralGame(game)
    rare = view.treeplex(view.best_response(view.initial_policy())).smooth(1e-3)
    rng = np.random.default_rng(0)
    spread = [
        np.std([OutcomeSampling(game, 1, e).feedback(rare, rng=rng).max() for _ in range(4000)])
        for e in (0.0, 0.5)
    ]
    assert spread[1] < spread[0] / 3


def test_one_game_gives_one_sequence_a_side() -> None:
    game = kuhn()
    q = OutcomeSampling(game).feedback(game.initial_policy(), rng=np.random.default_rng(5))
    assert np.count_nonzero(q[game.tree.owner == 0]) == 1
    assert np.count_nonzero(q[game.tree.owner == 1]) == 1
    sided = OutcomeSampling(game).feedback(
        game.initial_policy(), player=0, rng=np.random.default_rng(5)
    )
    assert np.array_equal(sided, np.where(game.tree.owner == 0, q, 0.0))


def test_sampled_cfr_still_finds_kuhn() -> None:
    """Monte Carlo CFR: outcome sampling under regret matching (Lanctot et al. 2009)."""
    game = OutcomeSampling(kuhn(), 10, exploration=0.3)
    view = BehaviouralGame(game, counterfactual_values)
    run = mg.solve(
        view,
        mg.Averaged(mg.RegretMatching()),
        2000,
        metrics={"gap": mg.metrics.average_gap},
        at=[100, 2000],
    )
    assert run.trace["gap"][-1] < 0.1 < run.trace["gap"][0]


def test_errors_are_sentences() -> None:
    game = kuhn()
    with pytest.raises(ValueError, match="`rng`"):
        OutcomeSampling(game).feedback(game.initial_policy())
    with pytest.raises(ValueError, match="`trajectories`"):
        OutcomeSampling(game, 0)
    with pytest.raises(ValueError, match="`exploration`"):
        OutcomeSampling(game, 1, 1.5)
    view = BehaviouralGame(OutcomeSampling(game))
    batch = TabularPolicy(np.stack([view.initial_policy().coordinates] * 2))
    with pytest.raises(ValueError, match="shape"):
        view.duality_gap(TabularPolicy.uniform(np.ones((2, 3), dtype=bool)))
    with pytest.raises(ValueError, match="batch"):
        view.feedback(batch, rng=np.random.default_rng(0))
