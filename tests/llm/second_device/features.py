"""The features of the adapter: each gives numbers that must be the same on both devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import ArrayLike

import mpo_games as mg
import mpo_llm as ml
from mpo_games.choices.pull import in_reward
from mpo_llm.step import kl_forms, scoring
from mpo_llm.step.objectives import Objective
from second_device.backend import METER, NAME
from second_device.meter import measured
from second_device.models import (
    PROMPTS,
    RESPONSES,
    numbers,
    policy,
    stepped,
)

Numbers = Mapping[str, ArrayLike]


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that the adapter does on a device."""

    run: Callable[[torch.device, Path], Numbers]
    """Its numbers by name, from a device and an empty folder."""
    apart: float = 1e-9
    """How far the devices may be apart: they add up in another order."""


def drawn(p: ml.TokenPolicy, name: str = "", count: int = 3) -> dict[str, ArrayLike]:
    """Responses and their log-probabilities, in two batches."""
    found = ml.Autoregressive(2 * count)(p, PROMPTS, count, np.random.default_rng(0))
    return {
        f"{name} tokens": found.responses.tokens,
        f"{name} lengths": found.responses.lengths,
        f"{name} log-probabilities": found.log_probs,
    }


def draw(device: torch.device, _: Path) -> Numbers:
    """By the model's cache, and without one."""
    names = ("full", "LoRA", "tied", "capped", "counting", "switching", "plain")
    return {k: v for name in names for k, v in drawn(policy(name, device), name).items()}


def score(device: torch.device, _: Path) -> Numbers:
    """Log-probabilities and KLs, whole and in parts of rows and of positions."""
    found: dict[str, ArrayLike] = {}
    for name in ("full", "LoRA", "capped", "counting", "switching", "plain"):
        p = policy(name, device)
        other = elsewhere(p)
        found[f"{name} log-probabilities"] = p.log_probs(RESPONSES)
        parts = replace(p, proximal=replace(p.proximal, micro_batch=2))
        with mock.patch.object(scoring, "CHUNK", 3):
            found[f"{name} in parts"] = parts.log_probs(RESPONSES)
            found[f"{name} KL"] = parts.kl(other, RESPONSES)
    return found


def elsewhere(p: ml.TokenPolicy) -> ml.TokenPolicy:
    """A policy with other weights."""
    return replace(p, parts=((1.0, {n: 1.1 * w for n, w in p.weights.items()}),))


def after(p: ml.TokenPolicy, name: str = "", magnet: ml.TokenPolicy | None = None) -> Numbers:
    """Weights, moments and report after a mirror step towards a magnet."""
    q = stepped(p, magnet or elsewhere(p))
    report = q.report
    assert report is not None
    return {f"{name} {key}": value for key, value in numbers(q).items()} | {
        f"{name} loss": report.loss,
        f"{name} KLs": [*report.first_kls, *report.last_kls],
    }


OBJECTIVES: dict[str, Objective] = {
    **{
        f"token, {form.__name__}": ml.TokenLevel(form)
        for form in (
            kl_forms.exact_unbiased,
            kl_forms.exact_in_loss,
            kl_forms.k1_in_reward,
            kl_forms.k2_in_loss,
            kl_forms.k3_in_loss,
            kl_forms.k3_weighted,
        )
    },
    "sequence": ml.SequenceLevel(),
    "squared": ml.Squared(),
    "logistic": ml.Logistic(),
}


def objectives(device: torch.device, _: Path) -> Numbers:
    found: dict[str, ArrayLike] = {}
    for name, objective in OBJECTIVES.items():
        p = policy("plain", device, ml.Proximal(objective, ml.Adam(2, 1e-2)))
        found |= after(p, name)
    return found


def adam(device: torch.device, _: Path) -> Numbers:
    """Whole, and in minibatches and parts of rows and of positions, with a clipped gradient."""
    p = policy("full", device)
    split = ml.Proximal(minimise=p.proximal.minimise, minibatches=2, micro_batch=2)
    with mock.patch.object(scoring, "CHUNK", 2):
        parts = after(replace(p, proximal=split), "in parts")
    again = after(stepped(p, p.snapshot()), "again")
    return {**after(p), **parts, **again}


def lbfgs(device: torch.device, _: Path) -> Numbers:
    proximal = ml.Proximal(ml.SequenceLevel(), ml.LBFGS(3), minibatches=2)
    return {**after(policy("full", device, proximal)), **after(policy("LoRA", device, proximal))}


def other_models(device: torch.device, _: Path) -> Numbers:
    """Gradients through every way in which a model is run."""
    found: dict[str, ArrayLike] = {}
    for name in ("LoRA", "tied", "capped", "counting", "switching"):
        found |= after(policy(name, device), name)
    return found


def mixture(device: torch.device, _: Path) -> Numbers:
    """The geometric mixture draws, scores and is a magnet."""
    p = policy("full", device)
    mixed = p.mix(elsewhere(p), 0.3)
    return {
        **drawn(mixed),
        "log-probabilities": mixed.log_probs(RESPONSES),
        "KL": p.kl(mixed, RESPONSES),
        **after(p, "step", mixed),
        **after(mixed, "step from it", p),
    }


def average(device: torch.device, _: Path) -> Numbers:
    """Averaged weights, also with a policy that is parked on the CPU."""
    found: dict[str, ArrayLike] = {}
    for offload in (False, True):
        p = policy("full", device, offload=offload)
        mean = p.averaged(elsewhere(p).snapshot(), 0.3)
        drifted = elsewhere(p).snapshot().averaged(stepped(p), 0.3)
        found |= {f"{offload} {n}": w for n, w in numbers(mean).items()}
        found |= {f"{offload} drifted {n}": w for n, w in numbers(drifted).items()}
        found |= after(mean, f"{offload} step", drifted.snapshot())
    return found


def offloaded(device: torch.device, _: Path) -> Numbers:
    """Stored policies have their weights on the CPU, and do all that others do."""
    found: dict[str, ArrayLike] = {}
    for name in ("full", "LoRA"):
        p = policy(name, device, offload=True)
        stored = elsewhere(p).snapshot()
        assert {w.device.type for w in stored.weights.values()} == {"cpu"}
        found |= after(p, name, stored)
        found |= after(stored, f"{name} from it", p)
        found |= drawn(stored, name)
        found[f"{name} log-probabilities"] = stored.log_probs(RESPONSES)
        found[f"{name} KL"] = p.kl(stored.mix(p, 0.5), RESPONSES)
    return found


def bfloat16(device: torch.device, _: Path) -> Numbers:
    """Masters in single precision, which two steps, draws and an average go through."""
    found: dict[str, ArrayLike] = {}
    for name, offload in (("bfloat16", False), ("LoRA, bfloat16", True)):
        p = policy(name, device, offload=offload)
        one = stepped(p, p.snapshot())
        found |= after(one, name, one.averaged(p.snapshot(), 0.5).snapshot())
        found |= drawn(one, name)
    return found


def checkpointing(device: torch.device, _: Path) -> Numbers:
    """Layers are run again in the backward pass."""
    return {
        **after(policy("checkpointed", device), "full"),
        **after(policy("LoRA, checkpointed", device), "LoRA"),
        **drawn(policy("checkpointed", device)),
    }


def restored(device: torch.device, _: Path) -> Numbers:
    """A policy and its moments from arrays, and the steps that follow."""
    found: dict[str, ArrayLike] = {}
    for name in ("full", "bfloat16", "LoRA"):
        p = policy(name, device)
        saved = stepped(p).mix(elsewhere(p), 0.25).arrays()
        again = p.restored(saved)
        found |= after(again, name, p)
        assert all(
            np.array_equal(array, saved[key], equal_nan=True)
            for key, array in again.arrays().items()
        )
    return found


def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
    """Preferences of texts by their letters, which need not be transitive."""
    one, two = ([sum(map(ord, text)) % 7 for text in texts] for texts in (a, b))
    return [0.5 + 0.3 * float(np.sin(x - y)) for x, y in zip(one, two, strict=True)]


def solve(device: torch.device, _: Path) -> Numbers:
    """Steps of the core's solver: optimism, a pool, a penalty in the reward, drifting magnets."""
    found: dict[str, ArrayLike] = {}
    solvers = {
        "optimistic, weight EMA": mg.MMD(1.0, 0.1, ml.WeightEma(0.3), mg.optimistic),
        "pool, EMA": mg.MMD(1.0, 0.1, mg.Ema(0.3), ml.Replayed(mg.current, 2)),
        "half step, in reward": mg.MMD(1.0, 0.1, mg.Every(1), mg.half_step, in_reward),
    }
    p = policy("full", device)
    game = ml.TextPreferenceGame(PROMPTS, p, judge, str, 3)
    for name, solver in solvers.items():
        solution = mg.solve(game, solver, 2, seed=0)
        found |= {f"{name} {k}": v for k, v in numbers(solution.policy).items()}
        found |= {f"{name} magnet {k}": v for k, v in numbers(solution.state.magnet).items()}
    return found


FEATURES: dict[str, Feature] = {
    "draw": Feature(draw),
    "score": Feature(score),
    "objectives": Feature(objectives),
    "Adam": Feature(adam),
    "L-BFGS": Feature(lbfgs, 1e-7),
    "models": Feature(other_models),
    "mixture": Feature(mixture),
    "average": Feature(average),
    "offload": Feature(offloaded),
    "bfloat16": Feature(bfloat16, 5e-3),
    "gradient checkpointing": Feature(checkpointing),
    "restored": Feature(restored, 5e-3),
    "solve": Feature(solve),
}


def require_same(feature: Feature, folder: Path) -> None:
    """`AssertionError` unless a feature has the same numbers on both devices, and uses them."""
    here = feature.run(torch.device("cpu"), folder / "cpu")
    with measured(METER) as seen:
        there = feature.run(torch.device(NAME), folder / NAME)
    # A model that was left on the CPU would be right, too. Few others multiply matrices.
    assert any(name.endswith("mm") for name, _ in seen.kernels), "no model ran on the device"
    assert here.keys() == there.keys()
    for name, found in there.items():
        one, two = np.asarray(found, dtype=np.float64), np.asarray(here[name], dtype=np.float64)
        np.testing.assert_allclose(one, two, rtol=0.0, atol=feature.apart, err_msg=name)
