"""Estimates: their intervals stay within what is possible, and are refused for few prompts."""

from __future__ import annotations

import json
from math import inf, isnan

import numpy as np
import pytest
from scipy import stats

from mpo_llm.estimates import FEWEST, NORMAL, Estimate, clustered, plain
from mpo_llm.measures import report


def shares(values: list[float]) -> Estimate:
    """The mean of a share at as many prompts."""
    return clustered(np.array(values), np.arange(len(values)), (0.0, 1.0))


def test_a_mean_has_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert clustered(values, np.arange(12)).interval == pytest.approx(tuple(expected))
    # Where nobody has counted, the error is taken for known.
    assert Estimate(3.0, 0.5).interval == pytest.approx((3.0 - NORMAL / 2, 3.0 + NORMAL / 2))


def test_variances_within_prompts_have_a_degree_of_freedom_less_for_each_prompt() -> None:
    """The interval of a sum of means with one variance: X (K - 1) degrees of freedom."""
    each = np.random.default_rng(1).normal(np.arange(5.0)[:, None], 1.0, size=(5, 3))
    found = report._over_prompts(each, bounds=(-inf, inf))
    pooled = each.var(axis=1, ddof=1).mean()
    assert found.error == pytest.approx(np.sqrt(pooled / each.size))
    assert (found.independent, found.freedom) == (15, 10)
    assert found.half == pytest.approx(stats.t.ppf(0.975, 10) * found.error)
    # A single draw to each prompt has no variance within.
    with np.errstate(all="ignore"):
        assert isnan(Estimate(0.0, float("nan"), 9, freedom=0).half)


@pytest.mark.parametrize("wins", [0, 1, 7, 39, 40])
def test_a_share_of_many_has_wilsons_interval(wins: int) -> None:
    """For wins and losses alone it is that of as many trials, with Student's quantile."""
    found = shares([1.0] * wins + [0.0] * (40 - wins))
    # The error has n - 1 in its place; if all are equal, n is the number of prompts.
    n, t = 39 if 0 < wins < 40 else 40, stats.t.ppf(0.975, 39)
    p = wins / 40
    # The ends are where the score test refuses p.
    for end in found.interval:
        assert abs(p - end) == pytest.approx(t * np.sqrt(end * (1.0 - end) / n), abs=1e-12)
    assert 0.0 <= found.interval[0] <= p <= found.interval[1] <= 1.0


def test_no_interval_leaves_what_is_possible() -> None:
    rng = np.random.default_rng(1)
    for bounds in ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, inf)):
        for spread in (0.0, 1e-9, 0.01, 1.0):
            least, most = bounds[0], min(bounds[1], 1.0)
            values = np.clip(least + spread * rng.random(9) ** 4, least, most)
            found = clustered(values, np.arange(9), bounds)
            low, high = found.interval
            assert bounds[0] <= low <= found.value + 1e-15
            assert found.value - 1e-15 <= high <= bounds[1]


def test_equal_values_do_not_make_certain() -> None:
    """None of ten harmful is no proof that none ever is: by Wilson up to a third are."""
    low, high = shares([0.0] * 10).interval
    assert low == 0.0
    assert 0.2 < high < 0.4
    assert shares([0.0] * 1000).interval[1] < 0.005


def test_few_prompts_have_no_interval() -> None:
    few, enough = shares([0.0, 1.0] * (FEWEST // 2 - 1)), shares([0.0, 1.0] * (FEWEST // 2))
    assert all(map(isnan, few.interval))
    assert few.with_interval(".1f") == "0.5 [unknown]"
    assert str(few) == "0.5 ± unknown"
    assert enough.interval[0] < 0.5 < enough.interval[1]
    # A single prompt has no error either, and no number none.
    assert shares([0.5]).with_interval(".1f") == "0.5 [unknown]"


def test_intervals_hold_the_share() -> None:
    """Beta-binomial prompts of several answers, also close to 0: at least 93 in 100 do."""
    rng = np.random.default_rng(2)
    for prompts, a, b in ((8, 0.5, 0.5), (8, 0.3, 3.0), (40, 0.3, 3.0)):
        drawn = rng.binomial(4, rng.beta(a, b, (600, prompts))) / 4
        intervals = np.array([shares(row.tolist()).interval for row in drawn])
        covered = (intervals[:, 0] <= a / (a + b)) & (a / (a + b) <= intervals[:, 1])
        assert covered.mean() >= 0.93


def test_json_has_no_number_for_what_is_not_known() -> None:
    found = {"few": shares([0.0, 1.0]), "many": shares([1.0] * 9), "x": (inf, 1, "a")}
    said = json.loads(json.dumps(plain(found), allow_nan=False))
    assert said["few"] == {"value": 0.5, "error": 0.5, "low": None, "high": None}
    assert said["many"]["high"] == 1.0
    assert said["many"]["low"] == pytest.approx(shares([1.0] * 9).interval[0])
    assert said["x"] == [None, 1, "a"]
