"""Log-probabilities and exact KL of responses' tokens, chunk by chunk.

Logits `(positions, V)` stand in memory for `CHUNK` positions at a time, in the backward pass too.
Padding is never scored: only the positions that predict a response's token are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.responses import Decoding

CHUNK = 256
"""Positions whose logits stand in memory at once."""

Parts = tuple[tuple[float, Weights | None], ...]
"""Exponents and weights of a geometric mixture of networks; None for the workbench's weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a policy's networks know before each token of some responses."""

    network: Network
    decoding: Decoding
    parts: Parts
    states: tuple[Tensor, ...]
    """The states of each part, `(M, d)`: a row per token, response after response."""

    def take(self, tokens: Tensor) -> Reading:
        """What stands before the given tokens, `(m,)`."""
        return replace(self, states=tuple(states[tokens] for states in self.states))

    def log_softmax(self, positions: slice) -> Tensor:
        """Next-token log-probabilities, `(positions, V)`."""
        logits = [
            self.network.logits(states[positions], weights)
            for states, (_, weights) in zip(self.states, self.parts, strict=True)
        ]
        return log_softmax(self.decoding, self.parts, logits)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Per token of some responses, `(M,)` each; differentiable where the reading was."""

    log_probs: Tensor
    """Of the tokens."""
    log_ratios: tuple[Tensor, ...]
    """`log p - log r` of the tokens, for each reference r."""
    kls: tuple[Tensor, ...]
    """`KL(p || r)` over the whole vocabulary, for each reference r."""


def log_softmax(decoding: Decoding, parts: Parts, logits: Sequence[Tensor]) -> Tensor:
    """The next-token log-probabilities `(..., V)` that the parts' logits stand for.

    In sampling as in scoring, this is where vocabulary, mixture and temperature enter.
    """
    whole: Any = 0.0
    for (exponent, _), part in zip(parts, logits, strict=True):
        kept = part[..., : decoding.vocabulary]
        whole = whole + exponent * kept.to(torch.promote_types(kept.dtype, torch.float32))
    return torch.log_softmax(whole / decoding.temperature, dim=-1)


def read(network: Network, decoding: Decoding, parts: Parts, rows: Inputs) -> Reading:
    """Run the parts' networks over the rows; without gradients but for the workbench."""
    states = []
    for _, weights in parts:
        with torch.set_grad_enabled(weights is None):
            states.append(network.states(rows, weights))
    return Reading(network, decoding, parts, tuple(states))


def joined(readings: Sequence[Reading]) -> Reading:
    """One policy's readings, one after the other."""
    if len(readings) == 1:
        return readings[0]
    columns = zip(*(reading.states for reading in readings), strict=True)
    return replace(readings[0], states=tuple(torch.cat(states) for states in columns))


def score(reading: Reading, references: Sequence[Reading], tokens: Tensor) -> Scores:
    """Scores of `tokens` `(M,)` under a reading, and against references over the same responses.

    `FloatingPointError` if a log-probability is NaN.
    """
    pieces = []
    recompute = torch.is_grad_enabled() and len(tokens) > CHUNK
    for start in range(0, len(tokens), CHUNK):
        chunk = slice(start, min(start + CHUNK, len(tokens)))
        if recompute:
            pieces.append(
                checkpoint(_score, reading, references, tokens, chunk, use_reentrant=False)
            )
        else:
            pieces.append(_score(reading, references, tokens, chunk))
    log_probs, *rest = torch.cat(pieces, dim=1)
    if torch.isnan(log_probs).any():
        raise FloatingPointError("The network returned NaN: lower the learning rate, or `eta`.")
    return Scores(log_probs, tuple(rest[::2]), tuple(rest[1::2]))


def _score(reading: Reading, references: Sequence[Reading], tokens: Tensor, chunk: slice) -> Tensor:
    """Log-probabilities, then log-ratio and KL of each reference, `(1 + 2 references, chunk)`."""
    chosen = tokens[chunk, None]
    log_p = reading.log_softmax(chunk)
    lines = [log_p.gather(1, chosen)[:, 0]]
    for reference in references:
        with torch.no_grad():
            log_r = reference.log_softmax(chunk)
        # An impossible token (logit -inf) costs nothing: 0 log 0.
        apart = (log_p - log_r).masked_fill(log_p == -torch.inf, 0.0)
        lines += [apart.gather(1, chosen)[:, 0], (log_p.exp() * apart).sum(-1)]
    return torch.stack(lines)
