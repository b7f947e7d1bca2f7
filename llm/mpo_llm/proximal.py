r"""The mirror step of a network: an objective, minimised from the old weights.

$$\min_p\; -\langle q, p\rangle + \alpha\,\mathrm{KL}(p\|\rho)
+ \tfrac1\eta\,\mathrm{KL}(p\|\text{old})$$

the core's objective in units of preference. Objective and minimiser are values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mpo_games.protocol import Array
from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.inputs import Rows
from mpo_llm.networks.processes import Alone, Team, in_step, share
from mpo_llm.objective import Batch, Objective, TokenLevel
from mpo_llm.responses import Decoding
from mpo_llm.rollout import Rollouts
from mpo_llm.scoring import Reading, read, score


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """A loss at the workbench's weights."""

    parts: Sequence[Callable[[], Tensor]]
    """Their sum is it, here: their gradients add up, one part's activations in memory at a time."""
    team: Team = Alone()
    """Their sum over these processes is it."""
    sharded: frozenset[str] = frozenset()
    """Parameters of which each process has a part, its gradient already summed."""


Reader = Callable[[Rollouts], Reading]
"""`TokenPolicy.recall` of a reference policy."""


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


@dataclass(frozen=True, slots=True)
class Proximal:
    """How a mirror step is solved.

    `ValueError` for an objective without a potential where the minimiser searches, and for parts of
    an objective that does not part.
    """

    objective: Objective = TokenLevel()
    minimise: Minimiser = Adam()
    minibatches: int = 1
    """Parts into which the responses are split; each update uses one."""
    rows: int | None = None
    """Responses of a minibatch whose activations stand in memory at once: gradients add up over
    such parts, with the same result. All when None."""

    def __post_init__(self) -> None:
        if self.minimise.searches and not self.objective.potential:
            raise ValueError(
                f"{type(self.minimise).__name__} compares values of the loss, and the gradient of "
                f"{self.objective} is not that of its value: use `SequenceLevel()` or `Adam()`."
            )
        if self.rows is not None and not (self.rows >= 1 and self.objective.separable):
            raise ValueError(
                f"`rows` must be at least 1, got {self.rows}, and {self.objective} a sum over "
                "responses."
            )

    def solve(
        self,
        network: Network,
        decoding: Decoding,
        start: Weights,
        moments: Moments,
        q: Rollouts,
        references: Sequence[tuple[float, Reader]],
    ) -> tuple[Weights, Moments]:
        """The new weights, from `start`, and the optimiser's memory.

        `references` are weights in units of preference and the policies pulled to, read once.
        Raises `FloatingPointError`, and returns nothing, if the loss is not finite.
        """
        losses = []
        for batch in q.minibatches(self.minibatches):
            parts = _shared(batch, network.team).parts(self.rows)
            if network.sharded:
                idle = replace(batch.take(slice(0, 1)), weights=np.zeros(1))
                parts = tuple(part or idle for part in in_step(network.team, parts))
            loss = [self.loss(network, decoding, part, references) for part in parts]
            losses.append(Loss(loss, network.team, network.sharded))
        parameters = network.load(start)
        with network.training():
            moments = self.minimise(parameters, losses, moments)
        return network.weights(), moments

    def loss(
        self,
        network: Network,
        decoding: Decoding,
        q: Rollouts,
        references: Sequence[tuple[float, Reader]],
    ) -> Callable[[], Tensor]:
        """The loss at the workbench's weights, as a function to be called again and again."""
        responses, rows = q.responses, Rows.of_responses(q.responses, network.device)
        pulls = [(weight, reader(q)) for weight, reader in references]
        mask = torch.from_numpy(responses.mask).to(network.device)
        tokens = torch.from_numpy(responses.tokens).to(network.device)[mask]
        of = torch.from_numpy(responses.of).to(network.device)

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(mask.shape).masked_scatter(mask, values)

        def loss() -> Tensor:
            reading = read(network, decoding, ((1.0, None),), rows)
            scores = score(reading, [r for _, r in pulls], tokens)
            log_probs = padded(scores.log_probs)

            def given(values: Array) -> Tensor:
                return torch.from_numpy(values).to(log_probs)

            apart = [
                (weight, padded(ratio), padded(kl))
                for (weight, _), ratio, kl in zip(pulls, scores.log_ratios, scores.kls, strict=True)
            ]
            pairs = None if q.pairs is None else given(q.pairs)
            batch = Batch(
                log_probs,
                given(q.behaviour),
                given(q.advantages),
                apart,
                given(q.weights),
                of,
                pairs,
            )
            return batch.weights @ self.objective(batch)

        return loss


def _shared(q: Rollouts, team: Team) -> Rollouts:
    """The rows of this process's prompts; one that counts nothing where it has none."""
    if team.size == 1:
        return q
    prompts = np.unique(q.responses.of)
    rows = np.isin(q.responses.of, prompts[share(team, len(prompts))])
    if rows.any():
        return q.take(np.flatnonzero(rows))
    return replace(q.take(slice(0, 1)), weights=np.zeros(1))


def _backward(losses: Sequence[Loss], parameters: Mapping[str, nn.Parameter]) -> float:
    """The mean of the losses; adds its gradient to those at hand of the parameters."""
    first = losses[0]
    own = [p for name, p in parameters.items() if name not in first.sharded]
    whole = torch.zeros((), dtype=torch.float64, device=next(iter(parameters.values())).device)
    for part in (part for loss in losses for part in loss.parts):
        value = part() / len(losses)
        value.backward()  # type: ignore[no-untyped-call]
        whole += value.detach()
    first.team.add([whole, *(p.grad for p in own if p.grad is not None)])
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
    loss.team.add([squares])
    return (own.square() + squares).sqrt()
