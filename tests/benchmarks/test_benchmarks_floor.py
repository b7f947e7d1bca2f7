"""The floor of a step: exactly its matrix products are recorded, and they can be run again."""

from __future__ import annotations

from pathlib import Path

import llm_floor
import pytest
import random_models
import torch
from llm_entrant import Task
from llm_floor import DRAWING, GRADIENT, SCORING, UPDATE, Products, Recording, Shape
from torch import nn


def test_the_products_of_a_layer() -> None:
    """One forward, and two backward: for the input and for the weight, which is kept."""
    layer, products = nn.Linear(5, 3), Products()
    x = torch.randn(7, 5, requires_grad=True)
    with Recording(products):
        layer(x).relu().sum().backward()
    calls = products.calls[SCORING]
    assert [str(function) for function, *_ in calls] == ["aten.addmm.default"] + 2 * [
        "aten.mm.default"
    ]
    _, (bias, given, weight), _ = calls[0]
    assert given == Shape((7, 5), (5, 1), torch.float32)
    assert bias.data_ptr() == layer.bias.data_ptr()
    assert weight.data_ptr() == layer.weight.data_ptr()
    assert weight.shape == (5, 3)
    assert products.seconds(SCORING) >= 0.0


@pytest.mark.parametrize("tensor", [torch.zeros(2, 3).t(), torch.zeros(4, 1).expand(4, 3)])
def test_a_shape_is_filled_as_it_was(tensor: torch.Tensor) -> None:
    shape = Shape(tuple(tensor.shape), tensor.stride(), tensor.dtype)
    found = shape.filled()
    assert (found.shape, found.stride(), found.dtype) == (shape.size, shape.stride, shape.dtype)
    assert torch.isfinite(found).all()


def test_a_mask_hides_nothing() -> None:
    assert not Shape((2, 2), (2, 1), torch.bool).filled().any()


def test_every_phase_has_products_but_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random_models.save("tiny", tmp_path)
    kept: list[Products] = []

    def seconds(self: Products, phase: str) -> float:
        kept.append(self)
        return 0.5

    monkeypatch.setattr(Products, "seconds", seconds)
    prompts = random_models.prompts("tiny", 2, 8)
    task = Task(str(tmp_path), "float32", False, prompts, 2, 2, 4, 4, False, 1)
    found = llm_floor.measured(task)
    assert list(found) == [DRAWING, SCORING, GRADIENT, UPDATE]
    assert all(part["seconds"] > 0.0 for part in found.values())
    calls = kept[0].calls
    assert set(calls) == {DRAWING, SCORING, GRADIENT}
    # The layer from 96 numbers to 32 in both blocks, for the prompts and for three further tokens.
    down = [args for _, args, _ in calls[DRAWING] if getattr(args[-1], "shape", None) == (96, 32)]
    assert len(down) == 2 * (1 + 3)
    llm_floor.show("tiny", found)
    assert "whole step" in capsys.readouterr().out
