"""The token-level policy: a distribution over responses that takes mirror steps by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mpo_games.protocol import Array, Indices
from mpo_llm.engines import Autoregressive
from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import in_step, share
from mpo_llm.responses import Decoding, Ids, Responses, onwards
from mpo_llm.step.minimisers import Moments
from mpo_llm.step.proximal import Proximal
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.scoring import Reading, Scores, joined, read, score

MOST_PARTS = 8
"""Networks in one mixture: each costs a forward pass a token."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenPolicy:
    r"""A causal language model as a `Policy`: immutable weights, run by a shared network.

    $$p(y|x) = \prod_t p(y_t|x, y_{<t}),\qquad
      p(\cdot|\text{prefix}) \propto \prod_i p_i(\cdot|\text{prefix})^{w_i}$$

    with one part, of exponent 1, unless it came from `mix`. Build the first one with
    `TokenPolicy.of`. A network that returns NaN raises `FloatingPointError`.
    """

    network: Network
    decoding: Decoding
    parts: tuple[tuple[float, Weights], ...]
    """Exponents and weights; mirror steps train from the first."""
    proximal: Proximal = Proximal()
    """How a mirror step is solved."""
    moments: Moments = field(default_factory=Moments)
    """What the optimiser keeps from step to step."""

    @classmethod
    def of(
        cls, network: Network, decoding: Decoding, proximal: Proximal = Proximal()
    ) -> TokenPolicy:
        """The policy at the network's present weights; `ValueError` for a bare module."""
        if isinstance(network, torch.nn.Module):
            raise ValueError(
                "`network` must be `TransformersNetwork(model)` or `PlainNetwork(module)`, "
                f"got a bare {type(network).__name__}."
            )
        weights = {name: w.clone() for name, w in network.weights().items()}
        return cls(network, decoding, ((1.0, weights),), proximal)

    @property
    def weights(self) -> Weights:
        """The weights of the first part."""
        return self.parts[0][1]

    def mirror_step(
        self, q: Rollouts, magnet: Self | None, *, eta: Any, alpha: Any, player: int | None = None
    ) -> Self:
        r"""`argmax_p eta <q, p> - eta alpha KL(p || magnet) - KL(p || self)`, by gradient descent.

        From the first part's weights, as `proximal` says; see `Policy.mirror_step`. `ValueError`
        for a pull without a magnet.
        """
        if magnet is None and alpha:
            raise ValueError(f"`alpha` must be 0 without a magnet, got {alpha}: pass `magnet`.")
        references = [(1.0 / float(eta), self.recall)]
        if magnet is not None and alpha:
            references.append((float(alpha), magnet.recall))
        weights, moments = self.proximal.solve(
            self.network, self.decoding, self.weights, self.moments, q, references
        )
        return replace(self, parts=((1.0, weights),), moments=moments)

    def penalise(self, q: Rollouts, magnet: Self, *, alpha: Any) -> Rollouts:
        r"""`q` less the KL in the reward, as reward to go (MPO-RT).

        $$A_t - \alpha\sum_{s\ge t}\log\frac{p(y_s|y_{<s})}{\rho(y_s|y_{<s})}$$
        """
        drift = self.log_probs(q.responses) - magnet.log_probs(q.responses)
        penalty = np.where(q.responses.mask, alpha * onwards(drift), 0.0)
        return replace(q, advantages=q.advantages - penalty)

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture `self^(1 - weight) other^weight` of next-token distributions.

        Exact at decoding: logits are mixed, each part running its own forward pass. Not the
        mixture of whole responses' probabilities, which no decoder can draw from. `ValueError`
        unless `0 <= weight <= 1`, for other networks or decodings, and beyond `MOST_PARTS`.
        """
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"`weight` must lie in [0, 1], got {weight}.")
        self._require_sibling(other)
        parts = [((1.0 - weight) * w, part) for w, part in self.parts]
        for w, part in other.parts:
            same = next((i for i, (_, known) in enumerate(parts) if known is part), None)
            if same is None:
                parts.append((weight * w, part))
            else:
                parts[same] = (parts[same][0] + weight * w, part)
        if len(parts) > MOST_PARTS:
            raise ValueError(
                f"A mixture of {len(parts)} networks is too costly: for a magnet that drifts, "
                "average weights (`mpo_llm.WeightEma`)."
            )
        return replace(self, parts=tuple(parts))

    def averaged(self, other: Self, weight: float) -> Self:
        """The policy whose *weights* are `(1 - weight) self + weight other`.

        `ValueError` unless both are plain policies of one network.
        """
        self._require_sibling(other)
        if len(self.parts) + len(other.parts) > 2:
            raise ValueError("Only plain policies have weights to average, not mixtures.")
        mean = {n: _lerp(w, other.weights[n].to(w.device), weight) for n, w in self.weights.items()}
        return replace(self, parts=((1.0, mean),))

    def snapshot(self) -> Self:
        """The same policy without the optimiser's memory, its weights kept where the network says.

        Weights are never written to, so nothing else needs a copy.
        """
        parts = tuple((w, self.network.stored(part)) for w, part in self.parts)
        return replace(self, parts=parts, moments=Moments())

    def sample(self, prompts: Sequence[Ids], count: int, rng: np.random.Generator) -> Responses:
        """`count` responses to each prompt, prompt by prompt, by `Autoregressive()`."""
        return Autoregressive()(self, prompts, count, rng).responses

    def log_probs(self, responses: Responses) -> Array:
        """Log-probability of each token, `(N, T)` in nats, 0 at padding; a response's is the sum.

        `ValueError` for tokens that are never produced, and for rows longer than the context.
        """
        return self._per_token(responses, self.score(responses).log_probs)

    def kl(self, other: Self, responses: Responses) -> Array:
        """`KL(self || other)` of the next-token distributions, `(N, T)`, 0 at padding.

        The mean over responses of `self` of the sum over tokens is the KL of the policies.
        """
        return self._per_token(responses, self.score(responses, other).kls[0])

    def scored(self, responses: Responses) -> tuple[Array, Reading | None]:
        """`log_probs`, and what they were read from: None where processes share that work."""
        if self.network.processes.size > 1 or not len(responses):
            return self.log_probs(responses), None
        self._require_producible(responses)
        reading = self.read(responses)
        tokens = torch.from_numpy(responses.tokens[responses.mask]).to(self.network.device)
        with torch.no_grad():
            found = score(reading, (), tokens)
        return self._per_token(responses, found.log_probs), reading

    def recall(self, q: Rollouts) -> Reading:
        """What is read of the responses of `q`: what it brings, if this policy drew them."""
        known = q.reading
        if known is None or known.parts is not self.parts or known.decoding != self.decoding:
            return self.read(q.responses)
        return known

    def read(self, responses: Responses) -> Reading:
        """The states of the policy's networks over the responses, without gradients,
        `proximal.rows` rows at a time."""
        prompts = np.array([len(prompt) for prompt in responses.prompts])
        self.require_room(prompts[responses.of] + responses.lengths)
        size = self.proximal.rows or len(responses)
        parts = [responses.take(slice(i, i + size)) for i in range(0, len(responses), size)]
        rows = [Inputs.of_responses(part, self.network.device) for part in parts]
        return joined([read(self.network, self.decoding, self.parts, part) for part in rows])

    def score(self, responses: Responses, *references: Self) -> Scores:
        """`Scores` of the responses' tokens, without gradients, `proximal.rows` rows at a time."""
        self._require_producible(responses)
        mine = range(len(responses))[share(self.network.processes, len(responses))]
        size = self.proximal.rows or max(1, len(mine))
        slices = [slice(i, min(i + size, mine.stop)) for i in range(mine.start, mine.stop, size)]
        parts = [self._score(responses.take(rows), references) for rows in slices]
        if self.network.sharded:  # every process must run as often as the others
            for _ in in_step(self.network.processes, parts)[len(parts) :]:
                self._score(responses.take(slice(0, 1)), references)
        everyone = [part for parts in self.network.processes.gather(parts) for part in parts]
        log_probs, *rest = torch.cat(everyone or [torch.zeros(1 + 2 * len(references), 0)], dim=1)
        return Scores(log_probs, tuple(rest[::2]), tuple(rest[1::2]))

    def _score(self, responses: Responses, references: Sequence[Self]) -> Tensor:
        """Log-probabilities, then log-ratio and KL of each reference, `(1 + 2 references, M)`."""
        tokens = torch.from_numpy(responses.tokens[responses.mask]).to(self.network.device)
        with torch.no_grad():
            readings = [policy.read(responses) for policy in (self, *references)]
            found = score(readings[0], readings[1:], tokens)
        pairs = zip(found.log_ratios, found.kls, strict=True)
        return torch.stack([found.log_probs, *(line for pair in pairs for line in pair)]).cpu()

    def arrays(self) -> dict[str, Any]:
        """Everything that `restored` needs beside the network: how a run is saved."""
        found: dict[str, Any] = {
            "exponents": np.array([w for w, _ in self.parts]),
            "updates": np.array(self.moments.count),
        }
        whole = self.network.whole
        for i, (_, part) in enumerate(self.parts):
            found |= {f"part {i} {n}": _bits(whole(n, w)).cpu().numpy() for n, w in part.items()}
        moments = self.moments.second.items()
        return found | {f"moment {n}": whole(n, v).cpu().numpy() for n, v in moments}

    def restored(self, arrays: dict[str, Any]) -> Self:
        """The policy that `arrays` came from, run by this one's network."""
        network = self.network

        def tensors(prefix: str) -> dict[str, Tensor]:
            names = {n.removeprefix(prefix): n for n in arrays if n.startswith(prefix)}
            found = {n: _numbers(torch.from_numpy(arrays[key])) for n, key in names.items()}
            return {n: network.part(n, w).to(network.device) for n, w in found.items()}

        parts = []
        for i, exponent in enumerate(arrays["exponents"].tolist()):
            saved = tensors(f"part {i} ")
            if {n: w.shape for n, w in saved.items()} != {
                n: w.shape for n, w in self.weights.items()
            }:
                raise ValueError("The saved weights are those of another network.")
            parts.append((exponent, saved))
        moments = Moments(tensors("moment "), int(arrays["updates"]))
        return replace(self, parts=tuple(parts), moments=moments)

    def _per_token(self, responses: Responses, values: Tensor) -> Array:
        found = np.zeros(responses.tokens.shape)
        found[responses.mask] = values.double().cpu().numpy()
        return found

    def _require_producible(self, responses: Responses) -> None:
        limit = self.decoding.vocabulary
        if limit is not None and len(responses) and responses.tokens.max() >= limit:
            raise ValueError(f"The responses hold ids that are never produced (at least {limit}).")

    def _require_sibling(self, other: Self) -> None:
        if other.network is not self.network or other.decoding != self.decoding:
            raise ValueError("Both policies must have the same network and decoding.")

    def require_room(self, sizes: Indices) -> None:
        """`ValueError` if rows of so many tokens do not fit the network's context."""
        context, longest = self.network.context, int(sizes.max(initial=0))
        if context is not None and longest > context:
            raise ValueError(
                f"A prompt and its response take {longest} tokens, the network's context is "
                f"{context}: shorten prompts or `max_tokens`."
            )


def _bits(weights: Tensor) -> Tensor:
    """Bfloat16, which NumPy lacks, as the integers of its bits."""
    return weights.view(torch.int16) if weights.dtype == torch.bfloat16 else weights


def _numbers(bits: Tensor) -> Tensor:
    """The inverse of `_bits`."""
    return bits.view(torch.bfloat16) if bits.dtype == torch.int16 else bits


def _lerp(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """In single precision at least: in half of it a slow average would stand still."""
    dtype = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
    return torch.lerp(one.to(dtype), other.to(dtype), weight)
