"""The rate that is measured: how far Adam's first update goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
from languages import ENDED, PROMPTS, game, table_network, transformer

ADAM = ml.Adam(1, ml.Reaching(), ml.constant, keep_first=True)


def made(network: Any = None, adam: ml.Adam = ADAM, **options: Any) -> ml.EnumerableGame:
    proximal = ml.Proximal(ml.SequenceLevel(), adam, **options)
    return game(network or transformer(), ENDED, proximal, prompts=PROMPTS)


def step(language: ml.EnumerableGame, eta: float = 1.5) -> ml.TokenPolicy:
    start = language.start
    return start.mirror_step(language.feedback(start), None, eta=eta, alpha=0.0)


@pytest.mark.parametrize("kl", [0.015, 0.001])
@pytest.mark.parametrize("eta", [0.1, 1.5])
def test_the_first_update_goes_that_far(kl: float, eta: float) -> None:
    """However long the step is to be."""
    language = made(adam=replace(ADAM, rate=ml.Reaching(kl)))
    new = step(language, eta)
    assert language.divergence(new, language.start) == pytest.approx(kl, rel=0.1)


def test_the_step_is_adam_at_the_rate_that_was_found() -> None:
    """Bit for bit: the trials leave no trace in weights and moments."""
    adam = replace(ADAM, epochs=3)
    found = step(made(adam=adam))
    assert found.report is not None
    assert found.report.gradients == 4
    rate = found.moments.rate
    plain = step(made(adam=replace(adam, rate=rate)))
    for name, weight in plain.weights.items():
        assert torch.equal(weight, found.weights[name])
        assert torch.equal(plain.moments.first[name], found.moments.first[name])
        assert torch.equal(plain.moments.second[name], found.moments.second[name])


def test_it_is_measured_once_and_saved() -> None:
    language = made()
    one = step(language)
    two = one.mirror_step(language.feedback(one), None, eta=0.3, alpha=0.0)
    assert two.report is not None
    assert two.report.gradients == 1
    assert two.moments.rate == one.moments.rate > 0.0
    assert language.start.restored(two.arrays()).moments.rate == one.moments.rate
    # Runs that measure nothing have files as before.
    assert "rate" not in step(made(adam=ml.Adam(1))).arrays()


def test_wider_networks_have_smaller_rates() -> None:
    rates = []
    for width in (8, 16, 32, 64):
        torch.manual_seed(0)
        network = ml.PlainNetwork(ml.SmallTransformer(6, 5, width=width), context=5)
        rates.append(step(made(network)).moments.rate)
    assert rates == sorted(rates, reverse=True)


def test_where_nothing_is_better_it_is_measured_again() -> None:
    """Ties have no gradient: the weights stay, and so does the question."""
    start = made(table_network()).start
    language = ml.EnumerableGame(start, PROMPTS[:1], np.full((40, 40), 0.5))
    new = step(language)
    assert new.moments.rate == 0.0
    for name, weight in start.weights.items():
        assert torch.equal(weight, new.weights[name])


def test_parts_of_a_sample_change_nothing() -> None:
    whole, parts = step(made()), step(made(micro_batch=7))
    assert parts.moments.rate == pytest.approx(whole.moments.rate, rel=1e-9)


class Bench:
    """Two weights and their gradient, at one place."""

    def __init__(self) -> None:
        self.drafts = {"w": torch.zeros(2, dtype=torch.float64)}

    def take(self) -> dict[str, torch.Tensor]:
        return {"w": torch.ones(2, dtype=torch.float64)}

    def replace(self, drafts: dict[str, torch.Tensor]) -> None:
        self.drafts = drafts


@pytest.mark.parametrize("c", [1.0, 2e5, 3e9])
@pytest.mark.parametrize("rounding", [0.0, 0.06, 0.5])
def test_what_rounding_adds_does_not_count(c: float, rounding: float) -> None:
    """In half precision the least move seems to go some way. The KL without it is what is reached,
    as far as there is such a rate below .1."""
    bench: Any = Bench()
    rng = np.random.default_rng(0)

    def kl() -> float:
        moved = float(bench.drafts["w"].abs().max())
        noise = rounding * (1.0 + 0.02 * rng.normal()) if moved else 0.0
        return noise + c * moved**2

    rate, sure = ml.Reaching(0.045).measured(bench, kl, 1e-8)
    assert rate == pytest.approx(min((0.045 / c) ** 0.5, 0.1), rel=0.3 if rounding else 0.05)
    assert sure == (c > 1.0) or rounding > 0.0
    assert not bench.drafts["w"].any()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`kl`"):
        ml.Reaching(0.0)
    with pytest.raises(ValueError, match="`rate`"):
        ml.Adam(rate=0.0)
