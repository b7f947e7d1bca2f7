"""The contest of `many_prompts`: equal grids, honest counts, a judge that tosses coins."""

import numpy as np
import pytest

from experiments import many_prompts as figure
from experiments.lab import prompt_contest as contest

torch = pytest.importorskip("torch")

PRESETS = (contest.PRESET, contest.FAIR, *contest.ABLATIONS)


def test_every_published_method_chooses_from_equally_many_settings():
    for method in contest.PUBLISHED.values():
        settings = method.settings()
        assert len({tuple(s.items()) for s in settings}) == len(settings) == contest.TRIES
        assert {s["rate"] for s in settings} == set(contest.RATES)


def test_methods_are_tuned_and_reported_on_different_games():
    seeds = range(figure.SEED, figure.SEED + max(figure.GAMES.values()))
    assert contest.DEVELOPED not in seeds


@pytest.mark.parametrize("method", ["MPO", "Nash-MD", "COMAL"])
def test_a_run_counts_what_it_spends(method):
    """64 responses a step; the mixture that Nash-MD plays against draws as many of its own."""
    setting = contest.PUBLISHED[method].settings()[0]
    found = contest.race(method, setting, "smooth", 2, 0)
    assert found["samples"] == 2 * 64 * (2 if method == "Nash-MD" else 1)
    assert found["gradients"] == 2 * (3 if method == "COMAL" else 4)
    # 16 responses to each of 64 prompts make so many pairs.
    assert 0 < found["judge_calls"] <= 64 * 16 * 15 // 2
    assert found["at"] == [2]
    assert all(0.0 < found[name][0] < 2.0 for name in ("last", "held", "average"))


def test_the_preset_and_its_changes_are_different_runs():
    runs = {m: contest.race(m, {}, "one prompt, styles", 3, 0) for m in PRESETS}
    gaps = {m: run["last"][-1] for m, run in runs.items()}
    # One prompt has no others, and the guard had nothing to do in these steps.
    same = {contest.PRESET, "no other prompts", "no guard"}
    assert len({gaps[m] for m in gaps if m not in same} | {gaps[contest.PRESET]}) == len(gaps) - 2
    assert runs["4 gradients a step"]["gradients"] < runs[contest.PRESET]["gradients"]


def test_coins_fall_as_often_as_the_judge_says():
    def judge(prompts, a, b):
        return np.full(len(prompts), 0.7)

    coins = contest.Coins(judge, np.random.default_rng(0))
    many = [""] * 10_000
    said = coins(many, many, many)
    assert set(said) == {0.0, 1.0}
    assert abs(said.mean() - 0.7) < 0.02


def test_a_remembered_coin_is_tossed_once_for_each_pair():
    setting = contest.PUBLISHED["MPO"].settings()[0]
    kept, anew = (
        contest.race("MPO", setting, "one prompt, styles", 6, 0, judge=judge)
        for judge in ("coin, kept", "coin, anew")
    )
    assert kept["judge_calls"] < anew["judge_calls"]


def test_a_run_that_breaks_counts_with_the_largest_gap(monkeypatch):
    def broken(*_, **__):
        raise FloatingPointError("broken")
        yield

    monkeypatch.setattr(contest.mg, "iterate", broken)
    found = contest.race("MPO", contest.PUBLISHED["MPO"].settings()[0], "smooth", 50, 0)
    assert found["at"] == [25, 50]
    assert found["last"] == found["held_average"] == [2.0, 2.0]
