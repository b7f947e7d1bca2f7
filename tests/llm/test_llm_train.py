"""The trainer on a tiny model: budgets, counts, records, checkpoints and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from mpo_llm.config import Config
from mpo_llm.training import assemble, checkpoint, memory
from mpo_llm.training.plan import plan
from mpo_llm.training.train import train
from runs import lines, same

SETTINGS: dict[str, dict[str, Any]] = {
    "optimistic MPO": {},
    "recipe with LoRA": {
        "model": {"lora_rank": 2},
        "solver": {"magnet": {"weight_ema": 0.1}, "pool": 3},
    },
    "sequence level, half steps": {
        "solver": {"feedback": "half_step"},
        "step": {"objective": "sequence", "minimiser": "lbfgs"},
    },
    "MPO-RT, minibatches": {
        "solver": {"pull": "in_reward", "feedback": "current"},
        "step": {"minibatches": 2, "kl": "k1_in_reward", "micro_batch": 2},
    },
    "regression in parts": {
        "solver": {"pool": 2, "magnet": {"every": 1}},
        "step": {"objective": "squared", "micro_batch": None},
    },
    "Nash-MD": {"solver": {"feedback": "against_mixture", "magnet": "fixed", "eta": 1.0}},
    "another mixture, moving magnet, pool": {
        "solver": {"feedback": {"against_mixture": 0.25}, "pool": 2, "pull": "in_reward"}
    },
    "bfloat16": {"model": {"dtype": "bfloat16"}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    """Stopped after 2 and after 3 steps, between which there is no regular checkpoint."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sections = SETTINGS[name] | {"evaluation": {"source": str(tmp_path / "prompts.jsonl")}}

    def config(folder: Path, steps: int) -> Config:
        output = {"folder": str(folder), "checkpoint_every": 2, "table_every": 1, "trackers": []}
        return tiny.config(
            tmp_path,
            **sections,
            budget={"steps": steps},
            output=output,
        )

    train(config(whole, 5))
    for steps in (2, 3, 5):
        train(config(parts, steps), resume=True)
    same(whole, parts, 5)


def test_what_is_counted(tmp_path: Path) -> None:
    """By hand: 2 prompts of 4 samples, and the pairs of distinct texts among them."""
    asked = []

    def count(prompts: Any, a: Any, b: Any) -> Any:
        asked.append(len(prompts))
        assert all(x != y for x, y in zip(a, b, strict=True))
        return [0.5] * len(prompts)

    tiny.judges["counting"] = count
    config = tiny.config(
        tmp_path, judge={"options": {"name": "counting"}}, solver={"feedback": "current"}
    )
    summary = train(config)
    rows = lines(tmp_path / "run")
    assert [row["steps"] for row in rows] == [1, 2, 3, 4]
    assert [row["samples"] for row in rows] == [8, 16, 24, 32]
    assert [row["gradient_steps"] for row in rows] == [2, 4, 6, 8]
    assert summary.counts["judge_calls"] == sum(asked)
    tokens, forward, backward = (
        np.diff([row[name] for row in [dict.fromkeys(rows[0], 0), *rows]])
        for name in ("tokens", "forward_tokens", "backward_tokens")
    )
    np.testing.assert_allclose(tokens, [8 * row["length"] for row in rows])
    # The policy that drew, the magnet and both epochs run over the distinct responses. The magnet
    # is the policy itself in the first step, and in the third, after it has moved.
    apart, another = backward // 2, np.array([0, 1, 0, 1])
    np.testing.assert_array_equal(forward, 2 + tokens - 8 + (1 + another) * apart + backward)
    assert (apart <= tokens).all()
    full = [row["distinct"] == 8 for row in rows]
    assert any(full)
    np.testing.assert_array_equal(apart[full], tokens[full])


def test_gradients_of_half_steps_count(tmp_path: Path) -> None:
    """The half step's policy stays nowhere, but its two gradients were computed."""
    summary = train(tiny.config(tmp_path, solver={"feedback": "half_step"}, budget={"steps": 2}))
    assert [row["gradient_steps"] for row in lines(tmp_path / "run")] == [4, 8]
    assert summary.seconds["step"] > 0.0
    assert summary.seconds["scoring"] > 0.0


@pytest.mark.parametrize(
    ("name", "limit", "steps"),
    [("samples", 17, 3), ("gradient_steps", 4, 2), ("tokens", 1, 1), ("judge_calls", 1, 1)],
)
def test_every_budget_ends_a_run(name: str, limit: int, steps: int, tmp_path: Path) -> None:
    """At the first step that reaches it, with a checkpoint there."""
    summary = train(tiny.config(tmp_path, budget={"steps": None, name: limit}))
    assert summary.reached == name
    assert summary.state.step == steps
    assert summary.saved.name == f"step-{steps:06d}"


def test_old_checkpoints_go(tmp_path: Path) -> None:
    train(tiny.config(tmp_path, output={"checkpoint_every": 1, "keep": 2}))
    found = checkpoint.listed(tmp_path / "run" / "checkpoints")
    assert [p.name for p in found] == ["step-000003", "step-000004"]


def test_a_checkpoint_holds_the_strength_of_the_last_step(tmp_path: Path) -> None:
    """One of release 0.1.0 does not, and is read all the same."""
    summary = train(tiny.config(tmp_path, solver={"eta": 0.5, "alpha": 0.25}))
    start = summary.state.policy
    found = checkpoint.load(summary.saved, start).state
    assert (found.eta, found.alpha) == (summary.state.eta, summary.state.alpha) == (0.5, 0.25)
    path = summary.saved / checkpoint.HEADER
    header = json.loads(path.read_text())
    del header["eta"], header["alpha"]
    path.write_text(json.dumps(header))
    found = checkpoint.load(summary.saved, start).state
    assert (found.eta, found.alpha) == (None, None)


def test_held_out_prompts_are_evaluated(tmp_path: Path) -> None:
    other = tmp_path / "held_out.jsonl"
    other.write_text('{"prompt": "h g"}\n{"prompt": "c"}\n')
    train(tiny.config(tmp_path, evaluation={"source": str(other), "every": 2}))
    rows = lines(tmp_path / "run")
    assert ["win_rate" in row for row in rows] == [False, True, False, True]
    assert rows[1]["win_rate_low"] <= rows[1]["win_rate"] <= rows[1]["win_rate_high"]
    assert rows[1]["samples"] == 16  # those of the evaluation are not on the bill


def test_policies_live_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`offload: null` compares the estimate of a step with what a device can still give."""
    config = tiny.config(tmp_path, model={"offload": None, "tf32": True})
    network, _ = assemble.network(config, torch.device("cpu"))
    assert not network.offload
    found = memory.estimate(config, network, config.prompts.max_tokens, config.generation.batch)
    least = sum(found.device.values()) - found.device["model"]
    cuda = torch.device("cuda", 0)
    for free, more in ((least - 1.0, True), (least, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 1e9))
        assert memory.exceeds(config, network, cuda) == more
    monkeypatch.setattr(memory, "exceeds", lambda *_: True)
    assert assemble.network(config, torch.device("cpu"))[0].offload
    said: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    for device in (torch.device("cpu"), cuda):
        assemble.multiply(config.model, device)
    assert said == ["high"]


def test_a_plan_says_what_the_run_then_takes(tmp_path: Path) -> None:
    """Counts to the digit; the arithmetic of memory where it can be checked."""
    config = tiny.config(tmp_path, budget={"steps": None, "samples": 20})
    found = plan(config)
    assert not (tmp_path / "run").exists()
    summary = train(config)
    assert found.steps == summary.counts["steps"] == 3
    assert found.responses * 3 == summary.counts["samples"]
    assert found.gradients * 3 == summary.counts["gradient_steps"]
    assert found.tokens * 3 >= summary.counts["tokens"]
    assert 3 * found.comparisons >= summary.counts["judge_calls"]
    policy = sum(w.numel() * 4 for w in summary.state.policy.weights.values())
    assert found.memory.device["policies"] == 4 * policy  # old, start, magnet, previous
    assert found.memory.device["model"] == policy
    assert set(found.seconds) == set(summary.seconds)
    assert "a step    2 prompts, 8 responses of at most 40 tokens" in str(found)
