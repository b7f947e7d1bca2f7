r"""Powers of discounts and averages: numbers, or functions of the step.

The descendants of CFR weigh what happened in step t by powers of t. With a hyperparameter schedule
these powers change as the run goes (Zhang, McAleer & Sandholm 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import cast

import numpy as np

from mpo_games.checks import STEEPEST, is_number, require_steps
from mpo_games.labelled import shown
from mpo_games.protocol import Number
from mpo_games.written import written

Power = float | Callable[[Number], Number]
"""A power of the number of steps, or its function of the step t. `Restarted` runs a batch of games
whose steps differ: then t is an array, and so is the power."""


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """The power `first + (last - first) t / steps` in step `t`, and `last` from `steps` on.

    `ValueError` for powers beyond `STEEPEST`, and unless `steps` is a whole number of at least 1.
    """

    first: float
    last: float
    steps: int

    __repr__ = written

    def __post_init__(self) -> None:
        require_any_power("first", self.first)
        require_any_power("last", self.last)
        require_steps("steps", self.steps)

    def __call__(self, t: Number) -> Number:
        done = np.minimum(t, self.steps) / self.steps
        power = self.first + (self.last - self.first) * done
        return power if np.ndim(power) else float(power)


def require_any_power(name: str, power: float, *, infinite: bool = False) -> None:
    """`ValueError` unless `power` lies in [-`STEEPEST`, `STEEPEST`], or is infinite if it may."""
    if not (is_number(power) and (abs(power) <= STEEPEST or (infinite and abs(power) == inf))):
        beyond = " or be infinite" if infinite else ""
        raise ValueError(
            f"`{name}` must lie in [-{STEEPEST:g}, {STEEPEST:g}]{beyond}, got {shown(power)}."
        )


def at_step(name: str, power: Power, t: Number, least: float = -STEEPEST) -> Number:
    """The power in step `t`; `ValueError`, naming `name`, if a function gives one out of range."""
    if not callable(power):
        return power
    found = power(t)
    table = np.asarray(found)
    if table.dtype.kind not in "fiu" or not ((least <= table) & (table <= STEEPEST)).all():
        raise ValueError(
            f"`{name}` must give powers in [{least:g}, {STEEPEST:g}], got {shown(found)}."
        )
    return found if table.ndim else float(cast(float, found))
