"""Every solver against its paper's equation, written out in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_game import GAME, START, A, states

import mpo_games as mg

MAGNET = GAME.policy([0.3, 0.3, 0.2, 0.2], [0.2, 0.2, 0.6])
CYCLE = mg.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])

Pair = tuple[np.ndarray, np.ndarray]


def pair(policy: mg.TabularPolicy) -> Pair:
    return policy.probs[0], policy.probs[1, :3]


def feedback(z: Pair) -> Pair:
    return A @ z[1], -A.T @ z[0]


def normal(x: np.ndarray) -> np.ndarray:
    return x / x.sum()


def each(function: Any, *pairs: Pair) -> Pair:
    first, second = (function(*side) for side in zip(*pairs, strict=True))
    return first, second


def mmd(p: Pair, q: Pair, m: Pair, eta: float, alpha: float) -> Pair:
    shrink = 1.0 / (1.0 + eta * alpha)
    return each(
        lambda p, q, m: normal((p * m ** (eta * alpha) * np.exp(eta * q)) ** shrink), p, q, m
    )


def explicit(p: Pair, q: Pair, m: Pair, eta: float, alpha: float) -> Pair:
    return each(
        lambda p, q, m: normal(p ** (1 - eta * alpha) * m ** (eta * alpha) * np.exp(eta * q)),
        p,
        q,
        m,
    )


def follow(solver: Any, step: Any, steps: int = 12, atol: float = 1e-12, **start: Any) -> None:
    """`step(p, m, t, p_previous)` is the paper's equation; both must walk the same way."""
    run = states(solver, steps, magnet=start.get("magnet"))
    p = previous = pair(START)
    m = pair(start.get("magnet", START))
    for t, state in enumerate(run):
        for mine, theirs in zip(pair(state.policy), p, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=atol)
        p, previous = step(p, m, t, previous), p


def test_mmd() -> None:
    follow(
        mg.MMD(0.3, 0.2),
        lambda p, m, t, _: mmd(p, feedback(p), m, 0.3, 0.2),
        magnet=MAGNET,
    )


def test_mirror_descent() -> None:
    follow(mg.MirrorDescent(0.3), lambda p, m, t, _: mmd(p, feedback(p), m, 0.3, 0.0))


def test_optimistic_follows_twice_the_new_less_the_old_feedback() -> None:
    def step(p: Pair, m: Pair, t: int, old: Pair) -> Pair:
        q = each(lambda new, last: 2.0 * new - last, feedback(p), feedback(old))
        return mmd(p, q, m, 0.3, 0.2)

    follow(mg.MMD(0.3, 0.2, feedback=mg.optimistic), step, magnet=MAGNET)
    follow(
        mg.OptimisticMD(0.3),
        lambda p, m, t, old: mmd(
            p, each(lambda a, b: 2 * a - b, feedback(p), feedback(old)), m, 0.3, 0.0
        ),
    )


def test_extragradient() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        return mmd(p, feedback(mmd(p, feedback(p), m, 0.3, 0.0)), m, 0.3, 0.0)

    follow(mg.Extragradient(0.3), step)


def test_popov() -> None:
    bases = {"z": pair(START)}

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        if t < 2:
            return p
        if t > 2:
            bases["z"] = mmd(bases["z"], feedback(p), m, 0.3, 0.2)
        return mmd(bases["z"], feedback(p), m, 0.3, 0.2)

    follow(mg.MMD(0.3, 0.2, feedback=mg.popov), step, magnet=MAGNET)


def test_alternating_popov() -> None:
    bases = {"z": pair(START)}

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        if t < 2:
            return p
        z = bases["z"]
        x = mmd(z, feedback(p), m, 0.3, 0.2)[0]
        y = mmd(z, feedback((x, z[1])), m, 0.3, 0.2)[1]
        bases["z"] = mmd(z, feedback((x, y)), m, 0.3, 0.2)[0], y
        return x, y

    follow(mg.MMD(0.3, 0.2, feedback=mg.alternating_popov), step, magnet=MAGNET)


@pytest.mark.parametrize("feedback", [mg.popov, mg.alternating_popov])
def test_popov_keeps_the_feedback_of_the_policy_that_is_played(feedback: Any) -> None:
    for state in states(mg.MMD(0.3, 0.2, feedback=feedback), 9)[1:]:
        np.testing.assert_allclose(state.q, GAME.feedback(state.policy), atol=1e-15)


@pytest.mark.parametrize("feedback", [mg.popov, mg.alternating_popov])
def test_popov_begins_anew_where_the_magnet_moves(feedback: Any) -> None:
    """After a move the base point is the policy: a fresh run from there, but for its opening."""
    run = states(mg.MMD(0.3, 0.2, mg.Every(6), feedback=feedback), 11)
    fresh = states(mg.MMD(0.3, 0.2, feedback=feedback), 7, policy=run[6].policy)
    for a, b in zip(run[6:], fresh[2:], strict=True):
        np.testing.assert_allclose(a.policy.probs, b.policy.probs, atol=1e-15)


def test_alternating() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        x = mmd(p, feedback(p), m, 0.3, 0.2)[0]
        y = mmd(p, feedback((x, p[1])), m, 0.3, 0.2)[1]
        return x, y

    follow(mg.MMD(0.3, 0.2, feedback=mg.alternating), step, magnet=MAGNET)


def test_alternating_with_oneself_is_current() -> None:
    """Rows of a preference game are contexts, not players: all of them step."""
    rng = np.random.default_rng(0)
    table = np.tril(rng.uniform(size=(4, 3, 3)), -1)
    table = table + np.triu(1.0 - np.swapaxes(table, -1, -2), 1) + 0.5 * np.eye(3)
    game = mg.PreferenceGame(table)
    one, two = (
        states(mg.MMD(0.3, 0.2, feedback=f), 5, game, None)[-1]
        for f in (mg.alternating, mg.current)
    )
    np.testing.assert_array_equal(one.policy.coordinates, two.policy.coordinates)
    assert one.evaluations == two.evaluations == 5.0


def test_egpo_in_its_own_step_size() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        half = explicit(p, feedback(p), m, 0.3, 0.2)
        return explicit(p, feedback(half), m, 0.3, 0.2)

    follow(mg.EGPO(0.3, 0.2), step, magnet=MAGNET)


def test_mpo_moves_its_magnet() -> None:
    magnets = {"m": pair(START)}

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        if t % 4 == 0:
            magnets["m"] = p
        return mmd(p, feedback(p), magnets["m"], 0.3, 0.2)

    follow(mg.MPO(0.3, 0.2, 4), step)


def test_reward_transformation_is_mmd_at_another_step_size() -> None:
    eta, alpha = 0.3, 0.4
    for game, start in ((GAME, START), (CYCLE, CYCLE.policy([0.2, 0.5, 0.3]))):
        one = states(mg.MPO_RT(eta, alpha, 10), 200, game, start)
        two = states(mg.MPO(eta / (1.0 - eta * alpha), alpha, 10), 200, game, start)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a.policy.probs, b.policy.probs, atol=1e-11)
            np.testing.assert_allclose(a.magnet.probs, b.magnet.probs, atol=1e-11)


def test_reward_transformation_as_its_paper_writes_it() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        q = feedback(p)
        return each(lambda p, q, m: normal(p * np.exp(0.3 * (q - 0.2 * np.log(p / m)))), p, q, m)

    follow(mg.MMD(0.3, 0.2, pull=mg.MPO_RT(0.3, 0.2, 1).pull), step, magnet=MAGNET)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_a_magnet_that_moves_every_step_is_mirror_descent(alpha: float) -> None:
    """At the step size `eta / (1 + eta alpha)`."""
    one = states(mg.MPO(0.3, alpha, 1), 100)
    two = states(mg.MirrorDescent(0.3 / (1.0 + 0.3 * alpha)), 100)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.policy.probs, b.policy.probs, atol=1e-11)


def test_nash_md() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        mixture = each(lambda p, m: normal(p**0.94 * m**0.06), p, m)
        return each(lambda x, q: normal(x * np.exp(0.3 * q)), mixture, feedback(mixture))

    follow(mg.NashMD(0.3, 0.2), step, magnet=MAGNET)


def test_annealed() -> None:
    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        return mmd(p, feedback(p), m, 0.5 / (t + 1) ** 0.7, 0.9 / (t + 1) ** 0.7)

    follow(mg.AnnealedMMD(0.5, 0.9, power=0.7), step, magnet=MAGNET)


def test_anchored_is_halpern() -> None:
    """`log p' = (1 - b)(log p + eta q) + b log magnet`, `b = 1/(k + 2)`, k since the move."""
    magnets: dict[str, Any] = {"m": pair(START), "k": 0}

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        if t and t % 5 == 0:
            magnets.update(m=p, k=0)
        b = 1.0 / (magnets["k"] + 2)
        magnets["k"] += 1
        return each(
            lambda p, q, m: normal((p * np.exp(0.3 * q)) ** (1 - b) * m**b),
            p,
            feedback(p),
            magnets["m"],
        )

    follow(mg.MMD(0.3, mg.Anchored(), magnet=mg.Every(5)), step)


@given(seed=st.integers(0, 10**6), k=st.integers(0, 1000), eta=st.floats(1e-3, 10))
def test_halpern_before_the_step(seed: int, k: int, eta: float) -> None:
    """Mix with the magnet by `b = 1/(k + 2)`, then step by `eta`: an MMD step too."""
    rng = np.random.default_rng(seed)
    p, m = (mg.TabularPolicy.from_probs(rng.dirichlet(np.ones(4), 2)) for _ in range(2))
    q, b = rng.normal(size=(2, 4)), 1.0 / (k + 2)
    mixed = p.mix(m, b).mirror_step(q, None, eta=eta, alpha=0.0)
    one = p.mirror_step(q, m, eta=eta * (k + 2) / (k + 1), alpha=1.0 / (eta * (k + 2)))
    np.testing.assert_allclose(one.log_probs, mixed.log_probs, rtol=1e-10, atol=1e-10)


def test_m2wu_and_apmd_as_their_papers_write_them() -> None:
    def m2wu(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        return each(
            lambda p, q, m: normal(p * np.exp(0.3 * (q + 0.2 / p * (m - p)))), p, feedback(p), m
        )

    def apmd(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        return each(
            lambda p, q, m: normal(p * np.exp(0.3 * (q - 0.2 * (p - m)))), p, feedback(p), m
        )

    follow(mg.M2WU(0.3, 0.2), m2wu, magnet=MAGNET)
    follow(mg.APMD(0.3, 0.2, 1000), apmd, magnet=MAGNET)


@pytest.mark.parametrize("pull", [mg.M2WU, mg.APMD])
@pytest.mark.parametrize(("eta", "alpha", "scale"), [(1.0, 1.0, 100.0), (10.0, 10.0, 1.0)])
def test_perturbations_stay_finite(pull: Any, eta: float, alpha: float, scale: float) -> None:
    game = mg.MatrixGame(scale * A)
    policy = mg.solve(game, pull(eta, alpha, 100), 10**4).policy
    assert np.isfinite(policy.log_probs[policy.legal]).all()
    np.testing.assert_allclose(policy.probs.sum(-1), 1.0, atol=1e-9)


def test_naive_mutation_overflows() -> None:
    """What the test above is for."""
    p, m = (np.full(4, 0.25), np.full(3, 1 / 3)), (np.full(4, 0.25), np.full(3, 1 / 3))
    with np.errstate(all="ignore"):
        for _ in range(100):
            p = each(
                lambda p, q, m: normal(p * np.exp(q + 1.0 / p * (m - p))),
                p,
                each(lambda q: 100 * q, feedback(p)),
                m,
            )
    assert np.isnan(p[0]).any()


def test_gradient_ascent_is_the_gradient_of_softmax() -> None:
    logits = START.coordinates
    q = GAME.feedback(START)
    h, eta = 1e-6, 0.7

    def payoff(theta: np.ndarray) -> np.ndarray:
        e = np.exp(theta)
        return (e * q).sum(-1) / e.sum(-1)

    slope = np.zeros((2, 4))
    for row, action in np.argwhere(START.legal):
        bump = np.zeros((2, 4))
        bump[row, action] = h
        slope[row, action] = (payoff(logits + bump) - payoff(logits - bump))[row] / (2 * h)
    expected = np.exp(logits + eta * slope)
    new = states(mg.GradientAscent(eta), 1)[-1].policy
    np.testing.assert_allclose(new.probs, expected / expected.sum(-1, keepdims=True), atol=1e-9)


def test_fictitious_play() -> None:
    counts = [pair(START)[0].copy(), pair(START)[1].copy()]

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        for count, q in zip(counts, feedback(p), strict=True):
            count[np.argmax(q)] += 1.0
        return counts[0] / (t + 2), counts[1] / (t + 2)

    follow(mg.FictitiousPlay(), step, 100, atol=1e-12)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("predictive", [False, True])
def test_regret_matching(plus: bool, predictive: bool) -> None:
    sums = [np.zeros(4), np.zeros(3)]

    def step(p: Pair, m: Pair, t: int, _: Pair) -> Pair:
        new = []
        for side, q in enumerate(feedback(p)):
            regret = q - p[side] @ q
            sums[side] = sums[side] + regret
            if plus:
                sums[side] = np.maximum(sums[side], 0.0)
            positive = np.maximum(sums[side] + predictive * regret, 0.0)
            uniform = np.full(len(q), 1.0 / len(q))
            new.append(normal(positive) if positive.any() else uniform)
        return new[0], new[1]

    follow(mg.RegretMatching(plus, predictive), step, 60, atol=1e-10)
