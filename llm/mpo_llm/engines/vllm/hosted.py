"""The engine for a host: it delivers weights when they have changed, checks them, and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from mpo_games.checks import require_count
from mpo_games.protocol import Array
from mpo_llm.engines.protocol import Drawn, Engine
from mpo_llm.engines.vllm import weights as formats
from mpo_llm.engines.vllm.completions import drawn
from mpo_llm.engines.vllm.hosts import Adapter, Host, Job
from mpo_llm.engines.vllm.probe import Probe, Watch
from mpo_llm.networks.base import Network, Weights
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.processes import by_first
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Decoding, Ids, require_prompts

COLDEST = 0.01
"""vLLM raises a lower temperature to this one, and says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Live:
    """Weights that the host has."""

    weights: Weights
    adapter: Adapter | None
    scores: Array
    """The host's scores of the probe after the delivery."""


@dataclass(slots=True, eq=False)
class Hosted:
    """An engine whose responses a host draws.

    Weights that the host has are not sent again. At each delivery, and before responses are drawn
    with weights delivered earlier, the host scores the probe. If several processes share a run, the
    first one asks the host, and tells the others.

    `EngineError` in a sentence if the host fails or runs other weights; `ValueError` for a network
    that is no model of transformers, a temperature below `COLDEST`, and prompts that the host
    has no room for.
    """

    host: Host
    dtype: torch.dtype | None = None
    """The precision of the host's weights; None is that of the network."""
    mixtures: Engine | None = None
    """Draws responses of mixtures of several networks, which no host runs."""
    watch: Watch | None = field(default=None, init=False)
    """The comparison of the host's scores with the network's; None before the first delivery."""
    _probe: Probe | None = field(default=None, init=False)
    _live: list[_Live] = field(default_factory=list, init=False)
    """What the host has, the last one drawn with at the end."""
    _number: int = field(default=0, init=False)
    """The number of the last delivery."""

    def each(
        self,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What each of the policies draws, as if they drew in turn.

        Adapters of several policies draw in one batch, as many as the host can hold.
        """
        require_prompts(prompts)
        require_count("count", count)
        network = require_transformers(policies[0].network)
        at_once = self.host.slots if formats.has_adapters(network) else 1
        found: list[Drawn] = []
        for several in _runs(policies, at_once):
            if len(several[0].parts) > 1:
                if self.mixtures is None:
                    raise ValueError("A host draws from one network, and the policy is a mixture.")
                found.append(self.mixtures(several[0], prompts, count, rng))
            else:
                found += self._drawn(network, several, prompts, count, rng)
        return found

    def _drawn(
        self,
        network: TransformersNetwork,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What plain policies draw in one batch; the host can hold all of them."""
        jobs = []
        for policy in policies:
            decoding = policy.decoding
            self._require_drawable(network, decoding, prompts)
            if self._probe is None or not self._probe.suits(decoding):
                producible = _producible(decoding, network)
                allowed = producible if len(producible) < network.vocabulary else None
                self._probe = Probe.of(policy, tuple(prompts), producible, allowed)
                dtype = self.dtype or formats.precision(network)
                self.watch, self._live = Watch(dtype, decoding.temperature), []
            adapter = self._ready(policy, network)
            # Every process draws the seeds, so that their generators stay the same.
            seeds = rng.integers(2**62, size=len(prompts)).tolist()
            allowed = self._probe.allowed
            jobs.append(Job(adapter, prompts, seeds, count, decoding, allowed, network.vocabulary))
        found = by_first(network.processes, partial(self.host.draw, jobs))
        return [drawn(job, each) for job, each in zip(jobs, found, strict=True)]

    def _require_drawable(
        self, network: TransformersNetwork, decoding: Decoding, prompts: Sequence[Ids]
    ) -> None:
        sizes = np.array([len(prompt) for prompt in prompts])
        network.require_room(sizes, np.full_like(sizes, decoding.max_tokens))
        if decoding.temperature < COLDEST:
            raise ValueError(
                f"vLLM draws at temperatures of at least {COLDEST}, got {decoding.temperature}."
            )
        largest = max(max(prompt) for prompt in prompts)
        # It would wait for such a token for ever.
        if largest >= network.vocabulary:
            raise ValueError(
                f"A prompt holds the id {largest}, and the model has {network.vocabulary} ids."
            )
        longest = int(sizes.max()) + decoding.max_tokens
        room = by_first(network.processes, self.host.room)
        # It would cut the response short.
        if longest > room:
            raise ValueError(
                f"A prompt and its response take up to {longest} tokens, and the engine has room "
                f"for {room}: start it with more (`mpo-llm serve --longest {longest}`), or lower "
                "`generation.max_tokens`."
            )

    def _ready(
        self,
        policy: TokenPolicy,
        network: TransformersNetwork,
    ) -> Adapter | None:
        """Have the host hold the policy's weights; the adapter that they are, if they are one."""
        live = next((one for one in self._live if _same(one.weights, policy.weights)), None)
        # What the host has is not known after an error.
        kept, self._live = self._live, []
        if live is None:
            live = self._deliver(policy, network, kept)
        else:
            self._require_there(network, live)
        self._live = [*(one for one in kept if one is not live), live]
        return live.adapter

    def _deliver(
        self,
        policy: TokenPolicy,
        network: TransformersNetwork,
        kept: list[_Live],
    ) -> _Live:
        """Send the policy's weights, and see that they have arrived. What is sent instead of others
        leaves `kept`."""
        self._number += 1
        adapter = None
        if formats.has_adapters(network):
            adapter = formats.adapter_of(network, policy.weights, self._number)
            while len(kept) >= self.host.slots:
                oldest = kept.pop(0).adapter
                assert oldest is not None
                by_first(network.processes, partial(self.host.remove, oldest))
            by_first(network.processes, partial(self.host.add, adapter))
        else:
            kept.clear()
            tensors = formats.model_of(network, policy.weights, self.host.device)
            by_first(network.processes, partial(self.host.reload, tensors, formats.unused(network)))
            del tensors
        assert self._probe is not None
        ours = self._probe.by_network(policy)

        def checked() -> Array:
            assert self.watch is not None
            theirs = self._scores(adapter, network.vocabulary)
            self.watch.require_delivered(theirs, ours)
            return theirs

        return _Live(policy.weights, adapter, by_first(network.processes, checked))

    def _require_there(self, network: TransformersNetwork, live: _Live) -> None:
        """See that the host has the weights still: it may have been started anew, or another run
        may have sent its own."""

        def check() -> None:
            assert self.watch is not None
            self.watch.require_near(self._scores(live.adapter, network.vocabulary), live.scores)

        by_first(network.processes, check)

    def _scores(self, adapter: Adapter | None, vocabulary: int) -> Array:
        probe = self._probe
        assert probe is not None
        job = Job(adapter, probe.rows, (), 1, probe.decoding, probe.allowed, vocabulary)
        return self.host.scores(job, probe.ids)


def require_transformers(network: Network) -> TransformersNetwork:
    """The network. `ValueError` if it is no model of transformers."""
    if not isinstance(network, TransformersNetwork):
        raise ValueError(
            f"vLLM runs models of transformers, and the network is a {type(network).__name__}: "
            "draw by `Autoregressive()`."
        )
    return network


def _runs(policies: Sequence[TokenPolicy], at_once: int) -> Iterator[list[TokenPolicy]]:
    """The policies in their order, in parts of at most `at_once`; a mixture is a part by itself."""
    part: list[TokenPolicy] = []
    for policy in policies:
        alone = len(policy.parts) > 1
        if part and (alone or len(part) == at_once):
            yield part
            part = []
        part.append(policy)
        if alone:
            yield part
            part = []
    if part:
        yield part


def _producible(decoding: Decoding, network: TransformersNetwork) -> tuple[int, ...]:
    """The ids that may be produced."""
    vocabulary = min(decoding.vocabulary or network.vocabulary, network.vocabulary)
    unused = set(decoding.unused)
    return tuple(i for i in range(vocabulary) if i not in unused)


def _same(one: Weights, other: Weights) -> bool:
    """Whether two policies share all their tensors, which are never written to."""
    return one is other or (
        one.keys() == other.keys() and all(other[name] is w for name, w in one.items())
    )
