"""Networks: what runs the weights of a policy.

A policy is its trainable tensors; the network holds the module and everything frozen. So old
policy, magnet and opponents are full copies where all is trained, adapters on one shared base where
LoRA is (the base being the adapters' start, and so the first magnet), and parked in CPU memory
where `offload` asks for it: one mechanism. The module's own trainable parameters are the workbench
of the inner solve and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes

Weights = Mapping[str, Tensor]
"""The trainable tensors of a policy, by name."""


class Decoder(Protocol):
    """Next-token logits of a batch of growing rows."""

    def next(self, tokens: Tensor | None) -> Tensor:
        """Logits `(N, V)` after `tokens` `(N,)` were appended (None: after the prompts)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with the given rows `(M,)` alone; one may be given many times."""
        ...


class Network(ABC):
    """A causal language model in two halves, so that logits are made where they are needed."""

    def __init__(self, module: nn.Module, offload: bool) -> None:
        self._module = module.eval()
        self.offload = offload
        self.processes: Processes = OneProcess()
        """The processes that share the work, each with a network like this."""
        self.sharded: frozenset[str] = frozenset()
        """Of which trainable tensors this process holds a part of the rows only."""
        self.tokens_passed = np.zeros(2, dtype=np.int64)
        """Tokens that were predicted so far, prompts and padding not counted: without a gradient
        to follow, and with one."""
        self.trainable: dict[str, nn.Parameter] = {}
        self._masters: dict[str, nn.Parameter] = {}
        self._take_stock()

    def _take_stock(self) -> None:
        """Find what is trained."""
        named = self._module.named_parameters()
        self.trainable = {n: p for n, p in named if p.requires_grad}
        if not self.trainable:
            raise ValueError("The module has no parameter that requires a gradient.")
        self.sharded = frozenset(n for n, p in self.trainable.items() if isinstance(p, DTensor))
        for name, p in self.trainable.items():
            # Updates smaller than the digits of half precision must not get lost.
            if name in self.sharded or p.dtype != _single(p.dtype):
                p.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    partial(self._hand_over, name)
                )

    def shard(self, layers: Sequence[nn.Module], processes: Processes) -> None:
        """Share the weights of `layers` among the processes, each holding a part of the rows.

        They are put together when a layer runs, by FSDP; then every process must run as often as
        the others. What is outside the layers (embeddings, head) every process holds whole.
        """
        mesh = init_device_mesh(self.device.type, (processes.size,))
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
            assert isinstance(layer, FSDPModule)
            # Shares are of the whole: gradients add up.
            layer.set_gradient_divide_factor(1.0)
            layer.set_force_sum_reduction_for_comms(True)
        self.processes = processes
        self._take_stock()

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of the kind of trainable `name`, its parts put together on every process."""
        if name not in self.sharded:
            return tensor
        parts = self.processes.gather(tensor.cpu())
        return torch.cat(parts)

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """The inverse of `whole`: what this process holds."""
        if name not in self.sharded:
            return tensor
        parts = tensor.chunk(self.processes.size)
        return parts[self.processes.rank] if self.processes.rank < len(parts) else tensor[:0]

    @property
    @abstractmethod
    def context(self) -> int | None:
        """How many tokens a row may have; None where any number."""

    @abstractmethod
    def _states(self, rows: Inputs) -> Tensor:
        """States `(M, d)` at the places where the rows are read."""

    @abstractmethod
    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        """Next-token logits `(..., V)` of states `(..., d)`."""

    @abstractmethod
    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        """The decoder of left-aligned prompts, for use within one call of `decode`."""

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(iter(self.trainable.values())).device

    @property
    def bytes(self) -> int:
        """Bytes of the module's weights, trained or not."""
        return sum(p.numel() * p.element_size() for p in self._module.parameters())

    @property
    def parameters(self) -> int:
        """How many weights the module has, trained or not; tied ones count once."""
        return sum(p.numel() for p in self._module.parameters())

    def states(self, rows: Inputs, weights: Weights | None = None) -> Tensor:
        """States `(M, d)` at the places where the rows are read; with the workbench's weights where
        `weights` is None."""
        if weights is None:
            for name, master in self._masters.items():
                _held(self.trainable[name]).copy_(master.data)
        states: Tensor = self._with(weights, self._states, rows)
        self.tokens_passed[int(states.requires_grad)] += len(states)
        return states

    def decode(self, weights: Weights, rows: Tensor, lengths: Tensor) -> Decoder:
        """A decoder of the given prompts under `weights`."""
        # Rounded, or fetched from the CPU, once and not for every token.
        weights = {
            n: w if n in self.sharded else w.to(self.trainable[n]) for n, w in weights.items()
        }
        inner = self._decoder(rows, lengths)

        def step(tokens: Tensor | None) -> Tensor:
            logits: Tensor = self._with(weights, inner.next, tokens)
            self.tokens_passed[0] += len(logits)
            return logits

        return _Weighed(step, inner.keep)

    def weights(self) -> Weights:
        """The workbench's weights, not to be written to again: `load` puts copies in."""
        return {name: _held(p) for name, p in (self.trainable | self._masters).items()}

    def load(self, weights: Weights) -> Mapping[str, nn.Parameter]:
        """Copy `weights` to the workbench; returns its parameters by name.

        Those of a module in half precision are masters in single precision: rounded for each pass
        through the module, whose gradients add up in them. Sharded ones have masters too.
        """
        for name, p in self.trainable.items():
            single = weights[name].to(p.device, _single(p.dtype), copy=True)
            p.grad = None
            if p.dtype == single.dtype and name not in self.sharded:
                p.data = single
            else:
                self._masters[name] = nn.Parameter(single)
        return self.trainable | self._masters

    def stored(self, weights: Weights) -> Weights:
        """`weights` where copies are kept: themselves, or on the CPU with `offload`."""
        return {n: w.cpu() for n, w in weights.items()} if self.offload else weights

    @property
    def _checkpointed(self) -> list[nn.Module]:
        return [m for m in self._module.modules() if getattr(m, "gradient_checkpointing", False)]

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it gradient checkpointing works, if the module has it enabled.

        Only the checkpointed layers themselves are told that they train, so dropout stays off; and
        outside nobody is, so the cache stays on in decoding.
        """
        layers = self._checkpointed
        try:
            for layer in layers:
                layer.training = True
            yield
        finally:
            for layer in layers:
                layer.training = False

    def _hand_over(self, name: str, p: Tensor) -> None:
        master = self._masters[name]
        if p.grad is not None:
            gradient = _held(p.grad).to(master)
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            p.grad = None

    def _with(self, weights: Weights | None, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result while the parameters hold `weights`, if any; without gradients."""
        if not weights:
            return function(*args)
        held = {n: self.trainable[n].data for n in weights if n not in self.sharded}
        parts = {n: _held(self.trainable[n]).clone() for n in weights if n in self.sharded}
        try:
            self._put(weights)
            return function(*args)
        finally:
            self._put(held | parts)

    def _put(self, weights: Weights) -> None:
        """Let the parameters be these tensors; the sharded ones hold them."""
        for name, tensor in weights.items():
            p = self.trainable[name]
            if name in self.sharded:
                _held(p).copy_(tensor)
            else:
                p.data = tensor.to(p)


def _single(dtype: torch.dtype) -> torch.dtype:
    """Single precision at least."""
    return torch.promote_types(dtype, torch.float32)


def _held(p: Tensor) -> Tensor:
    """The numbers that this process holds of a parameter, or of its gradient."""
    held: Any = p.detach()
    return held.to_local() if isinstance(held, DTensor) else held


class _Weighed:
    def __init__(
        self, step: Callable[[Tensor | None], Tensor], keep: Callable[[Tensor], None]
    ) -> None:
        self._step, self._keep = step, keep

    def next(self, tokens: Tensor | None) -> Tensor:
        return self._step(tokens)

    def keep(self, rows: Tensor) -> None:
        self._keep(rows)
