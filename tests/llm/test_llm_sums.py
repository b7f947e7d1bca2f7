"""Sums: a step's minibatches, parts and processes add up to the whole, for any number of rows."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mpo_llm as ml
from architectures import gpt2, policy, transformed
from mpo_llm.networks.processes import OneProcess
from mpo_llm.step.minimisers import _backward
from mpo_llm.step.objectives import Objective

PROMPTS = ((7, 2, 9, 4), (3,), (5, 8))


def judged(p: ml.TokenPolicy, rows: int) -> ml.Rollouts:
    """Unlike numbers of responses to the prompts, of unlike lengths and weights."""
    rng = np.random.default_rng(rows)
    prompt_of = np.sort(np.arange(rows) % 3 * (np.arange(rows) % 4 > 0))
    ids = [tuple(rng.integers(1, 10, size=1 + i % 3).tolist()) for i in range(rows)]
    found = ml.Responses.of_ids(PROMPTS, prompt_of.tolist(), ids)
    weights = rng.random(rows)
    same = prompt_of[:, None] == prompt_of
    apart = rng.uniform(-0.5, 0.5, (rows, rows))
    return ml.Rollouts(
        found,
        weights / weights.sum(),
        rng.standard_normal(rows)[:, None] * found.mask,
        p.log_probs(found),
        (apart - apart.T) / 2.0 * same,
    )


class Part(OneProcess):
    """One of several processes, alone: its sums are added up by the test."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size  # type: ignore[misc]


def gradient(p: ml.TokenPolicy, q: ml.Rollouts, proximal: ml.Proximal, size: int = 1) -> Any:
    """Gradient, loss and KLs of a step, in the mean over its minibatches."""
    magnet = transformed(p)
    seen: list[Any] = []

    class Watched:
        searches = False

        def __call__(self, bench: Any, losses: Any, moments: Any, /) -> Any:
            found = _backward(losses, bench)
            grads = bench.take()
            seen.append((grads, found.loss, [float(kl) for kl in found.kls]))
            raise InterruptedError

    for rank in range(size):
        p.network.processes = Part(rank, size)
        with pytest.raises(InterruptedError):
            replace(proximal, minimise=Watched()).solve(p, p.moments, q, [(1.0, p), (0.1, magnet)])
    p.network.processes = OneProcess()
    names = list(p.weights)
    grads = {n: sum(g[n] for g, _, _ in seen if n in g) for n in names}
    return grads, sum(loss for _, loss, _ in seen), np.sum([kls for _, _, kls in seen], axis=0)


@pytest.mark.parametrize(
    "objective",
    [ml.TokenLevel(), ml.SequenceLevel(), ml.Squared(), ml.Logistic()],
    ids=lambda objective: type(objective).__name__,
)
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_minibatches_and_parts_are_the_whole(objective: Objective, rows: int) -> None:
    """Weights, gradient, loss and KLs; also for more minibatches or processes than responses."""
    p = policy(gpt2())
    q = judged(p, rows)
    whole = gradient(p, q, ml.Proximal(objective))
    splits = [(count, None, 1) for count in (2, 3, rows, rows + 3)] + [(1, None, 4), (2, None, 2)]
    if objective.separable:
        splits += [(1, 2, 1), (3, 1, 2)]
    for count, part, size in splits:
        proximal = ml.Proximal(objective, minibatches=count, micro_batch=part)
        batches = q.minibatches(count, by_prompt=not objective.separable)
        assert len(batches) == min(
            count, rows if objective.separable else len(set(q.responses.prompt_of.tolist()))
        )
        assert np.mean([batch.weights.sum() for batch in batches]) == pytest.approx(1.0)
        grads, loss, kls = gradient(p, q, proximal, size)
        for name, g in whole[0].items():
            torch.testing.assert_close(grads[name], g, atol=1e-10, rtol=0.0)
        assert loss == pytest.approx(whole[1], abs=1e-10)
        np.testing.assert_allclose(kls, whole[2], atol=1e-10)


@pytest.mark.parametrize("minimise", [ml.LBFGS(3), ml.Adam(1)])
def test_reported_kls_do_not_depend_on_minibatches(minimise: Any) -> None:
    """L-BFGS has them all in one loss; each of Adam's is an estimate of its own."""
    p = replace(policy(gpt2()), proximal=ml.Proximal(ml.SequenceLevel(), minimise))
    q, magnet = judged(p, 8), transformed(p)
    one = p.mirror_step(q, magnet, eta=1.0, alpha=0.1).report
    split = replace(p, proximal=replace(p.proximal, minibatches=4))
    four = split.mirror_step(q, magnet, eta=1.0, alpha=0.1).report
    assert one is not None
    assert four is not None
    if minimise.searches:
        np.testing.assert_allclose(four.first_kls, one.first_kls, atol=1e-9)
        np.testing.assert_allclose(four.last_kls, one.last_kls, atol=1e-6)
    assert four.gradients == (one.gradients if minimise.searches else 4)


def test_a_step_needs_a_minibatch() -> None:
    with pytest.raises(ValueError, match="`minibatches` must be a whole number, at least 1, got 0"):
        ml.Proximal(minibatches=0)


SCRIPT = """
import os, sys, torch, torch.nn as nn, torch.distributed as dist
from types import SimpleNamespace
from mpo_llm.networks.processes import Distributed
from mpo_llm.networks.workbench import Workbench
from mpo_llm.step.minimisers import Adam, Evaluated, Loss, Moments
rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
experts = {n: nn.Parameter(torch.arange(4.0) + i) for i, n in enumerate("abcd")}
# Expert a has tokens here alone, b there alone, c on both, d on none.
used = ("a", "c") if rank == 0 else ("b", "c")
loss = Loss([lambda: Evaluated(sum((experts[n] * (rank + 1)).sum() for n in used))], Distributed())
before = {n: p.detach().clone() for n, p in experts.items()}
bench = Workbench(nn.ParameterDict(experts))
bench.begin(bench.weights())
done = Adam(2, 0.1, clip=1e9)(bench, [loss], Moments())
assert set(done.moments.second) == set("abc"), set(done.moments.second)
b = 0.9999
for n, g in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
    torch.testing.assert_close(done.moments.second[n], torch.full((4,), g * g * (1 - b * b)))
    assert (experts[n] < before[n]).all()
assert torch.equal(experts["d"], before["d"])
sums = Distributed().add({"x": torch.ones(2)} if rank else {"y": torch.ones(3, dtype=torch.int64)})
assert torch.equal(sums["x"], torch.ones(2)) and torch.equal(sums["y"], torch.ones(3).long())
try:
    Distributed().add({"x": torch.ones(2 + rank)})
except ValueError as error:
    assert "unlike tensors 'x'" in str(error)
else:
    raise AssertionError
print("agreed", [p.tolist() for p in experts.values()], flush=True)
# As the command line does: a thread of gloo may abort the interpreter while it is taken down.
os._exit(0)
"""


@pytest.mark.slow
def test_processes_add_gradients_by_name(tmp_path: Path) -> None:
    """Two processes of gloo, on each of which another expert has no gradient."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    file = tmp_path / "sums.py"
    file.write_text(SCRIPT)
    both = [
        subprocess.Popen(
            [sys.executable, str(file), str(rank), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [one.communicate(timeout=120) for one in both]
    assert all(one.returncode == 0 for one in both), said
    agreed = [[line for line in out.splitlines() if line.startswith("agreed")] for out, _ in said]
    assert agreed[0] == agreed[1] != []
