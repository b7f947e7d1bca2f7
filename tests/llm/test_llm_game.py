"""Judged rollouts: unbiased advantages, opponents, the pool, and judges that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, FIXED, PROMPTS, game, table_network


def moved(policy: ml.TokenPolicy, seed: int = 1, scale: float = 0.3) -> ml.TokenPolicy:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        n: w + scale * torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for n, w in policy.weights.items()
    }
    return replace(policy, parts=((1.0, weights),))


def estimate(
    language: ml.EnumerableGame, policy: ml.TokenPolicy, opponent: Any, draws: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of `p(y) (advantage(y))` over many feedbacks and its standard error, `(X, Y)`."""
    rng = np.random.default_rng(0)
    listed = {ids: i for i, ids in enumerate(ml.all_responses(policy.decoding))}
    found = np.zeros((draws, len(language.prompts), len(listed)))
    for n in range(draws):
        q = language.feedback(policy, opponent, rng=rng)
        np.testing.assert_allclose(q.weights.sum(), 1.0)
        for i in range(len(q.responses)):
            x, y = q.responses.prompt_of[i], listed[q.responses.ids(i)]
            found[n, x, y] = len(language.prompts) * q.weights[i] * q.advantages[i, 0]
    return found.mean(0), found.std(0) / np.sqrt(draws)


@pytest.mark.parametrize("who", ["self", "another", "predicted"])
def test_advantages_are_unbiased(who: str) -> None:
    """Their mean is `p(y) (q(y) - <q, p>)`, the policy gradient that the table has; for predicted
    opponents up to the bias of self-normalised weights, of the order of 1 / samples."""
    language = game(table_network(), ENDED, prompts=PROMPTS, samples=8)
    p, other = language.start, moved(language.start)
    opponent = {"self": None, "another": other, "predicted": mg.Mixture((p, other), (2.0, -1.0))}
    mean, error = estimate(language, p, opponent[who])
    exact = game(language.start.network, ENDED, prompts=PROMPTS).feedback(p, opponent[who])
    gains = exact.advantages[:, 0].reshape(mean.shape)
    expected = language.table(p).probs * gains
    if who == "predicted":
        np.testing.assert_allclose(mean, expected, atol=0.01)
    else:
        seen = language.table(p).probs > 0.01  # often enough for a normal error
        z = (mean - expected)[seen] / error[seen]
        assert np.sqrt(np.mean(z**2)) < 1.3


def test_self_play_meets_all_the_others() -> None:
    """By hand: the mean preference over the other responses of the group, less 1/2."""
    language = game(table_network(), FIXED, samples=6)
    assert language.sampled is not None
    drawn = ml.sample(language.start, language.prompts, 6, np.random.default_rng(4))
    q = language.feedback(language.start, rng=np.random.default_rng(4))
    listed = {ids: i for i, ids in enumerate(ml.all_responses(FIXED))}
    ys = [listed[drawn.ids(i)] for i in range(6)]
    payoff = language.payoff[0][np.ix_(ys, ys)]
    expected = dict(zip(ys, payoff.sum(1) / 5, strict=True))
    for i in range(len(q.responses)):
        y = listed[q.responses.ids(i)]
        np.testing.assert_allclose(q.advantages[i], expected[y], atol=1e-12)
        np.testing.assert_allclose(q.weights[i], ys.count(y) / 6)


def test_exact_feedback_is_the_twins() -> None:
    language = game(table_network(), ENDED, prompts=PROMPTS)
    p, other = language.start, moved(language.start)
    for opponent, table in (
        (None, language.table(p)),
        (other, language.table(other)),
        (
            mg.Mixture((p, other), (2.0, -1.0)),
            mg.Mixture((language.table(p), language.table(other)), (2.0, -1.0)),
        ),
    ):
        q = language.twin.feedback(language.table(p), table)
        q = q - np.sum(language.table(p).probs * q, axis=1, keepdims=True)
        found = language.feedback(p, opponent).advantages[:, 0].reshape(q.shape)
        np.testing.assert_allclose(found, q, atol=1e-12)
        # Advantages of every token alike, and none at padding.
        advantages = language.feedback(p, opponent).advantages
        mask = language.every.mask
        np.testing.assert_array_equal(advantages, advantages[:, :1] * mask)


def test_a_pool_of_one_step_is_plain_feedback() -> None:
    language = game(table_network(), ENDED, prompts=PROMPTS, samples=8)
    for feedback in (mg.current, mg.optimistic):
        plain, replayed = (
            mg.solve(language, mg.MMD(1.0, 0.1, feedback=f), 3, seed=1)
            for f in (feedback, ml.Replayed(feedback, steps=1))
        )
        np.testing.assert_allclose(
            language.table(replayed.policy).probs, language.table(plain.policy).probs, atol=1e-9
        )


def test_a_pool_estimates_the_present_opponent() -> None:
    """Responses of another policy, reweighted, are nearer to the truth than the step's own few."""
    few = game(table_network(), FIXED, samples=4)
    p, past = few.start, moved(few.start)
    rng, pool = np.random.default_rng(0), ml.Pool.empty()
    for step in range(64):
        pool = pool.joined(few.feedback(past, rng=rng), step)
    gains = game(p.network, FIXED).feedback(p).advantages[:, 0]
    listed = {ids: i for i, ids in enumerate(ml.all_responses(FIXED))}

    def error(**options: Any) -> float:
        rng, worst = np.random.default_rng(1), []
        for _ in range(50):
            q = few.feedback(p, rng=rng, **options)
            ys = [listed[q.responses.ids(i)] for i in range(len(q.responses))]
            true = 4 / 3 * (gains[ys] - q.weights @ gains[ys])
            worst.append(np.abs(q.advantages[:, 0] - true).max())
        return float(np.mean(worst))

    assert error(pool=pool) < 0.3 * error()


def test_a_pool_of_responses_that_the_opponent_never_gives() -> None:
    """They count for nothing, and are no NaN."""
    language = game(table_network(), FIXED, samples=4)
    one, other = (
        replace(p, parts=((1.0, {n: 1e4 * w for n, w in p.weights.items()}),))
        for p in (moved(language.start, seed) for seed in (1, 2))
    )
    pool = ml.Pool.empty().joined(language.feedback(one, rng=np.random.default_rng(0)), 0)
    q = language.feedback(one, other, rng=np.random.default_rng(1), pool=pool)
    assert np.isfinite(q.advantages).all()


def test_the_pool_forgets() -> None:
    language = game(table_network(), FIXED, samples=4)
    solver = mg.MMD(1.0, 0.1, feedback=ml.Replayed(steps=3))
    for state in mg.iterate(language, solver, rng=np.random.default_rng(0)):
        if state.step:
            kept = set(state.memory["pool/step"].tolist())
            assert kept == set(range(max(0, state.step - 3), state.step))
        if state.step == 6:
            break


@pytest.mark.parametrize("feedback", [mg.current, mg.optimistic, mg.popov, mg.half_step])
def test_same_seed_same_result(feedback: Any) -> None:
    runs = []
    for _ in range(2):
        language = game(table_network(), ENDED, prompts=PROMPTS, samples=4)
        solver = mg.MMD(1.0, 0.1, magnet=mg.Every(2), feedback=ml.Replayed(feedback))
        runs.append(mg.solve(language, solver, 4, seed=7).policy)
    for name, w in runs[0].weights.items():
        torch.testing.assert_close(runs[1].weights[name], w, atol=0.0, rtol=0.0)


def text_game(judge: ml.Judge, **options: Any) -> ml.TextPreferenceGame:
    start = ml.TokenPolicy.of(table_network(), ENDED)

    def decode(ids: ml.responses.Ids) -> str:
        return "".join("abcdef"[i] for i in ids)

    return ml.TextPreferenceGame(PROMPTS, start, judge, decode, 8, **options)


def test_each_pair_of_texts_is_judged_once() -> None:
    asked: list[tuple[str, str, str]] = []

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
        asked.extend(zip(prompts, a, b, strict=True))
        return [0.5 + 0.5 * np.sign(len(x) - len(y)) for x, y in zip(a, b, strict=True)]

    language = text_game(judge)
    q = language.feedback(language.start, rng=np.random.default_rng(0))
    pairs = [(x, frozenset((a, b))) for x, a, b in asked]
    assert len(set(pairs)) == len(pairs)
    assert all(a != b for _, a, b in asked)
    assert {x for x, _, _ in asked} == {"e", "fb"}
    assert all("d" not in a + b for _, a, b in asked), "`eos` is no part of the text"
    assert any(a == "" or b == "" for _, a, b in asked), "an empty response is judged as such"
    for x in range(2):
        rows = np.flatnonzero(q.responses.prompt_of == x)
        order = np.argsort(q.advantages[rows, 0])
        texts = [len(q.responses.ids(int(i))) - (q.responses.ids(int(i))[-1] == 3) for i in rows]
        assert (np.diff(np.array(texts)[order]) >= 0).all(), "longer ones win"


def test_prompts_of_a_step() -> None:
    language = text_game(lambda x, a, b: np.full(len(x), 0.5), prompts_per_step=1)
    seen = set()
    rng = np.random.default_rng(0)
    for _ in range(8):
        q = language.feedback(language.start, rng=rng)
        assert len(set(q.responses.prompt_of.tolist())) == 1
        np.testing.assert_allclose(q.weights.sum(), 1.0)
        seen |= set(q.responses.prompt_of.tolist())
    assert seen == {0, 1}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (lambda n: [1.2] * n, r"probabilities in \[0, 1\], got 1.2 for comparison 0"),
        (lambda n: [0.5] * (n - 1) + [-1.0], "got -1.0 for comparison"),
        (lambda n: [float("nan")] * n, "got nan"),
        (lambda n: [None] * n, "got nan"),
        (lambda n: ["yes"] * n, "one number for each of .*, got 'yes'"),
        (lambda n: [0.5] * (n + 1), "one number for each"),
        (lambda n: 0.5, "one number for each"),
    ],
)
def test_a_judge_that_fails_is_never_a_win(said: Any, match: str) -> None:
    """A sentence, and a run that stands where it stood."""
    broken = [False]

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Any:
        return said(len(prompts)) if broken[0] else [0.7] * len(prompts)

    language = text_game(judge)
    states = mg.iterate(language, mg.MPO(1.0, 0.1, 2), rng=np.random.default_rng(0))
    next(states)
    state = next(states)
    before = state.policy.arrays()
    broken[0] = True
    with pytest.raises(ValueError, match=match):
        next(states)
    for name, array in state.policy.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_refusals() -> None:
    for options, match in (
        ({"prompts_per_step": 3}, "prompts_per_step"),
        ({"prompts_per_step": 0}, "prompts_per_step"),
        ({"truncation": 0.5}, "truncation"),
    ):
        with pytest.raises(ValueError, match=match):
            text_game(lambda x, a, b: [], **options)
    language = text_game(lambda x, a, b: np.full(len(x), 0.5))
    with pytest.raises(ValueError, match="samples"):
        replace(language, samples=1)
    with pytest.raises(ValueError, match="Every prompt needs a token"):
        replace(language, prompts=((4,), ()))
    with pytest.raises(ValueError, match="`rng` is needed"):
        language.feedback(language.start)
    with pytest.raises(ValueError, match="`steps`"):
        ml.Replayed(steps=0)
    with pytest.raises(ValueError, match="`rate`"):
        ml.WeightEma(0.0)


def test_enumeration() -> None:
    assert ml.all_responses(ml.Decoding(2, eos=1, vocabulary=3)) == (
        (1,),
        (0, 1),
        (2, 1),
        (0, 0),
        (0, 2),
        (2, 0),
        (2, 2),
    )
    assert len(ml.all_responses(FIXED)) == 27
    assert len(ml.all_responses(ENDED)) == 40
    with pytest.raises(ValueError, match="only with a `vocabulary`"):
        ml.all_responses(ml.Decoding(2))
    with pytest.raises(ValueError, match="more than"):
        ml.all_responses(ml.Decoding(20, vocabulary=10))
    start = ml.TokenPolicy.of(table_network(), FIXED)
    with pytest.raises(ValueError, match=r"must be \(1, 27, 27\)"):
        ml.EnumerableGame(start, ((4,),), np.full((2, 2), 0.5))


def test_exact_distances_are_the_twins() -> None:
    language = game(table_network(), ENDED, prompts=PROMPTS)
    p, m = language.start, moved(language.start)
    a, b, twin = language.table(p), language.table(m), language.twin
    assert language.duality_gap(p) == twin.duality_gap(a)
    assert language.regularised_gap(p, m, 0.1) == twin.regularised_gap(a, b, 0.1)
    assert language.divergence(p, m) == twin.divergence(a, b)
    assert language.win_rate(p, m) == twin.win_rate(a, b)
    assert language.value(p) == pytest.approx(0.0)
    nash = mg.exact.nash(language)
    assert nash.gap < 1e-12
    assert nash.support.sum(axis=1).min() >= 3


def test_weight_ema_drifts_and_never_moves() -> None:
    language = game(table_network(), FIXED)
    states = mg.iterate(language, mg.MMD(1.0, 0.1, magnet=ml.WeightEma(0.1)))
    first, second = next(states), next(states)
    assert second.moved_at == 0
    for name, w in first.magnet.weights.items():
        expected = w + 0.1 * (second.policy.weights[name] - w)
        torch.testing.assert_close(second.magnet.weights[name], expected)
