"""Tournaments on texts: tables by hand, OpenSpiel's alpha-rank, win rates at equal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

import mpo_llm as ml
from mpo_llm.estimates import clustered
from mpo_llm.measures.length_control import length_controlled
from mpo_llm.measures.tournament import Tournament, alpha_rank, meet

CYCLE = {"rock": 0, "paper": 1, "scissors": 2}


def cyclic(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
    return [[0.5, 0.9, 0.1][(CYCLE[x] - CYCLE[y]) % 3] for x, y in zip(a, b, strict=True)]


def test_tables_by_hand() -> None:
    """Each pair of distinct texts is judged once, and equal texts are not judged."""
    asked: list[tuple[str, str, str]] = []

    def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
        asked.extend(zip(prompts, a, b, strict=True))
        return cyclic(prompts, a, b)

    entrants = {"one": [["rock", "paper"], ["rock", "rock"]], "two": [["scissors", "rock"]] * 2}
    met = meet(judge, ["x", "y"], entrants)
    assert len(asked) == len({(x, frozenset((a, b))) for x, a, b in asked}) == 3 + 1
    by_hand = [[0.9, 0.5, 0.1, 0.9], [0.9, 0.5, 0.9, 0.5]]
    np.testing.assert_allclose(met.table[:, 0, :, 1].reshape(2, 4), by_hand)
    assert met.win_rate("one", "two").value == pytest.approx(np.mean(by_hand))
    assert met.win_rate("one", "two", np.array([True, False])).value == pytest.approx(0.6)
    np.testing.assert_allclose(met.matrix() + met.matrix().T, 1.0)
    np.testing.assert_allclose(np.diag(met.matrix()), 0.5)
    assert met.length("two").value == 6.0


def test_a_cycle_of_pure_entrants() -> None:
    """No entrant is best: each has 1/3 in equilibrium and in alpha-rank, and is beaten by .4."""
    met = meet(cyclic, ["x"] * 4, {name: [[name]] * 4 for name in CYCLE})
    np.testing.assert_allclose(met.equilibrium().policy.probs, 1 / 3)
    np.testing.assert_allclose(list(met.ranking().values()), 1 / 3)
    for name in CYCLE:
        assert met.exploitability(name).value == pytest.approx(0.4)
        assert met.exploitability(name).error == pytest.approx(0.0)


def test_one_who_mixes_needs_no_pool() -> None:
    """No entrant beats the uniform mixture of the three; each pure entrant is beaten."""
    entrants = {name: [[name] * 3] * 4 for name in CYCLE} | {"mixed": [list(CYCLE)] * 4}
    met = meet(cyclic, ["x"] * 4, entrants)
    assert met.exploitability("mixed").value == pytest.approx(0.0, abs=1e-12)
    assert met.exploitability("rock").value == pytest.approx(0.4)


def test_exploitability_is_not_flattered_by_noise() -> None:
    """Of 20 equal entrants the best win rate is far above 1/2 by noise; the estimate is near 0."""
    rng = np.random.default_rng(0)
    found, naive = [], []
    for _ in range(40):
        table = np.triu(rng.uniform(size=(8, 20, 20)), 1)
        table = table + np.tril(1.0 - table.swapaxes(1, 2), -1) + 0.5 * np.eye(20)
        met = Tournament(tuple("abcdefghijklmnopqrst"), table[:, :, None, :, None], np.ones(1))
        found.append(met.exploitability("a").value)
        naive.append(float((0.5 - met.matrix()[0]).max()))
    assert np.mean(naive) > 0.15
    assert abs(np.mean(found)) < 0.06


def test_refusals() -> None:
    with pytest.raises(ValueError, match="equally many responses"):
        meet(cyclic, ["x"], {"one": [["rock"]], "two": [["rock", "paper"]]})
    with pytest.raises(ValueError, match="equally many responses"):
        meet(cyclic, ["x", "y"], {"one": [["rock"]]})
    with pytest.raises(ValueError, match="at least 2 prompts"):
        meet(cyclic, ["x"], {"one": [["rock"]]}).exploitability("one")
    with pytest.raises(ValueError, match=r"got nan"):
        meet(lambda x, a, b: [None] * len(x), ["x"], {"one": [["rock"]], "two": [["paper"]]})


@pytest.mark.parametrize("seed", range(5))
def test_alpha_rank_is_openspiels(seed: int) -> None:
    alpharank = pytest.importorskip("open_spiel.python.egt.alpharank")
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.35, 0.65, size=(6, 6))
    p = 0.5 + 0.5 * (p - p.T)
    expected = alpharank.compute([p], m=50, alpha=10.0, use_local_selection_model=False)[2]
    np.testing.assert_allclose(alpha_rank(p), expected, atol=1e-8)


def test_alpha_rank_at_the_extremes() -> None:
    """The loser of a chain of certain wins keeps a positive mass, although far below rounding."""
    chain = 0.5 + 0.5 * np.sign(np.subtract.outer(np.arange(4), np.arange(4)))
    mass = alpha_rank(chain)
    assert np.all(np.diff(mass) > 0)
    assert mass[3] == pytest.approx(1.0)
    np.testing.assert_array_equal(alpha_rank(np.array([[0.5]])), 1.0)
    np.testing.assert_allclose(alpha_rank(np.full((3, 3), 0.5)), 1 / 3)


# ------------------------------------------------------------------------------------ estimates


def simulated(skill: float, bias: float, rng: np.random.Generator, n: int = 60) -> Any:
    """Preferences that depend on skill and length, for 4 comparisons on each of n prompts."""
    of = np.repeat(np.arange(n), 4)
    longer = rng.normal(40, 60, size=len(of))
    odds = skill + rng.normal(0, 0.3, n)[of] + bias * np.tanh(longer / longer.std())
    return (rng.random(len(of)) < expit(odds)).astype(float), longer, of


@pytest.mark.parametrize("bias", [0.0, 2.0, -2.0])
def test_equal_lengths(bias: float) -> None:
    """The interval covers the win rate at equal lengths; the raw win rate is moved by length."""
    rng = np.random.default_rng(1)
    truth, covered, raw = expit(0.4), 0, []
    for _ in range(60):
        preferences, longer, of = simulated(0.4, bias, rng)
        low, high = length_controlled(preferences, longer, of).interval
        covered += low <= truth <= high
        raw.append(preferences.mean())
    assert covered >= 51
    assert np.sign(np.mean(raw) - truth) == np.sign(bias) or not bias


def test_equal_lengths_at_the_extremes() -> None:
    """With equal lengths it is the plain win rate. If all is won it is close to 1, and finite."""
    of = np.arange(200)
    half = (of % 4 == 0).astype(float)
    found = length_controlled(half, np.zeros(200), of)
    assert found.value == pytest.approx(0.25, abs=0.01)
    assert found.error == pytest.approx(np.sqrt(0.25 * 0.75 / 200), rel=0.02)
    assert 0.98 < length_controlled(np.ones(200), np.linspace(-1, 1, 200), of).value < 1.0


def test_clusters() -> None:
    """Copies of comparisons leave the error as it is; independent values have the usual error."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    plain = clustered(values, np.arange(50))
    assert plain.error == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    copied = clustered(np.tile(values, 7), np.tile(np.arange(50), 7))
    assert copied.error == pytest.approx(plain.error)
    assert copied.value == pytest.approx(plain.value)
    assert np.isnan(clustered(values, np.zeros(50)).error)
    assert isinstance(plain, ml.estimates.Estimate)
