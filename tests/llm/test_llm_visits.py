"""Weights of texts from the records of visits, and the feedback that learns from them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
from languages import FIXED, preferences, table_network, transformer
from mpo_games.protocol import State
from mpo_llm.revisits import ORDER, next_prompts
from mpo_llm.strength import NOISE
from mpo_llm.visits import Texts, Visits

PROMPTS = ((4,), (5,), (5, 1))
ONE_TOKEN = ml.Decoding(1, vocabulary=4)
EVERYTHING = ml.Revisited(texts=ml.ByRepeats(1000.0, 0.0))
"""A step that learns from all texts, however few of them repeat."""


def language(
    samples: int | None, prompts_per_step: int | None = None, *, prompts: Any = PROMPTS
) -> ml.EnumerableGame:
    start = ml.TokenPolicy.of(table_network(), FIXED)
    table = preferences(FIXED, len(prompts))
    return ml.EnumerableGame(start, prompts, table, samples, prompts_per_step)


def visited(drawn: list[list[int]], chances: np.ndarray) -> Texts:
    """The texts of visits of one prompt, each a list of draws of one of four tokens."""
    visits = Visits.empty()
    for draws in drawn:
        tokens, times = np.unique(draws, return_counts=True)
        responses = ml.Responses.of_ids(((1,),), [0] * len(tokens), [(int(t),) for t in tokens])
        visits = visits.joined(responses, times, np.log(chances[tokens]), last=8)
    return Texts.of(visits, ((1,),))


@pytest.mark.parametrize("sizes", [[3], [2, 2], [1, 3]])
def test_the_weights_are_unbiased(sizes: list[int]) -> None:
    """By enumeration of all draws: the expectation of `sum p f / pi` is `sum p f`."""
    chances, p = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.1, 0.45, 0.05])
    f = np.array([1.0, -2.0, 0.5, 3.0])
    expected, total = 0.0, 0.0
    for draws in product(range(4), repeat=sum(sizes)):
        chance = float(np.prod(chances[list(draws)]))
        cuts = np.cumsum([0, *sizes])
        parts = [list(draws[a:b]) for a, b in pairwise(cuts)]
        texts = visited(parts, chances)
        known = texts.responses.tokens[:, 0]
        expected += chance * float(np.sum(p[known] * f[known] / np.exp(texts.log_inclusion())))
        total += chance
    assert total == pytest.approx(1.0, abs=1e-12)
    assert expected == pytest.approx(float(p @ f), abs=1e-12)


def test_weights_are_those_of_the_definition() -> None:
    chances, p = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.1, 0.45, 0.05])
    texts = visited([[0, 2, 2], [2, 3]], chances)
    known = texts.responses.tokens[:, 0]
    plain = p[known] / (1 - (1 - chances[known]) ** 5)
    np.testing.assert_allclose(texts.weights(np.log(p[known])), plain / plain.sum(), rtol=1e-12)
    # Of the first visit alone: three draws, and token 3 is not among them.
    first = texts.visits.visit == 0
    half = np.where(np.isin(known, [0, 2]), p[known] / (1 - (1 - chances[known]) ** 3), 0.0)
    np.testing.assert_allclose(texts.weights(np.log(p[known]), first), half / half.sum())
    # Without a record there is nothing to stand for the policy.
    assert not texts.weights(np.log(p[known]), texts.visits.visit == 5).any()


def test_texts_too_long_to_repeat_have_importance_weights() -> None:
    """Chances that are 0 as floats: `pi` is the expected number of draws."""
    responses = ml.Responses.of_ids(((1,),), [0, 0], [(0,), (1,)])
    log_q, log_p = np.array([-900.0, -901.0]), np.array([-902.0, -901.5])
    visits = Visits.empty().joined(responses, np.array([1, 1]), log_q, last=8)
    ratio = np.exp(log_p - log_q)
    found = Texts.of(visits, ((1,),)).weights(log_p)
    np.testing.assert_allclose(found, ratio / ratio.sum(), rtol=1e-12)


def test_only_the_last_visits_of_each_prompt_are_kept() -> None:
    prompts = ((1,), (2,))
    visits = Visits.empty()
    for step in range(7):
        of = [0, 1] if step % 3 == 0 else [0]
        new = ml.Responses.of_ids(prompts, of, [(step,)] * len(of))
        visits = visits.joined(new, np.ones(len(of), dtype=np.int64), np.zeros(len(of)), last=2)
    kept = {
        (int(x), int(t), int(v))
        for x, (t,), v in zip(visits.prompt_of, visits.tokens, visits.visit, strict=True)
    }
    assert kept == {(0, 5, 5), (0, 6, 6), (1, 3, 1), (1, 6, 2)}


def asked(game: Any, revisited: ml.Revisited, steps: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """The feedback of the last of some steps in which the policy stays, and the state after it."""
    rng, found = np.random.default_rng(seed), []

    def prox(policy: Any, q: Any, player: int | None = None) -> Any:
        found.append(q)
        return policy

    state = State(game.start, game.start)
    for _ in range(steps):
        state = revisited(game, state, prox, rng)
    return found[-1], state


ALONE = ml.Revisited(mg.MMD(1.0, 0.0).feedback, visits=1, others=0, explore=0.0)


def test_one_visit_is_the_step_s_own_responses() -> None:
    """The texts are those that were drawn, and their advantages those of all pairs among them."""
    game = language(samples=12)
    q, state = asked(game, ALONE, steps=2, seed=3)
    rng = np.random.default_rng(3)
    for _ in range(2):
        own, times, _ = game.texts.drawn(game.start, np.arange(3), 12, rng)
    np.testing.assert_array_equal(q.responses.tokens, own.tokens)
    np.testing.assert_array_equal(q.responses.prompt_of, own.prompt_of)
    np.testing.assert_array_equal(state.memory["visits/times"], times)
    p = np.exp(game.start.log_probs(own).sum(axis=1))
    of = own.prompt_of
    weight = p / (1 - (1 - p) ** 12)
    weight /= np.bincount(of, weight)[of]
    np.testing.assert_allclose(q.weights, weight / 3, rtol=1e-6)
    rows = [game.every.ids(row) for row in range(27)]
    index = [rows.index(own.ids(row)) for row in range(len(own))]
    payoff = game.payoff[of[:, None], np.array(index)[:, None], index] * (of[:, None] == of)
    gains = payoff @ weight
    worth = gains - np.bincount(of, weight * gains)[of]
    np.testing.assert_allclose(q.advantages, worth[:, None].repeat(3, axis=1), atol=1e-6)


def test_all_texts_are_exact_feedback() -> None:
    """If every text has been drawn for sure, the weights are its probabilities."""
    game = language(samples=4000)
    q, _ = asked(game, ml.Revisited(), steps=2)
    exact = language(samples=None).feedback(game.start)
    assert len(q.responses) == len(exact.responses)

    def table(found: Any) -> dict[Any, Any]:
        r = found.responses
        return {
            (int(r.prompt_of[i]), r.ids(i)): (found.weights[i], found.advantages[i, 0])
            for i in range(len(r))
        }

    known = table(exact)
    for key, numbers in table(q).items():
        np.testing.assert_allclose(numbers, known[key], atol=1e-5)


def test_noise_is_zero_without_noise() -> None:
    _, state = asked(language(samples=4000), ml.Revisited(), steps=2)
    assert 0.0 <= state.memory[NOISE] < 1e-10


def test_noise_is_known_once_a_prompt_was_asked_twice() -> None:
    _, state = asked(language(4, 1), EVERYTHING, steps=3)
    assert NOISE not in state.memory
    _, state = asked(language(4, 1), EVERYTHING, steps=4)
    assert 0.0 < state.memory[NOISE] <= 1.0


def test_fewer_draws_have_more_noise() -> None:
    noise = []
    for samples in (2, 8, 32, 128):
        game = language(samples)
        found = [asked(game, EVERYTHING, 2, seed)[1].memory[NOISE] for seed in range(8)]
        noise.append(np.mean(found))
    assert noise == sorted(noise, reverse=True)
    assert noise[0] > 0.3
    assert noise[-1] < 0.05


def test_opponents_are_those_of_the_feedback() -> None:
    """Against a policy, or a signed mixture: linear in the opponent."""
    game = language(samples=40)
    other = replace(game.start, parts=((1.0, {n: 0.5 * w for n, w in game.start.weights.items()}),))

    def worth(opponent: Any) -> Any:
        def feedback(game: Any, state: Any, prox: Any, rng: Any) -> Any:
            q = game.feedback(state.policy, opponent, rng=rng)
            return state.advance(prox(state.policy, q), 1.0)

        return asked(game, replace(ALONE, feedback=feedback))[0].advantages

    mixture = mg.Mixture((game.start, other), (2.0, -1.0))
    np.testing.assert_allclose(worth(mixture), 2.0 * worth(None) - worth(other), atol=1e-12)
    # It is zero-sum: the mean advantage of the opponent's own actions against it is its value, 0.
    assert np.abs(worth(other)).max() > 1e-3


@pytest.mark.parametrize(("total", "count"), [(6, 2), (7, 3), (5, 4), (5, 5), (1, 1)])
def test_an_epoch_asks_every_prompt_once(total: int, count: int) -> None:
    rng = np.random.default_rng(0)
    order: Any = np.zeros(0, dtype=np.int64)
    every: list[int] = []
    for _ in range(4 * total):
        now, order = next_prompts(order, count, total, rng)
        assert len(set(now.tolist())) == count
        assert (np.diff(now) > 0).all()
        every += now.tolist()
    # After n whole epochs each prompt has been asked n times, one more or less within a step.
    for ended in range(total, len(every) + 1, total):
        times = np.bincount(every[:ended], minlength=total)
        assert times.max() - times.min() <= (0 if total % count == 0 else 2)
    assert np.ptp(np.bincount(every, minlength=total)) <= 1


def test_the_start_draws_its_share() -> None:
    """An eighth of 8 draws is 1; of 4 draws it is 1 in every other step."""
    calls: list[tuple[bool, int]] = []

    class Counted:
        def __call__(self, policy: Any, prompts: Any, count: int, rng: Any) -> Any:
            calls.append((policy is START, count))
            return ml.Autoregressive()(policy, prompts, count, rng)

    START = ml.TokenPolicy.of(transformer(), FIXED)
    moved = replace(START, parts=((1.0, {n: 0.9 * w for n, w in START.weights.items()}),))

    def judge(prompts: Any, a: Any, b: Any) -> Any:
        return np.full(len(a), 0.5)

    for samples, expected in ((8, 1.0), (4, 0.5)):
        calls.clear()
        game = ml.TextPreferenceGame(
            PROMPTS,
            START,
            judge,
            str,
            samples,
            engine=Counted(),  # type: ignore[arg-type]
        )
        state, rng = State(moved, moved), np.random.default_rng(0)
        for _ in range(40):
            state = ml.Revisited(visits=2)(game, state, lambda p, q, _=None: p, rng)
        assert sum(n for foreign, n in calls if foreign) / 40 == pytest.approx(expected, abs=0.1)
        assert sum(n for _, n in calls) == 40 * samples
        # Nobody is better than anybody, so there is nothing to follow and no noise in it.
        assert state.memory[NOISE] == 0.0


def test_a_game_that_draws_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`samples`"):
        asked(language(None), ml.Revisited())
    with pytest.raises(ValueError, match="`samples`"):
        language(None, 2)
    with pytest.raises(ValueError, match="`rng`"):
        ml.Revisited()(language(4), State(language(4).start, None), lambda p, q: p, None)


@pytest.mark.parametrize(
    "wrong", [{"visits": 0}, {"others": -1}, {"explore": 1.5}, {"feedback": ml.Revisited}]
)
def test_settings_out_of_range_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        ml.Revisited(**wrong)


def test_prompts_of_the_step_and_others_that_were_seen() -> None:
    game = language(4, 1)
    q, state = asked(game, replace(EVERYTHING, others=1), steps=3)
    assert len(np.unique(q.responses.prompt_of)) == 2
    assert q.weights.sum() == pytest.approx(1.0)
    assert len(state.memory[ORDER]) == 0
    q, _ = asked(game, ml.Revisited(others=0), steps=3)
    assert len(np.unique(q.responses.prompt_of)) == 1
