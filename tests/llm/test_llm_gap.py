"""The estimated gap, held against exact gaps and against sums over all draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
import tiny
from languages import ENDED, FIXED, PROMPTS, game, preferences, table_network, transformer
from mpo_games.protocol import Array
from mpo_llm.gap import by_prompt
from mpo_llm.measures.tournament import meet
from mpo_llm.results.evaluation import evaluate_run
from mpo_llm.results.page import render
from mpo_llm.training.train import train

RPS = 0.5 * np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


def cyclic(seed: int, count: int) -> Array:
    """Payoffs of `count` responses, different for each pair."""
    table = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, count))
    return np.triu(table, 1) - np.triu(table, 1).T


def payoffs(table: Array, drawn: Sequence[int], others: Sequence[int] = ()) -> ml.Payoffs:
    """What is judged if the responses `drawn` were drawn, and `others` by another policy."""
    which, times = np.unique(drawn, return_counts=True)
    return ml.Payoffs(table[np.ix_(which, which)], times, table[np.ix_(list(others), which)])


def estimate(*prompts: ml.Payoffs, rng: np.random.Generator | None = None) -> tuple[float, float]:
    found = ml.estimated_gap(prompts, np.random.default_rng(0) if rng is None else rng)
    assert found is not None
    return found.value, found.error


def by_hand(table: Array, drawn: Sequence[int], others: Sequence[int] = ()) -> float:
    """The same number from its definition, a split at a time. No two rivals may be equally good."""
    n, gains = len(drawn), []
    for half in combinations(range(n), n // 2):
        sides = [drawn[k] for k in half], [drawn[k] for k in range(n) if k not in half]
        for one, two in (sides, sides[::-1]):
            best = max({*one, *others}, key=lambda r: table[r, one].mean())
            gains.append(table[best, two].mean())
    return 2.0 * float(np.mean(gains))


def exact_gap(table: Array, probs: Array) -> float:
    return float(
        mg.PreferenceGame(0.5 + table).duality_gap(mg.PreferenceGame(0.5 + table).policy(probs))
    )


@pytest.mark.parametrize("drawn", [(0, 1, 2, 3), (0, 0, 1, 2, 4), (3, 1, 1, 1, 0, 5, 2, 2)])
def test_it_is_what_its_definition_says(drawn: tuple[int, ...]) -> None:
    for seed in range(5):
        table = cyclic(seed, 9)
        for others in ((), (6, 7, 8)):
            expected = by_hand(table, drawn, others)
            assert estimate(payoffs(table, drawn, others))[0] == pytest.approx(expected)


@pytest.mark.parametrize("probs", [(1 / 3, 1 / 3, 1 / 3), (0.6, 0.3, 0.1), (0.1, 0.2, 0.7)])
@pytest.mark.parametrize("draws", [4, 5])
def test_its_mean_over_all_draws_is_at_most_the_gap(probs: Sequence[float], draws: int) -> None:
    """Summed over everything that could be drawn, so there is no error; 0 at the equilibrium."""
    mean = 0.0
    for drawn in product(range(3), repeat=draws):
        chance = float(np.prod([probs[y] for y in drawn]))
        # Where all draws are the same, there is nothing to estimate; the gain would be 0.
        found = ml.estimated_gap([payoffs(RPS, drawn)], np.random.default_rng(0))
        mean += chance * (0.0 if found is None else found.value)
    gap = exact_gap(RPS, np.array(probs))
    if gap < 1e-12:
        assert mean == pytest.approx(0.0, abs=1e-12)
    else:
        assert 0.0 < mean < gap


def test_a_rival_must_not_be_among_the_draws_that_value_it() -> None:
    """If it could, the mean at an equilibrium would be above 0."""
    mean = 0.0
    for drawn in product(range(3), repeat=4):
        table = RPS[np.ix_(drawn, drawn)]
        for choose, value in ((table[:, :2], table[:, 2:]), (table[:, 2:], table[:, :2])):
            mean += value[choose.mean(axis=1).argmax()].mean() / 3**4
    assert mean > 0.05


def test_halves_that_are_equal_give_the_gap_of_what_was_drawn() -> None:
    """With very many draws of each response all halves are nearly equal, and so is the gap."""
    table, times = cyclic(1, 6), np.array([1, 4, 2, 3, 6, 2])
    gap = exact_gap(table, times / times.sum())
    errors = []
    for copies in (10, 100, 1000):
        found, _ = estimate(ml.Payoffs(table, copies * times))
        errors.append(abs(found - gap))
    assert errors[2] < 0.01
    assert errors[2] < errors[0] + 1e-12
    # Halves that are equal copies by construction: the rival is chosen and valued alike.
    alone = table[:, :1]
    same = ml.Payoffs(np.zeros((1, 1)), np.array([8]), alone)
    assert estimate(same)[0] == pytest.approx(exact_gap(table, np.eye(6)[0]))


def test_the_order_of_responses_is_without_effect() -> None:
    """Also where several rivals are equally good, of responses, of draws and of other rivals."""
    rng = np.random.default_rng(2)
    for table in (cyclic(2, 9), np.sign(cyclic(3, 9)) / 2):
        others = table[6:, :6]
        times = np.array([2, 1, 1, 1, 2, 1])
        whole = estimate(ml.Payoffs(table[:6, :6], times, others))
        for _ in range(5):
            order, more = rng.permutation(6), rng.permutation(3)
            moved = ml.Payoffs(
                table[np.ix_(order, order)], times[order], others[np.ix_(more, order)]
            )
            assert estimate(moved) == pytest.approx(whole)
            # A response that stands twice, as draws do in an evaluation, counts twice among equals.
            if np.unique(table).size == 3:
                continue
            drawn = rng.permutation(np.repeat(np.arange(6), times))
            apart = ml.Payoffs(
                table[np.ix_(drawn, drawn)], np.ones(8, dtype=np.int64), others[:, drawn]
            )
            assert estimate(apart) == pytest.approx(whole)


def test_weights_stand_for_another_policy() -> None:
    """A response of weight 0 is no opponent, and equal weights a draw are none."""
    table, times = cyclic(4, 5), np.array([2, 1, 3, 1, 1])
    plain = ml.Payoffs(table, times)
    assert estimate(replace(plain, weights=times / 8.0)) == pytest.approx(estimate(plain))
    others = np.concatenate([table[:, :1], table[:, 1:2]], axis=1)[2:]
    only = ml.Payoffs(table[:2, :2], np.array([4, 4]), others, np.array([1.0, 0.0]))
    best = max(table[1, 0], 0.0, *table[2:, 0])
    assert estimate(only)[0] == pytest.approx(2.0 * best, abs=0.05)
    nothing = ml.Payoffs(table[:2, :2], np.array([4, 4]), others, np.zeros(2))
    assert estimate(nothing) == (0.0, 0.0)


def test_intervals_hold_the_mean() -> None:
    """For new prompts if there are several, for new draws if there is one."""
    rng = np.random.default_rng(5)
    tables = [cyclic(seed, 6) for seed in range(200)]
    probs = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])

    def drawn(table: Array, count: int) -> ml.Payoffs:
        return payoffs(table, rng.choice(6, count, p=probs).tolist())

    for count, prompts in ((8, 12), (32, 1)):
        chosen = tables if prompts > 1 else tables[:1]
        found = []
        for _ in range(150):
            some = rng.choice(len(chosen), prompts)
            found.append(estimate(*(drawn(chosen[x], count) for x in some), rng=rng))
        values, errors = np.array(found).T
        covered = np.abs(values - values.mean()) < 1.96 * errors
        assert covered.mean() > 0.85


def test_no_number_where_there_is_nothing_to_judge() -> None:
    rng = np.random.default_rng(0)
    three = ml.Payoffs(RPS, np.ones(3, dtype=np.int64))
    four = ml.Payoffs(RPS, np.array([2, 1, 1]))
    same = ml.Payoffs(np.zeros((1, 1)), np.array([9]))
    assert ml.estimated_gap([], rng) is None
    assert ml.estimated_gap([three, three], rng) is None
    assert ml.estimated_gap([same, same], rng) is None
    alone = ml.estimated_gap([four], rng)
    assert alone is not None
    assert np.isfinite(alone.error)
    assert ml.estimated_gap([three, four], rng) == alone
    # A prompt whose draws are all the same counts: nothing that was drawn wins anything there.
    both = ml.estimated_gap([four, same], rng)
    assert both is not None
    assert both.value == pytest.approx(alone.value / 2)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ((RPS, np.ones(2, dtype=np.int64)), r"`own` must be \(M, M\)"),
        ((RPS, np.ones(3, dtype=np.int64), np.zeros((2, 2))), r"`others` \(R, M\)"),
        ((RPS + np.nan, np.ones(3, dtype=np.int64)), "`own` must hold payoffs P - 1/2"),
        ((RPS, np.ones(3, dtype=np.int64), np.ones((2, 3))), "`others` must hold payoffs"),
        ((RPS, -np.ones(3, dtype=np.int64)), "`draws` must be finite and at least 0"),
        ((RPS, np.ones(3, dtype=np.int64), RPS, np.ones(2)), r"`weights` must be \(3,\)"),
        ((RPS, np.ones(3, dtype=np.int64), RPS, -np.ones(3)), "`weights` must be finite"),
    ],
)
def test_refusals(parts: tuple[Array, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ml.Payoffs(*parts)


def test_the_payoffs_of_a_step_are_those_of_its_comparisons() -> None:
    """Of each prompt apart, and with the rivals that were drawn before."""
    language = game(table_network(), ENDED, prompts=PROMPTS, samples=6)
    assert language.sampled is not None
    policy, rng = language.start, np.random.default_rng(0)
    then = language.sampled.feedback(policy, rng=rng)
    now = language.sampled.feedback(policy, rng=rng)
    met, where = then.responses.joined(now.responses).distinct()
    at, before = where[-len(now.responses) :], where[: -len(now.responses)]
    own, earlier = now.responses, np.isin(np.arange(len(met)), before)
    draws = np.rint(12 * now.weights).astype(np.int64)
    found = list(
        by_prompt(
            (own.prompt_of, met.prompt_of),
            at,
            earlier,
            draws,
            now.weights,
            language.sampled.compare(own, met),
        )
    )
    assert [int(p.draws.sum()) for p in found] == [6, 6]
    names = {ids: k for k, ids in enumerate(ml.all_responses(ENDED))}
    for x, p in enumerate(found):
        mine, theirs = (
            [names[r.ids(int(row))] for row in np.flatnonzero((r.prompt_of == x) & rows)]
            for r, rows in ((own, True), (met, earlier))
        )
        np.testing.assert_allclose(p.own, language.payoff[x][np.ix_(mine, mine)])
        np.testing.assert_allclose(p.others, language.payoff[x][np.ix_(theirs, mine)])


@pytest.mark.parametrize("pool", [False, True])
def test_in_training_its_mean_is_below_the_exact_gap(pool: bool) -> None:
    """In steps that draw by one policy, and with a pool of what another one has drawn."""
    language = game(table_network(), FIXED, prompts=PROMPTS, samples=8)
    assert language.sampled is not None
    policy, rng = language.start, np.random.default_rng(1)
    before = None
    if pool:
        flat = {n: 0.0 * w for n, w in policy.weights.items()}
        uniform = replace(policy, parts=((1.0, flat),))
        before = ml.Pool.empty().joined(language.sampled.feedback(uniform, rng=rng), 0)
    values = []
    for _ in range(60):
        q = language.sampled.feedback(policy, rng=rng, pool=before)
        assert q.gap is not None
        values.append(q.gap.value)
    error = np.std(values) / np.sqrt(len(values))
    exact = float(language.duality_gap(policy))
    assert 0.1 * exact < np.mean(values) < exact + 2.0 * error


def test_a_step_draws_and_learns_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate takes no random number from the run, and asks the judge nothing."""
    language = game(table_network(), FIXED, samples=12)
    texts = language.sampled
    assert texts is not None
    asked = []

    def counted(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        asked.append(len(a))
        return np.asarray(texts.judge(prompts, a, b))

    found, state = [], []
    for _ in range(2):
        rng = np.random.default_rng(0)
        found.append(replace(texts, judge=counted).feedback(language.start, rng=rng))
        state.append(rng.bit_generator.state)
        monkeypatch.setattr("mpo_llm.game.estimated_gap", lambda *_: None)
    assert found[0].gap is not None
    assert found[1].gap is None
    np.testing.assert_array_equal(found[0].advantages, found[1].advantages)
    assert state[0] == state[1]
    assert asked[0] == asked[1]
    # Against another policy own responses do not meet each other.
    other = texts.feedback(language.start, language.start.snapshot(), rng=np.random.default_rng(0))
    assert other.pairs is None
    assert other.gap is None


def test_an_entrants_gap_has_the_others_as_rivals() -> None:
    """Of a tournament: `R` alone is beaten by the paper of another entrant."""
    places = {"r": 0, "p": 1, "s": 2}

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        return np.array([0.5 + RPS[places[p], places[q]] for p, q in zip(a, b, strict=True)])

    rng = np.random.default_rng(0)
    table = meet(judge, ["x", "y"], {"rocks": ["rrrr"] * 2, "papers": ["pppr"] * 2})
    rocks, papers = (table.gap(name, rng) for name in table.names)
    assert rocks is not None
    assert rocks.value == pytest.approx(1.0)
    assert papers is not None
    assert papers.value == pytest.approx(by_hand_of_papers())
    assert meet(judge, ["x"], {"one": ["rps"], "two": ["rrr"]}).gap("one", rng) is None
    assert meet(judge, ["x"], {"one": ["rrrr"], "two": ["rrrr"]}).gap("one", rng) is None


def by_hand_of_papers() -> float:
    """`pppr` beside rocks: in a half with the rock, `p` wins one half of its comparisons by 1/2.

    The rival is `p` if the choosing half has the rock. The other half is `pp`, where it gains 0.
    If the choosing half is `pp`, all its own and the rocks are no better than `p`, which gains 1/4.
    """
    return 2.0 * 0.5 * 0.25


def test_metrics_evaluation_and_page_show_it(tmp_path: Path) -> None:
    held_out = {"source": str(tmp_path / "prompts.jsonl"), "every": 2, "samples": 5}
    config = tiny.config(tmp_path, evaluation=held_out, solver={"prompts": 8})
    tiny.prompts(tmp_path, 8)  # fewer have no interval
    train(config)
    run = tmp_path / "run"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name, some in (("estimated_gap", rows), ("held_out_gap", rows[1::2])):
        for row in some:
            assert -1.0 <= row[name] <= 1.0
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    found = evaluate_run(str(run), samples=5)
    assert found.gap is not None
    assert found.gap.error > 0.0
    assert f"estimated gap      at least {found.gap.with_interval('.3f')}" in str(found)
    few = evaluate_run(str(run), samples=3)
    assert few.gap is None
    assert "estimated gap      unknown" in str(few)
    for report in (found, few):
        text = render(run, {"vote": report}, answers=[("a", "b", "c")])
        assert "estimated gap, held out" in text
        assert "estimated gap, responses of the step" in text
        assert "estimated gap (95 %)" in text


def test_the_gap_of_a_first_visit_is_that_of_its_draws() -> None:
    """`Revisited` learns from more responses, but the estimate is of the policy's own draws; and
    earlier visits are rivals, so a later visit's estimate sees at least as many."""
    p = ml.TokenPolicy.of(transformer(), ENDED)
    language = ml.EnumerableGame(p, PROMPTS, preferences(ENDED, 2), 8)
    plain = language.feedback(p, rng=np.random.default_rng(3))
    found = []

    def kept(game: Any, state: Any, prox: Any, rng: Any) -> Any:
        q = game.feedback(state.policy, rng=rng)
        found.append(q)
        return replace(state, policy=prox(state.policy, q))

    inner = ml.Revisited(kept, explore=0.0)
    solver = mg.MMD(1.0, 0.1, feedback=inner)
    states = mg.iterate(language, solver, rng=np.random.default_rng(3))
    for _ in zip(range(3), states, strict=False):
        pass
    assert plain.gap is not None
    assert found[0].gap.value == pytest.approx(plain.gap.value, abs=1e-12)
    assert found[0].gap.error == pytest.approx(plain.gap.error, abs=1e-12)
    assert found[1].gap is not None
