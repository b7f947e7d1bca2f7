"""The probe: whether an engine runs the weights that it was sent.

A fixed set of tokens is scored by engine and network at every delivery. Rounding makes the two
differ, so a difference proves nothing, in half precision least of all. But the *changes* between
two deliveries have to agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.engines.vllm.hosts import DeliveryError
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import PAD, Decoding, Ids, Responses
from mpo_llm.step.scoring import hidden_states

ROWS, IDS = 16, 16
"""Rows of tokens, and ids that are scored after each of them."""

LENGTH = 8
"""Tokens of a row that no prompt gives."""

FARTHEST = {torch.float32: 1e-3}
"""The largest mean difference of engine and network, in nats a token, by the engine's precision."""

FARTHEST_IN_HALF = 0.2
"""The same in half precision."""

RESOLVED = 5.0
"""A change is compared if it is this many times the difference of engine and network before."""

OFF = 0.1
"""How far from 1 the slope of the engine's change on the network's may be."""

MOVED = 0.1
"""The share of the numbers that the network must have changed for an engine that has changed none
to be at fault."""

SMALLEST_IN_HALF = 1e-4
"""The smallest change by the network, in nats, that half precision cannot have rounded away."""


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What is scored: K ids after each of R rows of tokens."""

    rows: tuple[Ids, ...]
    ids: tuple[int, ...]
    decoding: Decoding
    """How logits become probabilities. An engine that reports them without the temperature shows
    here."""
    allowed: tuple[int, ...] | None
    """The ids that may be produced; None for all."""

    @classmethod
    def of(
        cls,
        policy: TokenPolicy,
        prompts: tuple[Ids, ...],
        producible: tuple[int, ...],
        allowed: tuple[int, ...] | None,
    ) -> Probe:
        """A probe of some of the `prompts`, of other rows, and of ids that are likely there."""
        room = (policy.network.context or LENGTH + 1) - 1
        own = [p for p in dict.fromkeys(prompts) if len(p) <= room][: ROWS // 2]
        # The same rows in every run.
        rng = np.random.default_rng(0)
        size = (ROWS - len(own), max(1, min(LENGTH, room)))
        rows = (*own, *(tuple(row) for row in rng.choice(producible, size).tolist()))
        log_probs = _next_token(policy, rows, producible)
        # Rounding is largest where a token is unlikely.
        likely = np.argsort(-np.exp(log_probs).mean(axis=0), kind="stable")[:IDS]
        return cls(rows, tuple(producible[i] for i in likely), policy.decoding, allowed)

    def suits(self, decoding: Decoding) -> bool:
        """Whether single tokens have the same probabilities by the probe's decoding."""
        names = ("temperature", "vocabulary", "unused")
        return all(getattr(decoding, name) == getattr(self.decoding, name) for name in names)

    def by_network(self, policy: TokenPolicy) -> Array:
        """The log-probabilities by the policy's network, `(R, K)` in nats."""
        return _next_token(policy, self.rows, self.ids)


@dataclass(slots=True, eq=False)
class Watch:
    """Compares the scores of engine and network at every delivery, `(R, K)` each.

    `DeliveryError` if the engine runs other weights.
    """

    dtype: torch.dtype
    """The precision of the engine."""
    temperature: float = 1.0
    """The temperature of the scores. A low one magnifies what is rounding."""
    first: tuple[Array, Array] | None = None
    """The scores of the first delivery, by engine and network."""
    last: tuple[Array, Array] | None = None
    """Those of the last delivery."""
    slope: float | None = field(default=None)
    """The slope of the engine's last change on the network's; None where it is not resolved."""

    def require_delivered(self, engine: Array, network: Array) -> None:
        """Compare the scores after a delivery with each other and with those of earlier ones."""
        self.require_near(engine, network)
        for known in filter(None, (self.last, self.first)):
            self._compare(engine - known[0], network - known[1], known)
        self.last = engine, network
        self.first = self.first or self.last

    def require_near(self, engine: Array, network: Array) -> None:
        """Compare scores of the same weights."""
        apart = float(np.abs(engine - network).mean())
        most = FARTHEST.get(self.dtype, FARTHEST_IN_HALF) / min(1.0, self.temperature)
        if not apart <= most:
            name = str(self.dtype).removeprefix("torch.")
            raise DeliveryError(
                f"The engine runs other weights than the policy, or in another precision: their "
                f"log-probabilities differ by {apart:.2g} nats a token, and {most:.2g} is the most "
                f"in {name}. Start it anew with the run's model (`mpo-llm serve`), and for one run "
                "at a time; if it runs in half precision, say so by the engine's option `dtype`."
            )

    def _compare(self, engine: Array, network: Array, before: tuple[Array, Array]) -> None:
        """Compare changes. The engine's is a least-squares fit `slope` times the network's."""
        moved = network != 0.0
        if not moved.any():
            return
        size = float(np.sqrt((network**2).mean()))
        least = 0.0 if self.dtype in FARTHEST else SMALLEST_IN_HALF
        if moved.mean() >= MOVED and size >= least and not engine.any():
            raise DeliveryError(
                "The weights did not reach the engine: by the network a delivery changed "
                f"{moved.mean():.0%} of the log-probabilities, by the engine not one of them. "
                "Restart the server; if it is another release of vLLM, see whether its "
                "`reload_weights` still loads."
            )
        # Engine and network may agree to the last bit by chance, as before the first step of an
        # adapter, and round differently afterwards.
        rounding = np.finfo(np.float32).eps * before[1]
        noise = float(np.sqrt(max(((before[0] - before[1]) ** 2).mean(), (rounding**2).mean())))
        if size < RESOLVED * noise:
            return
        self.slope = float((engine * network).sum() / (network**2).sum())
        if not abs(self.slope - 1.0) <= OFF:
            raise DeliveryError(
                "Only some of the weights reached the engine: its log-probabilities changed by "
                f"{self.slope:.2f} times what the network's did. Restart the server; if it is "
                "another release of vLLM, see whether its `reload_weights` still loads all of them."
            )


def _next_token(policy: TokenPolicy, rows: tuple[Ids, ...], ids: tuple[int, ...]) -> Array:
    """The log-probabilities of the K `ids` as the next token after each row, `(R, K)` in nats."""
    one = replace(policy, decoding=replace(policy.decoding, max_tokens=1))
    # The token after a row is not run, so any will do.
    responses = Responses.of_ids(rows, range(len(rows)), [(PAD,)] * len(rows))
    with torch.no_grad():
        found = hidden_states(one, responses).log_softmax(slice(None))
        return np.asarray(found[:, list(ids)].double().cpu().numpy())
