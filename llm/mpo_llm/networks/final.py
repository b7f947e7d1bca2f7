"""What a model does to the output of its head: nothing, a scale, or a soft cap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Final:
    """Logits from the head's output z: `scale z`, or `cap tanh(scale z / cap)`."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, output: Tensor) -> Tensor:
        scaled = output if self.scale == 1.0 else output * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


def final_of(output: Tensor, logits: Tensor, settings: Iterable[object]) -> Final | None:
    """What makes the logits of the head's output, with scale and cap among a model's settings.

    None if nothing does. A scale may be the inverse of a setting.
    """
    numbers = dict.fromkeys(float(v) for v in settings if isinstance(v, int | float) and v > 0)
    scales = [1.0, *numbers, *(1.0 / number for number in numbers)]
    finals = [Final(scale, cap) for cap in (None, *numbers) for scale in scales]
    if output.shape != logits.shape:
        return None
    # Some numbers of all sizes are enough, and a vocabulary has many.
    few = slice(None, None, 1 + output.numel() // 4096)
    one, two = output.flatten()[few], logits.flatten()[few]
    return next((final for final in finals if torch.allclose(final(one), two)), None)
