"""The weights of a token-level policy: adapters, precisions, copies in CPU memory, and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from architectures import RESPONSES, adapted, alone, gpt2, policy, rollouts
from languages import ENDED, PROMPTS, game, transformer


def test_lora_starts_at_its_base_and_leaves_it() -> None:
    """The first magnet is the base model; a step moves the policy away from it and the base, to
    which `get_base_model()` alone does *not* lead back, stays where it was."""
    base = gpt2()
    expected = alone(base.eval(), RESPONSES)
    p = policy(adapted(base))
    assert all("lora_" in name for name in p.weights)
    magnet = p.snapshot()
    for row, values in enumerate(expected):
        np.testing.assert_allclose(magnet.log_probs(RESPONSES)[row, : len(values)], values)
    stepped = replace(p, proximal=ml.Proximal(minimise=ml.Adam(rate=0.05))).mirror_step(
        rollouts(p), magnet, eta=1.0, alpha=0.1
    )
    assert stepped.kl(magnet, RESPONSES).sum() > 1e-3
    for row, values in enumerate(expected):
        np.testing.assert_allclose(magnet.log_probs(RESPONSES)[row, : len(values)], values)


def test_lora_is_the_merged_model() -> None:
    p = policy(adapted(gpt2()))
    stepped = replace(p, proximal=ml.Proximal(minimise=ml.Adam(rate=0.05))).mirror_step(
        rollouts(p), None, eta=1.0, alpha=0.0
    )
    fresh = adapted(gpt2())
    ml.TransformersNetwork(fresh).load(stepped.weights)
    merged = fresh.merge_and_unload().eval()
    for row, values in enumerate(alone(merged, RESPONSES)):
        np.testing.assert_allclose(
            stepped.log_probs(RESPONSES)[row, : len(values)], values, atol=1e-10
        )


def test_prompt_tuning_is_refused() -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match="injected adapters"):
        ml.TransformersNetwork(peft.get_peft_model(gpt2(), config))


def test_offloaded_copies_are_the_same_policies() -> None:
    p, q = policy(gpt2(), offload=True), policy(gpt2())
    one, two = (x.mirror_step(rollouts(x), x.snapshot(), eta=1.0, alpha=0.1) for x in (p, q))
    np.testing.assert_array_equal(
        one.snapshot().log_probs(RESPONSES), two.snapshot().log_probs(RESPONSES)
    )


def test_half_precision_is_saved_bit_for_bit() -> None:
    p = policy(gpt2().to(torch.bfloat16))
    again = p.restored(p.arrays())
    for name, w in p.weights.items():
        assert again.weights[name].dtype == torch.bfloat16
        torch.testing.assert_close(again.weights[name], w, atol=0.0, rtol=0.0)
    stepped = p.mirror_step(rollouts(p), p, eta=1.0, alpha=0.1)
    assert all(v.dtype == torch.float32 for v in stepped.moments.second.values())


def test_masters_run_as_their_rounding() -> None:
    """When they draw and when they score; the module has the weights that were run last."""
    p = policy(gpt2().to(torch.bfloat16))
    q = rollouts(p)
    masters = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    halves = {n: w.to(torch.bfloat16) for n, w in masters.weights.items()}
    assert all(w.dtype == torch.float32 for w in masters.weights.values())
    before = {n: w.clone() for n, w in p.weights.items()}
    one, two = (
        ml.Autoregressive()(x, PROMPTS, 3, np.random.default_rng(0))
        for x in (masters, replace(masters, parts=((1.0, halves),)))
    )
    np.testing.assert_array_equal(one.responses.tokens, two.responses.tokens)
    np.testing.assert_array_equal(one.log_probs, two.log_probs)
    found = masters.log_probs(q.responses)
    np.testing.assert_array_equal(
        found, replace(masters, parts=((1.0, halves),)).log_probs(q.responses)
    )
    assert not np.array_equal(found, p.log_probs(q.responses))
    for x, last in ((masters, halves), (p, before)):
        x.log_probs(q.responses)
        for name, w in p.network.trainable.items():
            torch.testing.assert_close(w.detach(), last[name], atol=0.0, rtol=0.0)


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    """Policy, magnet, previous policy, optimiser, pool and random numbers: all in the file."""
    solver = mg.MMD(1.0, 0.1, magnet=mg.Every(2), feedback=ml.Replayed(mg.optimistic, steps=3))

    def language() -> ml.EnumerableGame:
        return game(transformer(), ENDED, prompts=PROMPTS, samples=8)

    whole = mg.solve(language(), solver, 5)
    path = mg.solve(language(), solver, 3).save(tmp_path / "run")
    fresh = language()
    loaded = mg.Solution.load(path, fresh)
    assert not np.array_equal(
        loaded.state.magnet.log_probs(fresh.every), loaded.policy.log_probs(fresh.every)
    )
    resumed = mg.solve(fresh, solver, 5, resume=loaded)
    for name, w in whole.policy.weights.items():
        torch.testing.assert_close(resumed.policy.weights[name], w, atol=0.0, rtol=0.0)
    for name, array in whole.state.policy.arrays().items():
        np.testing.assert_array_equal(resumed.state.policy.arrays()[name], array)
    np.testing.assert_array_equal(resumed.trace["gap"][-1], whole.trace["gap"][-1])


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = mg.solve(game(transformer()), mg.MPO(1.0, 0.1, 2), 1).save(tmp_path / "run")
    with pytest.raises(ValueError, match="not a saved solution of this game"):
        mg.Solution.load(path, game(transformer(layers=1)))
