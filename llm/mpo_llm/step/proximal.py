r"""The mirror step of a network: an objective is minimised, from the old weights.

$$\min_p\; -\langle q, p\rangle + \alpha\,\mathrm{KL}(p\|\rho)
+ \tfrac1\eta\,\mathrm{KL}(p\|\text{old})$$

This is the core's objective, divided by $-\eta$, in units of preference. An `Objective` estimates
it from samples, a `Minimiser` minimises it, and a `Proximal` has one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from mpo_games.checks import is_number, require_callable, require_count
from mpo_games.labelled import shown
from mpo_games.written import written
from mpo_llm.networks.base import Weights
from mpo_llm.networks.inputs import Inputs, to_device
from mpo_llm.networks.processes import Processes, in_step, share
from mpo_llm.step.guard import Guard
from mpo_llm.step.minimisers import Adam, Evaluated, Gradient, Loss, Minimiser, Moments
from mpo_llm.step.objectives import Batch, Objective, TokenLevel
from mpo_llm.step.parts import Limits
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.sample import Sample
from mpo_llm.step.scoring import WORKBENCH, HiddenStates, Scorable


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a mirror step did. KLs are in nats a response, to each reference of the step: the old
    policy, then the magnet if it pulled."""

    gradients: int
    """How many gradients were computed."""
    loss: float
    """The loss at the last gradient."""
    first_kls: tuple[float, ...]
    """KLs at the first gradient, of the policy that the step starts from."""
    last_kls: tuple[float, ...]
    """KLs at the last gradient, after all updates but one."""
    kept: float = 1.0
    """The share of the way that the guard has kept; 1 without a guard."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """The outcome of a mirror step."""

    weights: Weights
    """The new weights."""
    moments: Moments
    """What the optimiser keeps for the next step."""
    report: StepReport
    """What the step did."""


@dataclass(frozen=True, slots=True)
class Proximal:
    """How a mirror step is solved.

    `ValueError` for a minimiser that searches together with an objective without a potential, for a
    `micro_batch` together with an objective that is no sum over responses, and for less than one
    minibatch.
    """

    objective: Objective = TokenLevel()
    minimise: Minimiser = Adam()
    minibatches: int = 1
    """Parts into which the responses are split; each update uses one. There are no more parts than
    responses. An objective that is no sum over responses has whole prompts in a part."""
    micro_batch: int | None = None
    """The largest number of responses whose activations are in memory at the same time. Gradients
    add up over such parts of a minibatch, so the result is the same. All if None."""
    micro_tokens: int | None = None
    """The largest number of tokens whose activations are in memory at the same time, padding
    included. Then parts have responses of similar length. No limit if None."""
    guard: Guard | None = None
    """What lets a step go back that has not lowered the loss, or has gone too far. None accepts
    every step."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_count("minibatches", self.minibatches)
        require_callable("objective", self.objective, "`TokenLevel()`")
        require_callable("minimise", self.minimise, "`Adam()`")
        # A bare function says nothing of itself.
        potential, separable = (
            getattr(self.objective, name, False) for name in ("potential", "separable")
        )
        if not hasattr(self.minimise, "searches"):
            raise ValueError(f"`minimise` must be one like `Adam()`, got {shown(self.minimise)}.")
        if self.minimise.searches and not potential:
            raise ValueError(
                f"{type(self.minimise).__name__} compares values of the loss, and the gradient of "
                f"{self.objective} is not that of its value: use `SequenceLevel()` or `Adam()`."
            )
        if self.micro_batch is not None and not (
            is_number(self.micro_batch) and self.micro_batch >= 1 and separable
        ):
            raise ValueError(
                f"`micro_batch` must be at least 1, got {shown(self.micro_batch)}, and "
                f"{self.objective} must be a sum over responses: use `micro_batch=None` otherwise."
            )
        if self.micro_tokens is not None:
            require_count("micro_tokens", self.micro_tokens)
            if not separable:
                raise ValueError(
                    f"`micro_tokens` needs a sum over responses, and {self.objective} is none: "
                    "use `micro_tokens=None`."
                )

    @property
    def limits(self) -> Limits:
        """What is in memory at the same time."""
        return Limits(self.micro_batch, self.micro_tokens)

    def solve(
        self,
        policy: Scorable,
        moments: Moments,
        q: Rollouts,
        references: Sequence[tuple[float, Scorable]],
    ) -> Solved:
        """Step from the weights of the first part of `policy`.

        `references` are the policies that the step is pulled to, each with its weight in units of
        preference: the old policy, then the magnet. `FloatingPointError` if a loss is not finite;
        nothing has changed then.
        """
        network, start = policy.network, policy.parts[0][1]
        assert start is not None
        batches = []
        # A loss that compares the responses to a prompt needs all of them in one minibatch.
        by_prompt = not self.objective.separable
        for batch in q.minibatches(self.minibatches, by_prompt=by_prompt):
            own = _shared(batch, network.processes)
            parts = own.parts(self.limits, shared=network.shares_prompts)
            if network.in_step:
                # Every process must run as often as the others, if need be with weight 0.
                idle = replace(batch.take(slice(0, 1)), weights=np.zeros(1))
                parts = tuple(part or idle for part in in_step(network.processes, parts))
            batches.append(parts)
        every = [part for parts in batches for part in parts]
        read = Rollouts.states_of_each([reference for _, reference in references], every)
        pulls = (
            [(weight, states[i]) for (weight, _), states in zip(references, read, strict=True)]
            for i in range(len(every))
        )
        samples = [
            Sample([self._batch(policy, part, next(pulls)) for part in parts], network.processes)
            for parts in batches
        ]
        losses = [
            Loss(
                [partial(self._loss, part) for part in sample.parts],
                network.processes,
                network.sharded,
            )
            for sample in samples
        ]
        bench = network.workbench
        try:
            bench.begin(start)
            with network.training():
                minimise = partial(self.minimise, bench, losses, moments)
                if self.guard is None:
                    done, kept = minimise(), 1.0
                else:
                    done, kept = self.guard(bench, samples, minimise)
            first, last = _kls(network.processes, done.gradients[0], done.gradients[-1])
            report = StepReport(len(done.gradients), done.gradients[-1].loss, first, last, kept)
            return Solved(bench.weights(), done.moments, report)
        finally:
            # After an error: nobody gets what was trained.
            bench.end()

    def loss(
        self, policy: Scorable, q: Rollouts, references: Sequence[tuple[float, Scorable]]
    ) -> Callable[[], Evaluated]:
        """The loss on some responses, as a function of the weights in the network's workbench."""
        pulls = [(w, q.hidden_states(r)) for w, r in references]
        return partial(self._loss, self._batch(policy, q, pulls))

    def _loss(self, sample: Callable[[], Batch]) -> Evaluated:
        """The loss at the workbench's present weights."""
        batch = sample()
        kls = tuple(batch.weights @ kl.detach().sum(1) for _, _, kl in batch.pulls)
        return Evaluated(batch.weights @ self.objective(batch), kls)

    def _batch(
        self, policy: Scorable, q: Rollouts, pulls: Sequence[tuple[float, HiddenStates]]
    ) -> Callable[[], Batch]:
        """The responses and their terms, given the states of the references."""
        network, responses = policy.network, q.responses
        # All that the updates leave unchanged is computed once, here.
        inputs = Inputs.of_responses(responses, network.device)
        mask = responses.mask
        # Where a mask is on a device, how many places it has is only known after a wait.
        tokens, places, prompt_of = to_device(
            [responses.tokens[mask], np.flatnonzero(mask), responses.prompt_of], network.device
        )
        arrays = [q.behaviour, q.advantages, q.weights, *([] if q.pairs is None else [q.pairs])]
        known = to_device(arrays, network.device)

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(mask.size).scatter(0, places, values).view(mask.shape)

        def batch() -> Batch:
            sought = HiddenStates.of(network, policy.decoding, WORKBENCH, inputs)
            terms = sought.terms(tokens, [states for _, states in pulls])
            log_probs = padded(terms.log_probs)

            behaviour, advantages, weights, *pairs = (values.to(log_probs) for values in known)
            return Batch(
                log_probs,
                behaviour,
                advantages,
                [
                    (weight, padded(ratio), padded(kl))
                    for (weight, _), ratio, kl in zip(
                        pulls, terms.log_ratios, terms.kls, strict=True
                    )
                ],
                weights,
                prompt_of,
                pairs[0] if pairs else None,
            )

        return batch


def _shared(q: Rollouts, processes: Processes) -> Rollouts:
    """The responses that this process trains on: those to its share of the prompts."""
    if processes.size == 1:
        return q
    # Whole groups, as some objectives compare the responses to a prompt.
    prompts = np.unique(q.responses.prompt_of)
    rows = np.isin(q.responses.prompt_of, prompts[share(processes, len(prompts))])
    if rows.any():
        return q.take(np.flatnonzero(rows))
    # With fewer prompts than processes some have none, but a loss needs a response.
    return replace(q.take(slice(0, 1)), weights=np.zeros(1))


def _kls(processes: Processes, *gradients: Gradient) -> list[tuple[float, ...]]:
    """The KLs at some gradients, summed over the processes."""
    parts = processes.gather([[float(kl) for kl in gradient.kls] for gradient in gradients])
    return [tuple(map(float, kls)) for kls in np.sum(parts, axis=0)]
