"""Where policies keep their weights on a second device, in memory and in files."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.numpy import load_file

import mpo_llm as ml
from mpo_games.protocol import State
from mpo_llm.config import Config, ModelConfig, SolverConfig, StepConfig, WeightEma
from mpo_llm.training import checkpoint, memory
from second_device.backend import METER, NAME
from second_device.budgets import broad, bytes_held
from second_device.features import elsewhere
from second_device.models import RESPONSES, llama, policy, stepped


def devices(p: ml.TokenPolicy) -> set[str]:
    return {w.device.type for _, w in p.tensors().values()}


def offload_outlives_a_file() -> None:
    """Weights, averages and both moments are on the host, however a policy came about."""
    proximal = ml.Proximal(minimise=ml.Adam(2, 1e-2, keep_first=True))
    kinds = (("full", True), ("full", False), ("bfloat16", False), ("LoRA, bfloat16", True))
    for name, offload in kinds:
        p = policy(name, torch.device(NAME), proximal, offload=offload)
        one = stepped(p)
        again = one.restored(one.arrays())
        assert again.moments.first.keys() == one.moments.first.keys() == p.weights.keys()
        for x in (p, one, one.snapshot(), again, one.averaged(p, 0.5), stepped(again)):
            assert devices(x) == {"cpu" if offload else NAME}
        assert p.network.at_home(torch.ones(2, device=NAME)).tolist() == [1.0, 1.0]


def what_is_shared_is_saved_once() -> None:
    """And shared again when it is read: a magnet that is the policy, and a mixture's parts."""
    for offload in (False, True):
        start = policy("full", torch.device(NAME), offload=offload)
        p = stepped(start)
        items = {"previous": start, "mixed": p.mix(start, 0.5)}
        state = State(p, p.snapshot(), 1, memory=items, eta=1.0, alpha=0.1)
        known = checkpoint.Checkpoint(state, {}, {"steps": 1}, {})
        with tempfile.TemporaryDirectory() as folder:
            saved = checkpoint.save(Path(folder), known)
            arrays = load_file(saved / checkpoint.STATE)
            weights = [key for key in arrays if "/part " in key]
            assert len(weights) == 2 * len(start.weights), weights
            assert len(json.loads((saved / checkpoint.HEADER).read_text())["aliases"]) > 0
            found = checkpoint.load(saved, start).state
        mixed = found.memory["mixed"]
        assert found.magnet.weights is found.policy.weights is mixed.parts[0][1]
        assert found.memory["previous"].weights is mixed.parts[1][1]
        assert len(mixed.mix(found.policy, 0.5).parts) == 2


def all_is_freed() -> None:
    """A network that has taken a step leaves nothing behind on the device."""
    gc.collect()
    before = METER.held
    proximal = ml.Proximal(minimise=ml.Adam(1, 1e-2))
    for offload in (False, True):
        network = ml.TransformersNetwork(llama().bfloat16().to(NAME), offload=offload)
        p = ml.TokenPolicy.of(network, ml.Decoding(2), proximal)
        q = replace(stepped(p, elsewhere(p)), report=None)
        q.log_probs(RESPONSES)
        assert METER.held > before
        del network, p, q
        gc.collect()
        assert METER.held == before


def the_plan_is_what_a_step_takes() -> None:
    """The arithmetic of weights, gradients and moments, to a tenth."""
    solver = SolverConfig(magnet=WeightEma(0.1), feedback="optimistic")
    for offload in (False, True):
        frozen, peak, _, trained = bytes_held(broad, offload)
        config = Config(
            ModelConfig(dtype="bfloat16", offload=offload),
            solver=solver,
            step=StepConfig(epochs=2),
        )
        network = ml.TransformersNetwork(broad().to(NAME), offload=offload)
        found = memory.of_weights(config, network)
        assert abs(sum(found.device.values()) - peak) < 0.1 * peak, (found, peak / trained)
        assert frozen == 0
        # Everything is somewhere: the first moment, gradients and the model are not offloaded.
        whole = sum(found.device.values()) + sum(found.host.values())
        assert abs(whole - 36.0 * trained) < 0.5 * trained, whole / trained


CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        offload_outlives_a_file,
        what_is_shared_is_saved_once,
        all_is_freed,
        the_plan_is_what_a_step_takes,
    )
}
