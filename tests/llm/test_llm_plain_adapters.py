"""LoRA on a plain module: only the adapters are trained, at a rate that is measured for them."""

from __future__ import annotations

import peft
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import ENDED, PROMPTS, preferences


def module() -> ml.SmallTransformer:
    torch.manual_seed(0)
    found = ml.SmallTransformer(6, 5, width=16).double()
    with torch.no_grad():
        found.head.weight.mul_(20.0)
    return found


def adapted() -> peft.PeftModel:
    """All linear layers have adapters; by their names "0" and "2" those of a block have none."""
    lora = peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    return peft.get_peft_model(module(), lora)


def game(network: ml.Network, samples: int | None = None) -> ml.EnumerableGame:
    solve = ml.Proximal(ml.SequenceLevel(), ml.Adam(1, ml.Reaching(), ml.constant))
    start = ml.TokenPolicy.of(network, ENDED, solve)
    return ml.EnumerableGame(start, PROMPTS, preferences(ENDED, len(PROMPTS)), samples)


@pytest.mark.parametrize("prefixes", [False, True])
def test_a_new_adapter_changes_nothing(prefixes: bool) -> None:
    language = game(ml.PlainNetwork(adapted(), prefixes=prefixes))
    plain = ml.TokenPolicy.of(ml.PlainNetwork(module()), ENDED)
    every = language.every
    assert language.start.log_probs(every) == pytest.approx(plain.log_probs(every), abs=1e-12)


def test_all_but_the_adapters_stay_as_they_are() -> None:
    model = adapted()
    language = game(ml.PlainNetwork(model), 8)
    base = {n: w.clone() for n, w in model.named_parameters() if "lora" not in n}
    assert set(language.start.weights) == {n for n, _ in model.named_parameters()} - set(base)
    found = mg.solve(language, mg.AutoMPO(), 3).policy
    assert float(language.divergence(found, language.start)) > 0.01
    with found.network.holding(found.weights) as held:
        for name, weight in held.named_parameters():
            assert name not in base or torch.equal(weight, base[name])


def test_the_rate_of_adapters_is_measured_as_that_of_all_weights() -> None:
    """The first update of either goes .045 nats, at rates of their own."""
    rates = []
    for network in (ml.PlainNetwork(module()), ml.PlainNetwork(adapted())):
        language = game(network)
        start = language.start
        new = start.mirror_step(language.feedback(start), None, eta=1.5, alpha=0.0)
        assert language.divergence(new, start) == pytest.approx(0.045, rel=0.1)
        rates.append(new.moments.rate)
    assert rates[1] > 2.0 * rates[0]
