r"""The mirror step of a network: an objective, minimised from the old weights.

$$\min_p\; -\langle q, p\rangle + \alpha\,\mathrm{KL}(p\|\rho)
+ \tfrac1\eta\,\mathrm{KL}(p\|\text{old})$$

the core's objective in units of preference. Objective and minimiser are values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from mpo_llm.divergence import KLForm, exact_unbiased
from mpo_llm.network import Weights
from mpo_llm.rollout import Rollouts
from mpo_llm.scoring import read, score

if TYPE_CHECKING:
    from mpo_llm.policy import TokenPolicy


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What an optimiser keeps from one mirror step to the next."""

    second: Weights = field(default_factory=dict)
    """Running mean of the squared gradients, by name; empty at first."""
    count: int = 0
    """Updates so far."""


class Objective(Protocol):
    """The loss of each response."""

    def __call__(
        self,
        log_probs: Tensor,
        behaviour: Tensor,
        advantages: Tensor,
        pulls: Sequence[tuple[float, Tensor, Tensor]],
        /,
    ) -> Tensor:
        """Losses `(N,)`. All arguments `(N, T)`, 0 at padding; `pulls` holds, for each reference,
        its weight, log-ratio and KL."""
        ...


@dataclass(frozen=True, slots=True)
class TokenLevel:
    r"""The practical surrogate: every token's ratio for itself, over prefixes as they were drawn.

    $$-\sum_t \frac{p(y_t|y_{<t})}{b(y_t|y_{<t})}\,(A_t - \text{KL to go}) + \text{KL in the loss}$$

    At the policy that drew the responses its gradient is the true one if `kl` is unbiased. Away
    from it the two part, but for `k1_in_reward`, whose stationary point is the closed form.
    """

    kl: KLForm = exact_unbiased
    """How the KLs, to the magnet and to the old policy, enter."""

    def __call__(
        self,
        log_probs: Tensor,
        behaviour: Tensor,
        advantages: Tensor,
        pulls: Sequence[tuple[float, Tensor, Tensor]],
        /,
    ) -> Tensor:
        ratio = torch.exp(log_probs - behaviour)
        loss, worth = torch.zeros_like(ratio), advantages
        for weight, log_ratio, kl in pulls:
            in_loss, to_go = self.kl(log_ratio, kl, ratio)
            loss, worth = loss + weight * in_loss, worth - weight * to_go
        return (loss - ratio * worth).sum(1)


@dataclass(frozen=True, slots=True)
class SequenceLevel:
    r"""The objective itself: the ratio of whole responses, KL under the new policy's prefixes.

    $$-\frac{p(y)}{b(y)}A(y) + \sum_t\frac{p(y_{<t})}{b(y_{<t})}\,\mathrm{KL}_t$$

    Its minimum over all distributions is the core's closed form. Unbiased at every p; the variance
    of the ratios grows with the length of the responses.
    """

    def __call__(
        self,
        log_probs: Tensor,
        behaviour: Tensor,
        advantages: Tensor,
        pulls: Sequence[tuple[float, Tensor, Tensor]],
        /,
    ) -> Tensor:
        apart = log_probs - behaviour
        upto = apart.cumsum(1)
        before = torch.exp(upto - apart)
        loss = -torch.exp(upto[:, -1]) * advantages[:, 0]
        for weight, _, kl in pulls:
            loss = loss + weight * (before * kl).sum(1)
        return loss


class Minimiser(Protocol):
    """How the loss is minimised, in place."""

    def __call__(
        self,
        parameters: Mapping[str, nn.Parameter],
        losses: Sequence[Callable[[], Tensor]],
        moments: Moments,
        /,
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

    def __call__(
        self,
        parameters: Mapping[str, nn.Parameter],
        losses: Sequence[Callable[[], Tensor]],
        moments: Moments,
        /,
    ) -> Moments:
        # In single precision at least: a running mean of rate 1e-4 stands still in half of it.
        first = {
            n: torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32))
            for n, p in parameters.items()
        }
        second = {
            n: moments.second[n].to(m, copy=True) if moments.second else torch.zeros_like(m)
            for n, m in first.items()
        }
        a, b = self.betas
        updates = self.epochs * len(losses)
        for i in range(updates):
            _backward(parameters, losses[i % len(losses)])
            if self.clip is not None:
                nn.utils.clip_grad_norm_(parameters.values(), self.clip)
            count = moments.count + i + 1
            rate = self.rate * self.schedule(i / updates) / (1.0 - a ** (i + 1))
            scale = (1.0 - b**count) ** 0.5
            with torch.no_grad():
                for name, p in parameters.items():
                    assert p.grad is not None
                    m, v = first[name], second[name]
                    gradient = p.grad.to(m)
                    m.lerp_(gradient, 1.0 - a)
                    v.mul_(b).addcmul_(gradient, gradient, value=1.0 - b)
                    p.addcdiv_(m, v.sqrt().div_(scale).add_(self.epsilon), value=-rate)
        return Moments(second, moments.count + updates)


@dataclass(frozen=True, slots=True)
class LBFGS:
    """Limited-memory BFGS with line search (Nocedal 1980): the accurate inner solve.

    The responses of a step are judged once, so its loss is a plain function, to be minimised well.
    Needs an objective whose gradient is that of its value: `SequenceLevel`, not `TokenLevel` with
    reward to go. All minibatches are one.
    """

    iterations: int = 10
    tolerance: float = 1e-9
    """Of the gradient's largest entry."""

    def __call__(
        self,
        parameters: Mapping[str, nn.Parameter],
        losses: Sequence[Callable[[], Tensor]],
        moments: Moments,
        /,
    ) -> Moments:
        optimiser = torch.optim.LBFGS(
            parameters.values(),
            max_iter=self.iterations,
            history_size=50,
            tolerance_grad=self.tolerance,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            return _backward(parameters, lambda: torch.stack([loss() for loss in losses]).mean())

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        return moments


@dataclass(frozen=True, slots=True)
class Proximal:
    """How a mirror step is solved."""

    objective: Objective = TokenLevel()
    minimise: Minimiser = Adam()
    minibatches: int = 1
    """Parts into which the responses are split; each update uses one."""

    def solve(
        self, old: TokenPolicy, q: Rollouts, magnet: TokenPolicy | None, *, eta: float, alpha: float
    ) -> tuple[Weights, Moments]:
        """The new weights, and the optimiser's memory. `old` and `magnet` are read once.

        Raises `FloatingPointError`, and returns nothing, if the loss is not finite.
        """
        references = [(1.0 / eta, old)] + ([] if magnet is None else [(alpha, magnet)])
        losses = [self.loss(old, batch, references) for batch in q.minibatches(self.minibatches)]
        parameters = old.network.load(old.weights)
        with old.network.training():
            moments = self.minimise(parameters, losses, old.moments)
        return old.network.weights(), moments

    def loss(
        self, old: TokenPolicy, q: Rollouts, references: Sequence[tuple[float, TokenPolicy]]
    ) -> Callable[[], Tensor]:
        """The loss at the workbench's weights, as a function to be called again and again.

        `references` are weights in units of preference and the policies pulled to.
        """
        network, decoding, responses = old.network, old.decoding, q.responses
        pulls = [(weight, policy.read(responses)) for weight, policy in references]
        mask = torch.from_numpy(responses.mask).to(network.device)
        tokens = torch.from_numpy(responses.tokens).to(network.device)[mask]

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(mask.shape).masked_scatter(mask, values)

        def loss() -> Tensor:
            reading = read(network, decoding, ((1.0, None),), responses)
            scores = score(reading, [r for _, r in pulls], tokens)
            log_probs = padded(scores.log_probs)
            weights, advantages, behaviour = (
                torch.from_numpy(a).to(log_probs) for a in (q.weights, q.advantages, q.behaviour)
            )
            apart = [
                (weight, padded(ratio), padded(kl))
                for (weight, _), ratio, kl in zip(pulls, scores.log_ratios, scores.kls, strict=True)
            ]
            return weights @ self.objective(log_probs, behaviour, advantages, apart)

        return loss


def _backward(parameters: Mapping[str, nn.Parameter], loss: Callable[[], Tensor]) -> float:
    for p in parameters.values():
        p.grad = None
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    number = float(value.detach())
    if number - number:  # infinity or NaN
        raise FloatingPointError(
            f"The loss of a mirror step is {number}: lower the learning rate, or `eta`."
        )
    return number
