"""How the loss of a mirror step is minimised: Adam, or L-BFGS.

A minimiser changes the drafts of weights on a `Workbench`. Where policies keep their weights in CPU
memory, the device has gradients and first moments alone; drafts and second moments pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mpo_games.checks import (
    finite_numbers,
    require_callable,
    require_count,
    require_positive,
    require_weight,
)
from mpo_games.labelled import shown
from mpo_games.written import written
from mpo_llm.networks.pieces import Drafts, give_back, groups
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.networks.workbench import Weights, Workbench, single
from mpo_llm.step.rates import Reaching


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
    first: Weights = field(default_factory=dict)
    """Running mean of the gradients, by parameter; empty unless it is kept."""
    rate: float = 0.0
    """The learning rate that was measured; 0 if none was."""
    refused: int = 0
    """How many steps in a row a guard has sent all the way back."""


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
    """Changes the drafts of a workbench so that losses fall."""

    @property
    def searches(self) -> bool:
        """Whether it compares values of the loss; then its gradient must be that of its value."""
        ...

    def __call__(self, bench: Workbench, losses: Sequence[Loss], moments: Moments, /) -> Minimised:
        """Change the drafts of `bench`. Each of `losses` belongs to a minibatch.

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
    mirror step, at a constant rate, this is torch's Adam; with `keep_first` it is in all of them
    together. An accurate step needs a rate that falls to 0.
    """

    epochs: int = 8
    """Passes over the responses in a mirror step."""
    rate: float | Reaching = 6e-4
    """Learning rate at the start of every mirror step; or how it is measured in the first one."""
    schedule: Callable[[float], float] = falling
    """The factor of the rate, as a function of the share of the step's updates already made."""
    betas: tuple[float, float] = (0.9, 0.9999)
    """Decay of the first and of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    clip: float | None = None
    """The largest norm of a gradient; a longer one is scaled down to it. None never clips."""
    keep_first: bool = False
    """Keep the first moment from step to step as well: few updates in each of many small steps are
    one descent."""

    searches: ClassVar[bool] = False

    __repr__ = written

    def __post_init__(self) -> None:
        require_count("epochs", self.epochs)
        if not isinstance(self.rate, Reaching):
            require_positive("rate", self.rate)
        require_callable("schedule", self.schedule, "`falling`")
        betas = finite_numbers(self.betas, "betas")
        if betas.shape != (2,) or not ((betas >= 0.0) & (betas < 1.0)).all():
            raise ValueError(f"`betas` must be two numbers in [0, 1), got {shown(self.betas)}.")
        require_weight("epsilon", self.epsilon)
        if self.clip is not None:
            require_positive("clip", self.clip)

    def __call__(self, bench: Workbench, losses: Sequence[Loss], moments: Moments, /) -> Minimised:
        places = bench.places
        second = Drafts(moments.second, places)
        # On the device, because every update needs all of it.
        first = Drafts(moments.first if self.keep_first else {}, places, near=lambda _: True)
        a, b = self.betas
        updates = self.epochs * len(losses)
        found: list[Gradient] = []
        top, measured = self._rate(bench, losses, moments, found)
        for i in range(updates):
            found.append(_backward([losses[i % len(losses)]], bench))
            factor = self._factor(losses[0], bench)
            # The second moment has seen all updates so far, the first those of this step if it
            # is not kept.
            scale = (1.0 - b ** (moments.count + i + 1)) ** 0.5
            since = i + 1 + (moments.count if self.keep_first else 0)
            rate = top * self.schedule(i / updates) / (1.0 - a**since)
            keep = self.keep_first or i + 1 < updates
            gradients = bench.take()
            for pieces in groups(gradients, bench.drafts):
                like = [gradients[piece.name] for piece in pieces]
                with (
                    bench.changed(pieces, like) as p,
                    first.changed(pieces, like, keep=keep) as m,
                    second.changed(pieces, like) as v,
                ):
                    g = [piece.of(whole) for piece, whole in zip(pieces, like, strict=True)]
                    self._update(p, g, m, v, factor, rate, scale)
                # A gradient that has been used makes room for moments and drafts.
                for piece in pieces:
                    if piece.last:
                        del gradients[piece.name]
                del like, p, m, v, g
        count = moments.count + updates
        means = {n: places.at_home(m) for n, m in first.tensors.items()} if self.keep_first else {}
        return Minimised(Moments(second.tensors, count, means, measured, moments.refused), found)

    def _rate(
        self, bench: Workbench, losses: Sequence[Loss], moments: Moments, found: list[Gradient]
    ) -> tuple[float, float]:
        """The rate of this mirror step, and the one that was measured and is kept, or 0.

        What is computed for it is added to `found`.
        """
        if not isinstance(self.rate, Reaching):
            return self.rate, moments.rate
        if moments.rate:
            return moments.rate, moments.rate
        first = losses[0]
        found.append(_backward([first], bench))

        def kl() -> float:
            """From the old policy, over all processes."""
            return float(np.sum(first.processes.gather(_kl(first))))

        rate, sure = self.rate.measured(bench, kl, self.epsilon)
        return rate, rate if sure else 0.0

    @torch.no_grad()
    def _update(
        self,
        p: list[Tensor],
        g: list[Tensor],
        m: list[Tensor],
        v: list[Tensor],
        factor: Tensor | None,
        rate: float,
        scale: float,
    ) -> None:
        """Change weights p and moments m and v by gradients g, all of them in place."""
        a, b = self.betas
        if factor is not None:
            torch._foreach_mul_(g, factor)
        torch._foreach_lerp_(m, g, 1.0 - a)
        torch._foreach_mul_(v, b)
        torch._foreach_addcmul_(v, g, g, value=1.0 - b)
        root = torch._foreach_sqrt(v)
        torch._foreach_div_(root, scale)
        torch._foreach_add_(root, self.epsilon)
        torch._foreach_addcdiv_(p, m, root, value=-rate)

    def _factor(self, loss: Loss, bench: Workbench) -> Tensor | None:
        """The number that all gradients are multiplied by, so that they are not too long."""
        if self.clip is None:
            return None
        return (self.clip / (_norm(loss, bench.gradients) + CLIP_EPSILON)).clamp(max=1.0)


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

    __repr__ = written

    def __post_init__(self) -> None:
        require_count("iterations", self.iterations)
        require_weight("tolerance", self.tolerance)

    def __call__(self, bench: Workbench, losses: Sequence[Loss], moments: Moments, /) -> Minimised:
        # Inner products over some rows alone would give each process another direction.
        if losses[0].sharded:
            raise ValueError("L-BFGS needs whole weights: use Adam where they are sharded.")
        # torch's L-BFGS walks through all parameters again and again. Here it sees one vector,
        # where policies keep their weights, and the drafts are views of it.
        home = bench.places.home
        drafts = {n: w.to(home, single(w.dtype)) for n, w in bench.drafts.items()}
        flat = nn.Parameter(torch.cat([w.reshape(-1) for w in drafts.values()]))
        gradient = flat.grad = torch.zeros_like(flat)
        sizes = [w.numel() for w in drafts.values()]
        slopes = dict(zip(drafts, torch.split(gradient, sizes), strict=True))
        parts = zip(drafts.items(), torch.split(flat.detach(), sizes), strict=True)
        bench.replace({name: part.view_as(w) for (name, w), part in parts})
        del drafts
        optimiser = torch.optim.LBFGS(
            [flat],
            max_iter=self.iterations,
            history_size=50,
            tolerance_grad=self.tolerance,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        found: list[Gradient] = []

        def closure() -> float:
            bench.refresh()
            found.append(_backward(losses, bench))
            gradients = bench.take()
            for name, slope in slopes.items():
                if name in gradients:
                    slope.copy_(gradients.pop(name).reshape(-1))
                else:
                    slope.zero_()
            return found[-1].loss

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        bench.refresh()
        return Minimised(moments, found)


CLIP_EPSILON = 1e-6
"""Added to a norm that gradients are divided by, as torch's clipping does."""


def _backward(losses: Sequence[Loss], bench: Workbench) -> Gradient:
    """Add the gradient of the losses' mean, over all processes, to those of the workbench."""
    first = losses[0]
    bench.hold_drafts()
    # In double precision, so that the sum over parts and processes adds no rounding of its own.
    whole = torch.zeros((), dtype=torch.float64, device=bench.places.device)
    kls: tuple[Tensor, ...] | None = None
    every = [part for loss in losses for part in loss.parts]
    for part in every:
        found = part()
        if len(every) > 1:
            # What this forward and the last backward pass left, before most memory is needed.
            give_back(bench.places.device)
        value = found.loss / len(losses)
        value.backward()  # type: ignore[no-untyped-call]
        whole += value.detach()
        # KLs are those of the mean as well.
        these = tuple(kl / len(losses) for kl in found.kls)
        kls = these if kls is None else tuple(map(torch.add, kls, these))
    # The loss is summed with the gradients, so that all processes agree whether it is finite.
    # By name: a weight that this process has not used may have a gradient on another one.
    own = {n: g for n, g in bench.gradients.items() if n not in first.sharded}
    for name, total in first.processes.add({LOSS: whole, **own}).items():
        if name != LOSS:
            bench.set_gradient(name, total)
    number = float(whole)
    # x - x is 0 for every finite x, and NaN for infinity and NaN.
    if number - number:
        raise FloatingPointError(
            f"The loss of a mirror step is {number}: lower the learning rate, or `eta`."
        )
    return Gradient(number, kls or ())


@torch.no_grad()
def _kl(loss: Loss) -> float:
    """The part of this process in the KL to the first reference; infinity if it is not finite."""
    whole = 0.0
    for part in loss.parts:
        try:
            whole += float(part().kls[0])
        except FloatingPointError:
            # The other parts are run all the same: processes must run equally often.
            whole = np.inf
    return whole


def _norm(loss: Loss, gradients: Weights) -> Tensor:
    """The norm of the whole gradient, on every process."""
    own, parts = (
        nn.utils.get_total_norm([g for n, g in gradients.items() if (n in loss.sharded) == s])
        for s in (False, True)
    )
    if not loss.sharded:
        return own
    # Whole parameters have the same gradient everywhere, so only the squares of rows are summed.
    squares = parts.square()
    loss.processes.add({"squares": squares})
    return (own.square() + squares).sqrt()
