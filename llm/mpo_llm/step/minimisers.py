"""How the loss of a mirror step is minimised: Adam, or L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.networks.base import Weights
from mpo_llm.networks.processes import OneProcess, Processes


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """A part of a loss at the workbench's present weights."""

    loss: Tensor
    """A number, differentiable."""
    kls: tuple[Tensor, ...] = ()
    """This part of the KL to each reference, in nats a response; constants, only reported."""


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """A loss as a function of the workbench's weights, in parts that add up to it.

    The loss on this process is the sum of the parts. They are back-propagated one at a time, so
    only one part's activations are in memory.
    """

    parts: Sequence[Callable[[], Evaluated]]
    """Each can be called again and again, at other weights."""
    processes: Processes = OneProcess()
    """The whole loss is the sum over these processes."""
    sharded: frozenset[str] = frozenset()
    """Names of the parameters of which this process has only some rows. FSDP has already summed
    their gradients over the processes."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What an optimiser keeps from one mirror step to the next."""

    second: Weights = field(default_factory=dict)
    """Running mean of the squared gradients, by parameter; empty at first."""
    count: int = 0
    """Updates so far."""


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """The loss and its KLs at weights whose gradient has been computed."""

    loss: float
    """Over all processes."""
    kls: tuple[Tensor, ...]
    """The parts of this process, added up."""


@dataclass(frozen=True, slots=True, eq=False)
class Minimised:
    """What a minimiser did."""

    moments: Moments
    """What it keeps for the next mirror step."""
    gradients: Sequence[Gradient]
    """Every gradient that it computed, at least one, in order."""


class Minimiser(Protocol):
    """Changes parameters so that losses fall."""

    @property
    def searches(self) -> bool:
        """Whether it compares values of the loss; then its gradient must be that of its value."""
        ...

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Minimised:
        """Change `parameters` in place. Each of `losses` belongs to a minibatch.

        `FloatingPointError` if a loss is not finite.
        """
        ...


LOSS = "loss"
"""The name of the loss among the gradients that processes add up."""


def falling(progress: float) -> float:
    """A learning rate that falls linearly to 0."""
    return 1.0 - progress


def constant(progress: float) -> float:  # noqa: ARG001
    """A learning rate that stays as it is."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam for a sequence of related problems, the mirror steps (Kingma & Ba 2015).

    The first moment starts at zero in every mirror step, because each step is a new problem. The
    second moment is kept, because the scale of the gradients stays about the same. In the first
    mirror step, at a constant rate, this is torch's Adam. An accurate step needs a rate that falls
    to 0.
    """

    epochs: int = 8
    """Passes over the responses in a mirror step."""
    rate: float = 6e-4
    """Learning rate at the start of every mirror step."""
    schedule: Callable[[float], float] = falling
    """The factor of the rate, as a function of the share of the step's updates already made."""
    betas: tuple[float, float] = (0.9, 0.9999)
    """Decay of the first and of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    clip: float | None = None
    """The largest norm of a gradient; a longer one is scaled down to it. None never clips."""

    searches: ClassVar[bool] = False

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Minimised:
        mean: dict[str, Tensor] = {}
        square = dict(moments.second)
        a, b = self.betas
        updates = self.epochs * len(losses)
        gradients = []
        for i in range(updates):
            for p in parameters.values():
                p.grad = None
            gradients.append(_backward([losses[i % len(losses)]], parameters))
            if self.clip is not None:
                norm = _norm(losses[0], parameters)
                nn.utils.clip_grads_with_norm_(list(parameters.values()), self.clip, norm)
            # The second moment has seen all updates so far, the first only those of this step.
            scale = (1.0 - b ** (moments.count + i + 1)) ** 0.5
            rate = self.rate * self.schedule(i / updates) / (1.0 - a ** (i + 1))
            # One tensor after the other: its gradient is dropped when it has been used, and its
            # moments are made when it is their turn, so that less is in memory at the same time.
            for name, p in parameters.items():
                if p.grad is None:
                    continue
                gradient, p.grad = p.grad, None
                if name not in mean:
                    mean[name] = torch.zeros_like(p)
                    known = square.get(name)
                    # A copy: the old policy's moments must not change.
                    square[name] = torch.zeros_like(p) if known is None else known.to(p, copy=True)
                m, v = mean[name], square[name]
                with torch.no_grad():
                    m.lerp_(gradient, 1.0 - a)
                    v.mul_(b).addcmul_(gradient, gradient, value=1.0 - b)
                    p.addcdiv_(m, v.sqrt().div_(scale).add_(self.epsilon), value=-rate)
        return Minimised(Moments(square, moments.count + updates), gradients)


@dataclass(frozen=True, slots=True)
class LBFGS:
    """L-BFGS with a line search (Nocedal 1980): the accurate inner solve.

    The responses of a step are judged once, so the step's loss is a plain function that can be
    minimised well. All minibatches together make one loss. Needs an objective with a `potential`;
    `ValueError` if weights are sharded.
    """

    iterations: int = 20
    """Quasi-Newton steps at most."""
    tolerance: float = 1e-9
    """Stop when no entry of the gradient is larger."""

    searches: ClassVar[bool] = True

    def __call__(
        self, parameters: Mapping[str, nn.Parameter], losses: Sequence[Loss], moments: Moments, /
    ) -> Minimised:
        # Inner products over some rows alone would give each process another direction.
        if losses[0].sharded:
            raise ValueError("L-BFGS needs whole weights: use Adam where they are sharded.")
        # torch's L-BFGS walks through all parameters again and again. Here it sees one vector, and
        # the parameters are views of it.
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
        gradients: list[Gradient] = []

        def closure() -> float:
            gradient.zero_()
            gradients.append(_backward(losses, parameters))
            return gradients[-1].loss

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        return Minimised(moments, gradients)


def _backward(losses: Sequence[Loss], parameters: Mapping[str, nn.Parameter]) -> Gradient:
    """Add the gradient of the losses' mean, over all processes, to those of the parameters."""
    first = losses[0]
    own = {name: p for name, p in parameters.items() if name not in first.sharded}
    # In double precision, so that the sum over parts and processes adds no rounding of its own.
    whole = torch.zeros((), dtype=torch.float64, device=next(iter(parameters.values())).device)
    kls: tuple[Tensor, ...] | None = None
    for part in (part for loss in losses for part in loss.parts):
        found = part()
        value = found.loss / len(losses)
        value.backward()  # type: ignore[no-untyped-call]
        whole += value.detach()
        # KLs are those of the mean as well.
        these = tuple(kl / len(losses) for kl in found.kls)
        kls = these if kls is None else tuple(map(torch.add, kls, these))
    # The loss is summed with the gradients, so that all processes agree whether it is finite.
    # By name: a weight that this process has not used may have a gradient on another one.
    gradients = {name: p.grad for name, p in own.items() if p.grad is not None}
    for name, total in first.processes.add({LOSS: whole, **gradients}).items():
        if name != LOSS:
            own[name].grad = total
    number = float(whole)
    # x - x is 0 for every finite x, and NaN for infinity and NaN.
    if number - number:
        raise FloatingPointError(
            f"The loss of a mirror step is {number}: lower the learning rate, or `eta`."
        )
    return Gradient(number, kls or ())


def _norm(loss: Loss, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """The norm of the whole gradient, on every process."""
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
    # Whole parameters have the same gradient everywhere, so only the squares of rows are summed.
    squares = parts.square()
    loss.processes.add({"squares": squares})
    return (own.square() + squares).sqrt()
