"""The built-in engine: it runs the policy's own networks.

Shapes: X prompts with `count` responses each, N = X count responses, T tokens, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mpo_games.checks import require_count
from mpo_games.protocol import Array, Indices
from mpo_llm.engines.protocol import Drawn
from mpo_llm.networks.base import Network
from mpo_llm.networks.processes import in_step
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import PAD, Ids, Responses, left_aligned, require_prompts
from mpo_llm.step.scoring import log_softmax

LOOK = 8
"""Tokens after which a device other than the CPU is asked which rows have ended. Each time the host
waits until the device has done all that was asked of it."""

FULL = 0.75
"""Ended rows leave the batch when at most this share of it still runs."""

BLOCK = 256
"""Neighbouring ids whose probabilities are first summed in their own precision."""


@dataclass(frozen=True, slots=True)
class Autoregressive:
    """Draws token by token by the policy's own networks, which keep keys and values.

    A token is the inverse CDF of a uniform number from `rng`. Prompts of similar length are run
    together, and those of equal length alone if the network needs it. Each prompt is run once,
    however many responses it gets, and responses that have ended leave the batch when they are
    many. Except for rounding, the responses depend neither on `batch` nor on how many processes
    share the prompts.
    `ValueError` for a prompt that leaves no room for `max_tokens` in the network's context.
    """

    batch: int | None = None
    """The largest number of responses that are drawn at the same time; None for all. A batch has
    all responses to its prompts, and at least one prompt."""

    def __post_init__(self) -> None:
        if self.batch is not None:
            require_count("batch", self.batch)

    def __call__(
        self, policy: TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator, /
    ) -> Drawn:
        require_prompts(prompts)
        network, steps = policy.network, policy.decoding.max_tokens
        sizes = np.array([len(prompt) for prompt in prompts])
        network.require_room(sizes, np.full_like(sizes, steps))
        # Every process draws all numbers, so that responses do not depend on the division of work.
        uniforms = rng.random((steps, len(prompts), count))
        tokens = np.full((len(prompts), count, steps), PAD, dtype=np.int64)
        log_probs = np.zeros(tokens.shape)
        lengths = np.zeros((len(prompts), count), dtype=np.int64)
        processes = network.processes
        # Prompts of similar length need little padding. Each process takes prompts of all lengths.
        mine = np.argsort(sizes, kind="stable")[processes.rank :: processes.size]
        at_once = len(prompts) if self.batch is None else max(1, self.batch // count)
        kinds = network.together(sizes)[mine]
        alike = [mine[kinds == kind] for kind in np.unique(kinds)]
        parts = [g[start : start + at_once] for g in alike for start in range(0, len(g), at_once)]
        # Weights that are shared are put together once, not for every token. The networks of a
        # mixture take turns, and are put together for each of theirs.
        with network.undivided(policy.weights) if len(policy.parts) == 1 else nullcontext():
            # What an extra run draws is dropped.
            missing = len(in_step(processes, parts)) - len(parts) if network.in_step else 0
            drawn = [_draw(policy, [prompts[x] for x in rows], uniforms[:, rows]) for rows in parts]
            for _ in range(missing):
                _draw(policy, prompts[:1], uniforms[:, :1, :1])
        for their_parts, theirs in processes.gather((parts, drawn)):
            for rows, found in zip(their_parts, theirs, strict=True):
                tokens[rows], log_probs[rows], lengths[rows] = found
        width = int(lengths.max())
        responses = Responses(
            tuple(prompts),
            np.repeat(np.arange(len(prompts)), count),
            tokens.reshape(-1, steps)[:, :width],
            lengths.reshape(-1),
        )
        return Drawn(responses, log_probs.reshape(-1, steps)[:, :width])


def _draw(
    policy: TokenPolicy, prompts: Sequence[Ids], uniforms: Array
) -> tuple[Indices, Array, Indices]:
    """Tokens and their log-probabilities `(X, count, T)`, and lengths `(X, count)`, by `uniforms`
    `(T, X, count)`. `FloatingPointError` if the network returns NaN."""
    steps, groups, count = uniforms.shape
    network, decoding = policy.network, policy.decoding
    here, every, ran = network.device, groups * count, 0
    # On the CPU nothing is waited for.
    look = 1 if here.type == "cpu" and not network.in_step else LOOK
    with torch.no_grad():
        rows, sizes = (torch.from_numpy(a).to(here) for a in left_aligned(prompts))
        numbers = torch.from_numpy(uniforms.reshape(steps, every)).to(here)
        ends = torch.tensor(decoding.ends, dtype=torch.int64, device=here)
        alone = len(policy.parts) == 1
        decoders = [network.decode(part, rows, sizes, alone=alone) for _, part in policy.parts]
        tokens = torch.full((steps, every), PAD, device=here)
        log_probs = torch.zeros((steps, every), dtype=torch.float64, device=here)
        # The rows that still run, and which of them have not ended.
        going = torch.arange(every, device=here)
        alive = torch.ones(every, dtype=torch.bool, device=here)
        wrong = torch.zeros(1, dtype=torch.bool, device=here)
        # A prompt is run once; its logits and, by `keep` below, its cache go to all its responses.
        kept = going // count
        logits = [decoder.next(None)[kept] for decoder in decoders]
        for t in range(steps):
            log_p = log_softmax(decoding, policy.parts, logits)
            ids = inverse_cdf(log_p.exp(), numbers[t, going])
            chosen = log_p.gather(1, ids[:, None])[:, 0].double()
            wrong |= (chosen.isnan() & alive).any()
            tokens[t].index_copy_(0, going, ids.where(alive, PAD))
            log_probs[t].index_copy_(0, going, chosen.where(alive, 0.0))
            alive = alive & ~torch.isin(ids, ends)
            if t + 1 == steps:
                break
            stay = kept if t == 0 else None
            if decoding.ends and t % look == 0:
                left = int(alive.sum())
                if _over(network, left):
                    break
                # Who leaves makes the others' cache be copied, so a few ended rows run on.
                if 0 < left <= FULL * len(alive):
                    first = torch.argsort(~alive, stable=True)[:left]
                    going, ids, alive = going[first], ids[first], alive[first]
                    stay = first if stay is None else stay[first]
            if stay is not None:
                for decoder in decoders:
                    decoder.keep(stay)
            logits = [decoder.next(ids) for decoder in decoders]
            ran += len(ids)
        # All in one copy. Double precision holds ids without loss.
        drawn = torch.cat([tokens.double(), log_probs, wrong.expand(1, every)]).cpu().numpy()
    if drawn[-1].any():
        raise FloatingPointError("The network returned NaN: lower the learning rate, or `eta`.")
    found = drawn[:steps].T.astype(np.int64)
    ended = np.isin(found, decoding.ends)
    lengths = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, steps)
    # A row that has ended is padding as long as it runs on.
    network.tokens_passed[0] -= len(decoders) * (ran - int(lengths.sum() - every))
    shape = (groups, count, steps)
    return (
        found.reshape(shape),
        drawn[steps:-1].T.reshape(shape),
        lengths.reshape(groups, count),
    )


def _over(network: Network, left: int) -> bool:
    """Whether all rows have ended: those of all processes, if they must run equally often."""
    return (network.processes.largest(left) if network.in_step else left) == 0


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """The id `(N,)` at which the cumulated `probs` `(N, V)` pass `uniforms` `(N,)` in [0, 1).

    First the block of `BLOCK` ids is found, then the id within it: sums of blocks are cumulated in
    double precision, and so are the probabilities of the one block, but never all of them. An id of
    probability 0 is never drawn. NaN gives some id.
    """
    size = probs.shape[1]
    whole = size - size % BLOCK
    sums = probs[:, :whole].reshape(len(probs), -1, BLOCK).sum(-1) if whole else probs[:, :0]
    if whole < size:
        sums = torch.cat([sums, probs[:, whole:].sum(-1, keepdim=True)], dim=1)
    cdf = sums.double().cumsum(-1)
    # Rounding leaves the end a little off 1. A uniform number above it would have no id.
    cdf = cdf / cdf[:, -1:]
    block = (cdf <= uniforms[:, None]).sum(-1, keepdim=True).clamp(max=cdf.shape[1] - 1)
    bounds = nn.functional.pad(cdf, (1, 0)).gather(1, torch.cat([block, block + 1], dim=1))
    within = (uniforms - bounds[:, 0]) / (bounds[:, 1] - bounds[:, 0])
    at = block * BLOCK + torch.arange(min(BLOCK, size), device=probs.device)
    inside = probs.gather(1, at.clamp(max=size - 1)).double()
    cdf = inside.masked_fill(at >= size, 0.0).cumsum(-1)
    # Below 1, which is the end of the last id that is possible.
    within = within.clamp(0.0, 1.0 - torch.finfo(torch.float64).eps)
    place = (cdf / cdf[:, -1:] <= within[:, None]).sum(-1)
    return (block[:, 0] * BLOCK + place).clamp(max=size - 1)
