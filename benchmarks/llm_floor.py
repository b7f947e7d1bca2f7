"""`python benchmarks/llm_floor.py`: where a step of ours spends its time, against a floor.

The floor is the time of the step's matrix products alone, attention included: they are recorded in
a step, and then run again in the same order, by torch, on weights of the model and on random
activations of the same shapes. All seconds are those of the processor, on one thread.

A step has four phases. Drawing and scoring run without gradients, scoring by the policy that drew
and by the magnet. The time of the update begins when the last gradient has been computed. Results
go to `results/llm_floor.json`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

# Torch reads it when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import tyro
from llm_entrant import Task, trainer
from llm_workloads import PROMPTS, SIZES, Size
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import mpo_games as mg
from mpo_llm.networks import loading as models

OUT = Path(__file__).parent / "results" / "llm_floor.json"
DRAWING, SCORING, GRADIENT, UPDATE = "drawing", "scoring", "forward and backward", "update"
aten = torch.ops.aten
PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}


@dataclass(frozen=True)
class Shape:
    """A tensor that need not be kept: any numbers will do."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def filled(self) -> Tensor:
        """A tensor of this shape."""
        reach = 1 + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True) if n)
        numbers = torch.zeros(reach, dtype=self.dtype)
        # A mask of zeros hides nothing, whether it holds numbers or truths.
        if self.dtype.is_floating_point:
            numbers.normal_()
        return numbers.as_strided(self.size, self.stride)


@dataclass
class Products:
    """The matrix products of a step, by phase and in their order."""

    phase: str = SCORING
    calls: dict[str, list[tuple[Any, Any, Any]]] = field(default_factory=dict)
    weights: set[int] = field(default_factory=set)
    """Addresses of weights: a product takes most of its time to read them from memory, so the same
    ones are read again."""

    def add(self, function: Any, args: Any, kwargs: Any) -> None:
        """Note a call if it is a product."""
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, nn.Parameter):
                self.weights.add(x.untyped_storage().data_ptr())
        if function in PRODUCTS:
            self.calls.setdefault(self.phase, []).append(
                (function, tree_map(self._described, args), tree_map(self._described, kwargs))
            )

    def _described(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x.untyped_storage().data_ptr() in self.weights:
            return x.detach()
        return Shape(tuple(x.shape), x.stride(), x.dtype)

    def seconds(self, phase: str, again: int = 2) -> float:
        """The time of the products of a phase alone, the best of some runs."""
        known: dict[Shape, Tensor] = {}

        def real(x: Any) -> Any:
            if not isinstance(x, Shape):
                return x
            if x not in known:
                known[x] = x.filled()
            return known[x]

        calls = [
            (function, tree_map(real, args), tree_map(real, kwargs))
            for function, args, kwargs in self.calls.get(phase, ())
        ]
        best = float("inf")
        with torch.no_grad():
            for _ in range(again):
                began = time.process_time()
                for function, args, kwargs in calls:
                    function(*args, **kwargs)
                best = min(best, time.process_time() - began)
        return best


class Recording(TorchDispatchMode):
    """Every operation within is shown to `products`."""

    def __init__(self, products: Products) -> None:
        super().__init__()
        self.products = products

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.products.add(function, args, kwargs or {})
        return function(*args, **(kwargs or {}))


def main(
    size: tuple[Literal["small", "short"], ...] = ("small", "short"),
    kind: tuple[Literal["full", "lora"], ...] = ("full", "lora"),
    out: Path = OUT,
) -> None:
    """Measure a step of ours and its floor.

    Args:
        size: the step, as in `llm.py`.
        kind: whether all weights are trained, or LoRA adapters.
        out: the file for the results. Steps that are not measured keep their numbers.
    """
    torch.set_num_threads(1)
    record = json.loads(out.read_text()) if out.exists() else {}
    for name in size:
        for weights in kind:
            task = task_of(SIZES[name], models.folder(models.SMOLLM2), PROMPTS[name], weights)
            found = measured(task)
            record[f"{name}, {weights}"] = found
            show(f"{name}, {weights}", found)
            out.write_text(json.dumps(record, indent=1) + "\n")


def task_of(size: Size, folder: str, prompts: tuple[str, ...], kind: str) -> Task:
    """The work of a step."""
    return Task(
        folder, size.dtype, kind == "lora", prompts, size.prompts, size.samples, size.tokens,
        size.rows, size.checkpointing, 1,
    )  # fmt: skip


def measured(task: Task) -> dict[str, dict[str, float]]:
    """Seconds of each phase of a step, and of its products alone."""
    game, solver, book = trainer(task, "cpu")
    products, ended = Products(), [0.0]

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        products.phase, before = name, products.phase
        try:
            yield
        finally:
            products.phase = before

    def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with phase(name):
                return function(*args, **kwargs)

        return run

    def backward(*args: Any, original: Any = torch.autograd.backward, **kwargs: Any) -> None:
        original(*args, **kwargs)
        ended[0] = time.process_time()

    states = mg.iterate(
        replace(game, engine=within(DRAWING, game.engine)),
        replace(solver, pull=within(GRADIENT, solver.pull)),
        rng=np.random.default_rng(0),
    )
    # The first state is the start, and the step after it also warms up.
    next(states)
    with Recording(products):
        next(states)
    before = dict(book.seconds)
    with mock.patch.object(torch.autograd, "backward", backward), book.time("scoring"):
        next(states)
    update = time.process_time() - ended[0]
    spent = {name: seconds - before[name] for name, seconds in book.seconds.items()}
    seconds = {
        DRAWING: spent["generation"],
        SCORING: spent["scoring"] + spent["judging"],
        GRADIENT: spent["step"] - update,
        UPDATE: update,
    }
    return {
        name: {"seconds": round(s, 3), "floor": round(products.seconds(name), 3)}
        for name, s in seconds.items()
    }


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """Print the phases, and their sum."""
    print(f"\n{title:24}{'s a step':>10}{'floor':>8}{'ratio':>8}")
    whole = {key: sum(part[key] for part in found.values()) for key in ("seconds", "floor")}
    for name, part in {**found, "whole step": whole}.items():
        ratio = f"{part['seconds'] / part['floor']:8.2f}" if part["floor"] else ""
        print(f"{name:24}{part['seconds']:10.2f}{part['floor']:8.2f}{ratio}")


if __name__ == "__main__":
    tyro.cli(main)
