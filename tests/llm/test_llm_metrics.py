"""Sampled metrics, compared with the exact ones of an enumerable game."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, PROMPTS, game, table_network


@pytest.fixture(scope="module")
def language() -> ml.EnumerableGame:
    return game(table_network(), ENDED, prompts=PROMPTS, samples=2)


@pytest.fixture(scope="module")
def other(language: ml.EnumerableGame) -> ml.TokenPolicy:
    generator = torch.Generator().manual_seed(1)
    moved = {
        n: w + torch.randn(w.shape, generator=generator, dtype=w.dtype)
        for n, w in language.start.weights.items()
    }
    return replace(language.start, parts=((1.0, moved),))


def evaluated(
    language: ml.EnumerableGame, other: ml.TokenPolicy, samples: int, seed: int
) -> ml.Report:
    assert language.sampled is not None
    return ml.evaluate(
        language.sampled, language.start, {"other": other}, samples, np.random.default_rng(seed)
    )


def test_intervals_hold_the_truth(language: ml.EnumerableGame, other: ml.TokenPolicy) -> None:
    """In 60 reports, each kind of 95 % interval covers the exact value at least 52 times."""
    p, table = language.start, language.table(language.start)
    lengths = language.every.lengths.reshape(2, -1)
    truth = {
        "win": float(language.win_rate(p, other)),
        "kl": float(language.divergence(p, other)),
        "entropy": float(-(table.probs * table.log_probs).sum(1).mean()),
        "length": float((table.probs * lengths).sum(1).mean()),
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(60):
        r = evaluated(language, other, 24, seed)
        found = {
            "win": r.win_rate["other"],
            "kl": r.kl["other"],
            "entropy": r.entropy,
            "length": r.length,
        }
        for name, value in truth.items():
            low, high = found[name].interval
            covered[name] += low <= value <= high
    assert min(covered.values()) >= 52, covered


def estimated(report: ml.Report) -> float:
    assert report.gap is not None
    return report.gap.value


def test_the_gap_is_a_lower_bound_in_the_mean(
    language: ml.EnumerableGame, other: ml.TokenPolicy
) -> None:
    """The mean over reports is below the exact gap, and close to it with many samples."""
    exact = float(language.duality_gap(language.start))
    few = np.mean([estimated(evaluated(language, other, 8, seed)) for seed in range(40)])
    many = np.mean([estimated(evaluated(language, other, 200, seed)) for seed in range(3)])
    assert few < many < exact + 0.02
    assert many > 0.8 * exact


def test_cycles(language: ml.EnumerableGame, other: ml.TokenPolicy) -> None:
    """If every response is drawn, the share of cyclic triples is that of the whole table."""
    flat = {n: 0.0 * w for n, w in language.start.weights.items()}
    uniform = replace(language.start, parts=((1.0, flat),))
    assert language.sampled is not None
    r = ml.evaluate(language.sampled, uniform, {}, 400, np.random.default_rng(0))
    exact = np.mean([mg.cyclicity.cyclic_share(t) for t in language.twin.preferences])
    assert exact > 0.1
    assert r.cyclic_share == pytest.approx(exact, abs=0.02)


def test_refusal(language: ml.EnumerableGame, other: ml.TokenPolicy) -> None:
    with pytest.raises(ValueError, match="`samples` must be a whole number, at least 4"):
        evaluated(language, other, 3, 0)
