"""How the loss of a mirror step is minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.networks.base import Weights
from mpo_llm.networks.processes import OneProcess, Processes


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """A loss at the workbench's weights."""

    parts: Sequence[Callable[[], Tensor]]
    """Their sum is it, here: their gradients add up, one part's activations in memory at a time."""
    processes: Processes = OneProcess()
    """Their sum over these processes is it."""
    sharded: frozenset[str] = frozenset()
    """Parameters of which each process has a part, its gradient already summed."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What an optimiser keeps from one mirror step to the next."""

    second: Weights = field(default_factory=dict)
    """Running mean of the squared gradients, by name; empty at first."""
    count: int = 0
    """Updates so far."""


class Minimiser(Protocol):
    """How the loss is minimised, in place."""

    @property
    def searches(self) -> bool:
        """Whether it compares values of the loss, whose gradient must then be theirs."""
        ...

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Moments:
        """Change `parameters`; each of `losses` is a minibatch's. Returns what to keep."""
        ...


def falling(progress: float) -> float:
    """A learning rate that falls in a line to 0."""
    return 1.0 - progress


def constant(progress: float) -> float:  # noqa: ARG001
    """A learning rate that stays."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam, made for a sequence of related problems (Kingma & Ba 2015).

    The first moment starts at zero in every mirror step, since the problem is a new one; the second
    is kept, since the scale of the gradients is not. An accurate step needs a rate that falls to 0.
    """

    epochs: int = 8
    """Passes over the responses in a mirror step."""
    rate: float = 6e-4
    """Learning rate at the start of every mirror step."""
    schedule: Callable[[float], float] = falling
    """Its course over the step: a factor, of the share of the updates already made."""
    betas: tuple[float, float] = (0.9, 0.9999)
    epsilon: float = 1e-8
    clip: float | None = None
    """The largest norm of a gradient; longer ones are scaled down to it."""

    searches: ClassVar[bool] = False

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Moments:
        first: dict[str, Tensor] = {}
        second = dict(moments.second)
        a, b = self.betas
        updates = self.epochs * len(losses)
        for i in range(updates):
            for p in parameters.values():
                p.grad = None
            _backward([losses[i % len(losses)]], parameters)
            if self.clip is not None:
                norm = _norm(losses[0], parameters)
                nn.utils.clip_grads_with_norm_(list(parameters.values()), self.clip, norm)
            scale = (1.0 - b ** (moments.count + i + 1)) ** 0.5
            rate = self.rate * self.schedule(i / updates) / (1.0 - a ** (i + 1))
            # One tensor after the other, moments when they are needed: less stands in memory.
            for name, p in parameters.items():
                if p.grad is None:
                    continue
                gradient, p.grad = p.grad, None
                if name not in first:
                    first[name] = torch.zeros_like(p)
                    known = second.get(name)
                    second[name] = torch.zeros_like(p) if known is None else known.to(p, copy=True)
                m, v = first[name], second[name]
                with torch.no_grad():
                    m.lerp_(gradient, 1.0 - a)
                    v.mul_(b).addcmul_(gradient, gradient, value=1.0 - b)
                    p.addcdiv_(m, v.sqrt().div_(scale).add_(self.epsilon), value=-rate)
        return Moments(second, moments.count + updates)


@dataclass(frozen=True, slots=True)
class LBFGS:
    """Limited-memory BFGS with line search (Nocedal 1980): the accurate inner solve.

    The responses of a step are judged once, so its loss is a plain function, to be minimised well:
    of an objective with a `potential`. All minibatches are one.
    """

    iterations: int = 20
    tolerance: float = 1e-9
    """Of the gradient's largest entry."""

    searches: ClassVar[bool] = True
    """Along a line, for the Wolfe conditions."""

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Moments:
        if losses[0].sharded:
            raise ValueError("L-BFGS needs whole weights: use Adam where they are sharded.")
        # One vector, of which the parameters are views.
        flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters.values()]))
        gradient = flat.grad = torch.zeros_like(flat)
        at = 0
        for p in parameters.values():
            part = slice(at, at := at + p.numel())
            p.data, p.grad = flat.detach()[part].view_as(p), gradient[part].view_as(p)
        optimiser = torch.optim.LBFGS(
            [flat],
            max_iter=self.iterations,
            history_size=50,
            tolerance_grad=self.tolerance,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            gradient.zero_()
            return _backward(losses, parameters)

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        return moments


def _backward(losses: Sequence[Loss], parameters: Mapping[str, nn.Parameter]) -> float:
    """The mean of the losses; adds its gradient to those at hand of the parameters."""
    first = losses[0]
    own = [p for name, p in parameters.items() if name not in first.sharded]
    whole = torch.zeros((), dtype=torch.float64, device=next(iter(parameters.values())).device)
    for part in (part for loss in losses for part in loss.parts):
        value = part() / len(losses)
        value.backward()  # type: ignore[no-untyped-call]
        whole += value.detach()
    first.processes.add([whole, *(p.grad for p in own if p.grad is not None)])
    number = float(whole)
    if number - number:  # infinity or NaN
        raise FloatingPointError(
            f"The loss of a mirror step is {number}: lower the learning rate, or `eta`."
        )
    return number


def _norm(loss: Loss, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """The norm of the whole gradient."""
    own, parts = (
        nn.utils.get_total_norm(
            [
                p.grad
                for n, p in parameters.items()
                if p.grad is not None and (n in loss.sharded) == s
            ]
        )
        for s in (False, True)
    )
    if not loss.sharded:
        return own
    squares = parts.square()
    loss.processes.add([squares])
    return (own.square() + squares).sqrt()
