"""What all networks share: one module that can run the weights of many policies.

A policy is its trainable tensors. The network holds the module and everything that is not trained.
So one mechanism stores the old policy, the magnet and the opponents in all three cases: as full
copies if all weights are trained, as adapters on one base under LoRA (a new adapter changes
nothing, so the first magnet is the base itself), and in CPU memory with `offload`.

The module's own trainable parameters are a workbench (`workbench.py`): they hold the weights that
were run last, and a mirror step changes drafts of the old weights there by gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from mpo_games.checks import require_kind
from mpo_games.protocol import Indices
from mpo_llm.networks.decoders import Decoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import Processes
from mpo_llm.networks.shards import Shards
from mpo_llm.networks.workbench import Weights as Weights
from mpo_llm.networks.workbench import Workbench

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Head:
    """The head of a policy, as the module runs it."""

    weights: Weights
    """The policy's weights."""
    own: Weights
    """Those of the head that are trained, by their names in the head. All of them if processes
    share the weights, because the module has them whole only while it runs."""


class Network(ABC):
    """A causal language model in two halves: states `(M, d)`, then logits `(M, V)`.

    Logits of all positions are too many to be in memory at once, so callers compute those of a few
    states at a time. `ValueError` for a module without a trainable parameter.
    """

    def __init__(self, module: nn.Module, offload: bool, processes: Processes) -> None:
        require_kind("module", module, nn.Module, "a module of PyTorch")
        # Dropout would make log-probabilities random, in training too.
        self._module = module.eval()
        self.offload = offload
        """Whether policies keep their weights in CPU memory, whatever the device of the module."""
        self.compiled = False
        """Whether terms of tokens are computed by kernels that `torch.compile` makes."""
        self.processes = processes
        """The processes that share the work, each with a network like this one."""
        self.tokens_passed = np.zeros(2, dtype=np.int64)
        """Tokens that have been predicted so far, without a gradient and with one. Prompts and
        padding do not count."""
        self._shards: Shards | None = None
        self.workbench = Workbench(module, offload=offload)
        """The parameters that are trained, and whose weights they hold."""
        self._heads: WeakValueDictionary[int, Head] = WeakValueDictionary()

    def __repr__(self) -> str:
        trained = sum(parameter.numel() for parameter in self.workbench.parameters.values())
        module = type(self._module).__name__
        return f"{type(self).__name__}({module}), {trained:,} trained parameters"

    @property
    def trainable(self) -> Mapping[str, nn.Parameter]:
        """The module's parameters that are trained, by name."""
        return self.workbench.parameters

    @property
    def sharded(self) -> frozenset[str]:
        """Names of the sharded trainable tensors: this process holds only some of their rows."""
        return self.workbench.sharded

    def shard(self, layers: Sequence[nn.Module]) -> None:
        """Divide all weights among the processes: those of each of the `layers`, then the rest.

        They are put together when they are run, so every process must run the network equally
        often from now on, except within `undivided`.
        """
        self._shards = Shards(self._module, layers, self.processes, self.device)
        # Sharding has replaced the module's parameters by new ones.
        self._set_up()

    def _set_up(self) -> None:
        reshard = None if self._shards is None else self._shards.reshard
        self.workbench = Workbench(self._module, offload=self.offload, reshard=reshard)

    def offload_policies(self) -> None:
        """Let policies keep their weights in CPU memory; those that exist stay where they are."""
        self.offload = True
        self._set_up()

    @property
    def in_step(self) -> bool:
        """Whether all processes must run the network equally often."""
        return self._shards is not None and not self._shards.gathered

    @contextmanager
    def undivided(self, weights: Weights) -> Iterator[None]:
        """Every process has `weights` whole within this context, and runs them when it likes.

        Nothing else is run. All processes must enter it and leave it.
        """
        if self._shards is None:
            yield
            return
        self.workbench.hold(weights)
        with self._shards.together():
            yield

    def whole(self, name: str, tensor: Tensor) -> Tensor | None:
        """The whole of a tensor that is sharded like the parameter `name`, in the first process.

        None in the others; all must call it. A tensor that is not sharded is returned by each.
        """
        return tensor if self._shards is None else self._shards.whole(name, tensor)

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """The rows of a whole tensor that this process holds: the inverse of `whole`."""
        return tensor if self._shards is None else self._shards.part(name, tensor)

    def _pass(self, function: Callable[[], T]) -> T:
        """The result of a function that runs the module."""
        return function() if self._shards is None else self._shards.run(function)

    @property
    @abstractmethod
    def context(self) -> int | None:
        """The largest number of tokens in a row; None if there is no limit."""

    @property
    def vocabulary(self) -> int | None:
        """The ids below it can be read; None if it is not known which."""
        return None

    @abstractmethod
    def _states(self, inputs: Inputs) -> Tensor:
        """States `(M, d)` at the positions of the inputs."""

    @abstractmethod
    def logits(self, hidden: Tensor, head: Head | None = None) -> Tensor:
        """Next-token logits `(..., V)` of states `(..., d)`, by a policy's `head`.

        None stands for the head that the module has.
        """

    @property
    @abstractmethod
    def _head(self) -> nn.Module | None:
        """The module that makes logits of states; None if the states are the logits."""

    @abstractmethod
    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        """The decoder of left-aligned prompts `(N, P)`; it runs the module's present weights."""

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return next(iter(self.trainable.values())).device

    @property
    def frozen(self) -> Weights:
        """The module's parameters that are not trained, by name."""
        return {n: p for n, p in self._module.named_parameters() if n not in self.trainable}

    @property
    def bytes(self) -> int:
        """Bytes of the module's weights, trained or not."""
        return sum(p.numel() * p.element_size() for p in self._module.parameters())

    @property
    def parameters(self) -> int:
        """The number of the module's weights, trained or not; tied ones count once."""
        return sum(p.numel() for p in self._module.parameters())

    @property
    def shares_prompts(self) -> bool:
        """Whether a prompt is run once for all its rows, in training too."""
        return False

    def require_room(self, sizes: Indices, steps: Indices) -> None:
        """`ValueError` unless prompts of `sizes` `(N,)` with responses of `steps` `(N,)` tokens fit
        the network's context."""
        longest = int((sizes + steps).max(initial=0))
        if self.context is not None and longest > self.context:
            raise ValueError(
                f"A prompt and its response take {longest} tokens, the network's context is "
                f"{self.context}: shorten prompts or `max_tokens`."
            )

    def together(self, sizes: Indices) -> Indices:
        """A number for each prompt of `sizes` `(X,)`; prompts of unlike numbers are drawn apart."""
        return np.zeros_like(sizes)

    def states(self, inputs: Inputs, weights: Weights | None = None) -> Tensor:
        """States `(M, d)` at the positions of the inputs, by `weights` or, if None, the workbench.

        The workbench's states have gradients, if these are enabled.
        """
        if weights is None:
            self.workbench.hold_drafts()
        else:
            self.workbench.hold(weights)
        states = self._pass(partial(self._states, inputs))
        self.tokens_passed[int(states.requires_grad)] += len(states)
        return states

    @property
    def has_head(self) -> bool:
        """Whether logits are made of states by a head; otherwise the states are the logits."""
        return self._head is not None

    def head(self, weights: Weights) -> Head:
        """The head of a policy, for `logits`. Other weights may be run before it is used."""
        known = self._heads.get(id(weights))
        # A head holds the weights whose it is, so nothing else can have come to lie in their place.
        if known is None:
            known = self._heads[id(weights)] = Head(weights, self._own_of_head(weights))
        if self._shards is not None:
            # After a pass without a gradient the root still has its weights together.
            self._shards.reshard()
        return known

    def _own_of_head(self, weights: Weights) -> Weights:
        bench, head = self.workbench, self._head
        if head is None:
            return {}
        if self._shards is not None:
            bench.hold(weights)
            return self._shards.copies(head)
        names = {p: n for n, p in head.named_parameters()}
        own = {names[p]: n for n, p in self.trainable.items() if p in names}
        return {k: bench.rounded(n, weights) for k, n in own.items()}

    def decode(
        self, weights: Weights, rows: Tensor, lengths: Tensor, *, alone: bool = False
    ) -> Decoder:
        """A decoder by `weights` of left-aligned prompts `rows` `(N, P)` of `lengths` `(N,)`.

        `alone`: nothing else runs until it is done. Otherwise it has the weights beside those of
        the module, so that they need not be rounded, or fetched from the CPU, for every token.
        """
        rounded = None if alone else self.workbench.ready(weights)
        self.workbench.hold(weights, rounded)
        inner = self._decoder(rows, lengths)

        def step(tokens: Tensor | None) -> Tensor:
            if not alone:
                self.workbench.hold(weights, rounded)
            logits = self._pass(partial(inner.next, tokens))
            self.tokens_passed[0] += len(logits)
            return logits

        return _WeightedDecoder(step, inner.keep)

    def weights(self) -> Weights:
        """The weights that the module has, or those that were trained last. They must not be
        written to."""
        return self.workbench.weights()

    def load(self, weights: Weights) -> None:
        """Copy `weights` to the workbench, where they may be changed; `weights()` returns them."""
        self.workbench.begin({name: w.clone() for name, w in weights.items()})

    @contextmanager
    def holding(self, weights: Weights) -> Iterator[nn.Module]:
        """The module, which has `weights` within this context, rounded to its own precision.

        This is the only door for all that reads a policy out of the module. Elsewhere the module
        has the weights of whatever was run last. `ValueError` for sharded weights.
        """
        if self.sharded:
            raise ValueError(
                "The module has only some rows of its weights, because processes share them: save "
                "a checkpoint, and read that in one process."
            )
        before = self.weights()
        try:
            self.workbench.hold(weights)
            yield self._module
        finally:
            self.workbench.hold(before)

    def at_home(self, tensor: Tensor) -> Tensor:
        """A tensor where policies keep theirs: in CPU memory with `offload`."""
        places = self.workbench.places
        kept = places.at_home(tensor)
        if tensor.device != kept.device:
            places.wait()
        return kept

    @property
    def _checkpointed(self) -> list[nn.Module]:
        """The layers that gradient checkpointing runs again: innermost modules that enable it."""

        def enabled(module: nn.Module) -> bool:
            return bool(getattr(module, "gradient_checkpointing", False))

        # The modules around the layers have the flag too, but only their dropouts would look at it.
        return [
            module
            for module in self._module.modules()
            if enabled(module) and not any(enabled(m) for m in module.modules() if m is not module)
        ]

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within this context gradient checkpointing works, if the module has it enabled."""
        # Transformers checkpoints a layer only in training. In decoding, outside this context,
        # checkpointing would switch the cache off.
        layers: list[Any] = self._checkpointed
        functions = [getattr(layer, "_gradient_checkpointing_func", None) for layer in layers]
        try:
            for layer, function in zip(layers, functions, strict=True):
                layer.training = True
                if function is not None:
                    layer._gradient_checkpointing_func = partial(_evaluated, layer, function)
            yield
        finally:
            for layer, function in zip(layers, functions, strict=True):
                layer.training = False
                if function is not None:
                    layer._gradient_checkpointing_func = function


def _evaluated(
    layer: nn.Module, checkpoint: Callable[..., Any], function: Callable[..., Any], *args: Any
) -> Any:
    """`checkpoint(function, *args)` without the layer's own dropouts, which ask whether it is in
    training."""

    def run(*args: Any) -> Any:
        layer.training = False
        try:
            return function(*args)
        finally:
            layer.training = True

    return checkpoint(run, *args)


class _WeightedDecoder:
    """A decoder whose steps run given weights."""

    def __init__(
        self, step: Callable[[Tensor | None], Tensor], keep: Callable[[Tensor], None]
    ) -> None:
        self._step, self._keep = step, keep

    def next(self, tokens: Tensor | None) -> Tensor:
        return self._step(tokens)

    def keep(self, rows: Tensor) -> None:
        self._keep(rows)
