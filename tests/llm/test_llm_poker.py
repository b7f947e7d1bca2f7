"""Poker in English by a model of transformers: adapters of the top blocks, and the demo."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
import runs
import tiny
from mpo_llm.config import ModelConfig
from mpo_llm.networks import loading
from mpo_llm.networks.below import Below
from mpo_llm.networks.inputs import Inputs
from mpo_llm.responses import Responses
from spoken import speller

DEMO = runpy.run_path(str(Path(__file__).parents[2] / "llm" / "demo" / "kuhn_poker.py"))


@pytest.mark.slow
def test_the_demo_runs_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(speller(tmp_path / "model"))
    records = []
    for steps in (1, 2):
        DEMO["main"](folder=tmp_path, steps=steps, model=model, lora_top=1)
        assert "exploitability" in capsys.readouterr().out
        records.append(runs.lines(tmp_path))
    # The record begins after the lesson, and the second call goes on.
    assert [row["step"] for row in records[1]] == [0, 1, 2]
    assert records[1][:2] == records[0]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["exploitability"]) == 3
    assert set(found["bets"]["after"]) == set(mg.load("kuhn_poker").tree.labels)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Your card: jack." in page
    assert page.count("<svg") == 1


def test_equilibria_of_the_picture_are_equilibria() -> None:
    """What the demo draws as the family: each of its members has the gap 0."""
    tree = mg.load("kuhn_poker")
    for bluffs in (0.0, 0.2, 1.0 / 3.0):
        probs = np.ones(tree.tree.sequences)
        for j, label in enumerate(tree.tree.labels):
            bet = DEMO["QUESTIONS"][label][1](bluffs)
            probs[tree.tree.offset[j] : tree.tree.offset[j + 1]] = 1.0 - bet, bet
        policy = mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, probs)
        assert float(tree.duality_gap(policy)) == pytest.approx(0.0, abs=1e-12)


def test_adapters_of_the_top_blocks_alone(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "model"))
    model, _ = loading.load(ModelConfig(folder, lora_rank=1, lora_top=1))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 14
    assert all(".layers.1." in name for name in trained)
    with pytest.raises(ValueError, match="at most the number of the model's blocks, 2, got 3"):
        loading.load(ModelConfig(folder, lora_rank=1, lora_top=3))
    with pytest.raises(ValueError, match=r"set `model.lora_rank`"):
        ModelConfig(folder, lora_top=1)


def test_what_lies_below_the_adapters_is_computed_once(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "model"))
    model, _ = loading.load(ModelConfig(folder, lora_rank=1, lora_top=1))
    network = ml.TransformersNetwork(model)
    passed = []
    layers = network.layers
    layers[0].self_attn.register_forward_hook(lambda *_: passed.append(0))
    prompts = ((4, 5, 6), (4, 5, 7, 8), (9,))
    responses = Responses.of_ids(prompts, [0, 1, 2], [(3,), (4,), (5,)])
    results = []
    for _ in range(2):
        states = network.states(Inputs.of_responses(responses, network.device))
        states.square().sum().backward()
        gradients = [p.grad.clone() for p in network.trainable.values() if p.grad is not None]
        network.workbench.clear()
        results.append([states.detach(), *gradients])
    # The same to the last bit, and the lower layer has run for the first one alone.
    assert len(passed) == 1
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    # Other rows are other states, and nothing of the model is left changed.
    others = Responses.of_ids(((7, 7),), [0], [(3,)])
    network.states(Inputs.of_responses(others, network.device))
    assert len(passed) == 2
    assert "forward" not in vars(layers[0])


def test_below_forgets_what_has_no_room(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "model"))
    model, _ = loading.load(ModelConfig(folder, lora_rank=1, lora_top=1))
    network = ml.TransformersNetwork(model)
    below = Below(network.layers, room=2 * 3 * 16 * 4)
    rows = [np.full((1, 3), i) for i in (4, 5, 6)]

    def run(ids: Any) -> Any:
        with torch.no_grad():
            return network._run(torch.from_numpy(ids))[0]

    passed: list[int] = []
    network.layers[0].self_attn.register_forward_hook(lambda *_: passed.append(0))
    plain = [run(ids) for ids in rows]
    passed.clear()
    for i in (0, 1, 2, 1, 0):
        assert torch.equal(below.run(rows[i], lambda i=i: run(rows[i])), plain[i])  # type: ignore[misc]
    # Three are one too many: the first was forgotten when the third came.
    assert len(passed) == 4


def test_nothing_lies_below_where_all_is_trained(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / "model"))
    for settings in (ModelConfig(folder), ModelConfig(folder, lora_rank=1)):
        model, _ = loading.load(settings)
        assert ml.TransformersNetwork(model)._below is None
