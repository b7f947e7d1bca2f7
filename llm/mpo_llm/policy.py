"""The token-level policy: a distribution over responses that takes mirror steps by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mpo_games.checks import has_verbs, require_kind, require_no_pull
from mpo_games.labelled import shown
from mpo_games.protocol import Array
from mpo_llm.networks.base import Network, Weights
from mpo_llm.responses import (
    Decoding,
    Ids,
    Responses,
    onwards,
    require_known,
    require_prompts,
)
from mpo_llm.step.minimisers import Moments
from mpo_llm.step.parts import Limits
from mpo_llm.step.proximal import Proximal, StepReport
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.step.scoring import per_token, token_terms

MOST_PARTS = 8
"""The largest number of networks in a mixture: each costs one forward pass for every token."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenPolicy:
    r"""A causal language model as a `Policy`: immutable weights, run by a shared network.

    $$p(y|x) = \prod_t p(y_t|x, y_{<t}),\qquad
      p(\cdot|\text{prefix}) \propto \prod_i p_i(\cdot|\text{prefix})^{w_i}$$

    There is one part i, with exponent 1, unless the policy is the result of `mix`. Make the first
    policy by `TokenPolicy.of`. `FloatingPointError` if the network returns NaN.
    """

    network: Network
    """The network that runs the weights; all policies of a run share it."""
    decoding: Decoding
    """How logits become probabilities."""
    parts: tuple[tuple[float, Weights], ...]
    """Exponent and weights of each part. A mirror step starts at the weights of the first part."""
    proximal: Proximal = Proximal()
    """How a mirror step is solved."""
    moments: Moments = field(default_factory=Moments)
    """What the optimiser keeps from step to step."""
    report: StepReport | None = None
    """The report of the mirror step that made this policy; None for others. It is not saved."""

    @classmethod
    def of(
        cls, network: Network, decoding: Decoding, proximal: Proximal = Proximal()
    ) -> TokenPolicy:
        """The policy with the weights that the network has. `ValueError` for a bare module.

        They are the policy's from now on, so nobody else may write to them. Once the network has
        run other policies, it has the weights that it ran last.
        """
        if isinstance(network, torch.nn.Module):
            raise ValueError(
                "`network` must be `TransformersNetwork(model)` or `PlainNetwork(module)`, "
                f"got a bare {type(network).__name__}."
            )
        if not has_verbs(network, "weights"):
            raise ValueError(f"`network` must be a network, got {shown(network)}.")
        require_kind("decoding", decoding, Decoding, "a `Decoding(max_tokens=...)`")
        require_kind("proximal", proximal, Proximal, "a `Proximal()`")
        known, drawn = network.vocabulary, decoding.vocabulary
        if known is not None and drawn is not None and drawn > known:
            raise ValueError(
                f"`decoding.vocabulary` is {drawn}, and the network knows {known} ids: draw only "
                "those."
            )
        return cls(network, decoding, ((1.0, network.weights()),), proximal)

    def __repr__(self) -> str:
        mixture = f", a mixture of {len(self.parts)}" if len(self.parts) > 1 else ""
        return f"TokenPolicy: {self.network!r}, {self.decoding!r}{mixture}"

    def require_readable(self, prompts: Sequence[Ids]) -> None:
        """`ValueError` unless these are prompts of ids that the network knows, which leave room for
        `decoding.max_tokens` in its context."""
        require_prompts(prompts)
        require_known(prompts, self.network.vocabulary)
        sizes = np.array([len(prompt) for prompt in prompts])
        self.network.require_room(sizes, np.full_like(sizes, self.decoding.max_tokens))

    @property
    def weights(self) -> Weights:
        """The weights of the first part."""
        return self.parts[0][1]

    @property
    def limits(self) -> Limits:
        """How many responses are run at the same time."""
        return self.proximal.limits

    def mirror_step(
        self, q: Rollouts, magnet: Self | None, *, eta: Any, alpha: Any, player: int | None = None
    ) -> Self:
        r"""`argmax_p eta <q, p> - eta alpha KL(p || magnet) - KL(p || self)`, by gradient descent.

        The descent starts at the weights of the first part; `proximal` says how it is done. `eta`
        has units of 1 / preference, `alpha` of preference. `ValueError` for an `alpha` above 0
        without a magnet.
        """
        if magnet is None:
            require_no_pull(alpha)
        references = [(1.0 / float(eta), self)]
        # A reference costs memory and a pass through its head, so one of weight 0 is left out.
        if magnet is not None and alpha:
            references.append((float(alpha), magnet))
        solved = self.proximal.solve(self, self.moments, q, references)
        return replace(
            self,
            parts=((1.0, solved.weights),),
            moments=solved.moments,
            report=solved.report,
        )

    def penalise(self, q: Rollouts, magnet: Self, *, alpha: Any) -> Rollouts:
        r"""`q` with the KL to the magnet rho subtracted from the reward, as reward to go (MPO-RT).

        $$A_t - \alpha\sum_{s\ge t}\log\frac{p(y_s|y_{<s})}{\rho(y_s|y_{<s})}$$

        `alpha` is in units of preference.
        """
        drift = self.log_probs(q.responses) - magnet.log_probs(q.responses)
        penalty = np.where(q.responses.mask, alpha * onwards(drift), 0.0)
        return replace(q, advantages=q.advantages - penalty)

    def mix(self, other: Self, weight: float) -> Self:
        """The geometric mixture `self^(1 - weight) other^weight` of next-token distributions.

        Decoding draws from exactly this mixture: it mixes logits, and each part takes a forward
        pass of its own. The geometric mixture of the probabilities of whole responses is another
        distribution, which cannot be drawn from token by token.
        `ValueError` unless `0 <= weight <= 1`, for another network or decoding, and for more than
        `MOST_PARTS` parts.
        """
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"`weight` must lie in [0, 1], got {weight}.")
        self._require_sibling(other)
        parts = [((1.0 - weight) * w, part) for w, part in self.parts]
        for w, part in other.parts:
            # Identity, not equality: weights are never written to, so policies share the tensors.
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
        return replace(self, parts=tuple(parts), report=None)

    def averaged(self, other: Self, weight: float) -> Self:
        """The policy with the weights `(1 - weight) self + weight other`.

        `ValueError` for mixtures, and for policies of different networks or decodings.
        """
        self._require_sibling(other)
        if len(self.parts) + len(other.parts) > 2:
            raise ValueError("Only plain policies have weights to average, not mixtures.")
        at_home = self.network.at_home
        mean = {n: at_home(_lerp(w, other.weights[n], weight)) for n, w in self.weights.items()}
        return replace(self, parts=((1.0, mean),), report=None)

    def snapshot(self) -> Self:
        """The same policy without the optimiser's memory."""
        # No copy of the weights is needed, because they are never written to.
        return replace(self, moments=Moments(), report=None)

    def log_probs(self, responses: Responses) -> Array:
        """The log-probability of each token, `(N, T)` in nats, 0 at padding.

        The sum over its tokens is the log-probability of a response. `ValueError` for tokens that
        are never drawn, and for a prompt and response longer than the context.
        """
        return per_token(responses, token_terms(self, responses).log_probs)

    def kl(self, other: Self, responses: Responses) -> Array:
        """`KL(self || other)` of the next-token distributions, `(N, T)` in nats, 0 at padding.

        Its sum over the tokens, in the mean over responses drawn from `self`, is the KL of the two
        policies.
        """
        return per_token(responses, token_terms(self, responses, [other]).kls[0])

    @property
    def kind(self) -> str:
        """The kind of policy that `arrays` describes, as saved files name it."""
        return "TokenPolicy()"

    def arrays(self) -> dict[str, Any]:
        """All that `restored` needs beside the network, as arrays by name. A run saves them.

        If the weights are sharded, all processes must call it, and the first has all arrays.
        """
        found = {key: self.array(n, w) for key, (n, w) in self.tensors().items()}
        return self.numbers() | {key: array for key, array in found.items() if array is not None}

    def numbers(self) -> dict[str, Any]:
        """Those of the `arrays` that are no tensors."""
        found = {
            "exponents": np.array([w for w, _ in self.parts]),
            "updates": np.array(self.moments.count),
        }
        # Files of runs that measure no rate, and refuse no step, are those of earlier releases.
        known = {"rate": self.moments.rate, "refused": self.moments.refused}
        return found | {name: np.array(number) for name, number in known.items() if number}

    def tensors(self) -> dict[str, tuple[str, Tensor]]:
        """What becomes an array each: the weight's name and the tensor, by the name of the array.

        Policies share tensors, which are never written to. Who saves several policies can tell by
        these which arrays are the same.
        """
        moments = self.moments
        kinds = [(f"part {i}", part) for i, (_, part) in enumerate(self.parts)]
        kinds += [("moment", moments.second), ("first moment", moments.first)]
        return {f"{kind} {n}": (n, w) for kind, tensors in kinds for n, w in tensors.items()}

    def array(self, name: str, tensor: Tensor) -> Array | None:
        """The array of one of the `tensors`. If it is sharded, the first process has its whole, and
        the others have None; all must call it."""
        whole = self.network.whole(name, tensor)
        return None if whole is None else _bits(whole).cpu().numpy()

    def restored(self, arrays: dict[str, Any]) -> Self:
        """The policy whose `arrays` these are, run by this policy's network.

        `ValueError` for weights of another network.
        """
        network = self.network

        def tensors(prefix: str) -> dict[str, Tensor]:
            names = {n.removeprefix(prefix): n for n in arrays if n.startswith(prefix)}
            found = {n: _numbers(torch.from_numpy(arrays[key])) for n, key in names.items()}
            return {n: network.at_home(network.part(n, w)) for n, w in found.items()}

        parts = []
        for i, exponent in enumerate(arrays["exponents"].tolist()):
            saved = tensors(f"part {i} ")
            if {n: w.shape for n, w in saved.items()} != {
                n: w.shape for n, w in self.weights.items()
            }:
                raise ValueError("The saved weights are those of another network.")
            parts.append((exponent, saved))
        second, first = tensors("moment "), tensors("first moment ")
        rate, refused = float(arrays.get("rate", 0.0)), int(arrays.get("refused", 0))
        moments = Moments(second, int(arrays["updates"]), first, rate, refused)
        return replace(self, parts=tuple(parts), moments=moments, report=None)

    def _require_sibling(self, other: Self) -> None:
        if other.network is not self.network or other.decoding != self.decoding:
            raise ValueError("Both policies must have the same network and decoding.")


def _bits(weights: Tensor) -> Tensor:
    """Bfloat16 as the int16 numbers with the same bits, other types as they are."""
    # NumPy has no bfloat16.
    return weights.view(torch.int16) if weights.dtype == torch.bfloat16 else weights


def _numbers(bits: Tensor) -> Tensor:
    """The inverse of `_bits`."""
    return bits.view(torch.bfloat16) if bits.dtype == torch.int16 else bits


def _lerp(one: Tensor, other: Tensor, weight: float) -> Tensor:
    """`(1 - weight) one + weight other`, in single precision or better."""
    # In half precision the small steps of a slow average would be rounded away.
    dtype = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
    return torch.lerp(one.to(dtype), other.to(dtype), weight)
