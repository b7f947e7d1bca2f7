"""What all networks share: one module that can run the weights of many policies.

A policy is its trainable tensors. The network holds the module and everything that is not trained.
So one mechanism stores the old policy, the magnet and the opponents in all three cases: as full
copies if all weights are trained, as adapters on one base under LoRA (a new adapter changes
nothing, so the first magnet is the base itself), and in CPU memory with `offload`.

The module's own trainable parameters are the workbench of the inner solve: a mirror step loads the
old weights into them, changes them by gradients, and takes the new weights out. To run the weights
of a policy, they are put into the module for one call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from mpo_games.checks import require_kind
from mpo_games.protocol import Indices
from mpo_llm.networks.decoders import Decoder
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import Processes

Weights = Mapping[str, Tensor]
"""The trainable tensors of a policy, by name. They are never written to, so policies share them."""

A = ParamSpec("A")
T = TypeVar("T")


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
        """Whether `stored` moves weights to CPU memory."""
        self.compiled = False
        """Whether terms of tokens are computed by kernels that `torch.compile` makes."""
        self.processes = processes
        """The processes that share the work, each with a network like this one."""
        self.sharded: frozenset[str] = frozenset()
        """Names of the sharded trainable tensors: this process holds only some of their rows."""
        self.tokens_passed = np.zeros(2, dtype=np.int64)
        """Tokens that have been predicted so far, without a gradient and with one. Prompts and
        padding do not count."""
        self.trainable: dict[str, nn.Parameter] = {}
        """The module's parameters that are trained, by name."""
        self._masters: dict[str, nn.Parameter] = {}
        self._find_trainable()

    def _find_trainable(self) -> None:
        named = self._module.named_parameters()
        self.trainable = {n: p for n, p in named if p.requires_grad}
        if not self.trainable:
            raise ValueError("The module has no parameter that requires a gradient.")
        self.sharded = frozenset(n for n, p in self.trainable.items() if isinstance(p, DTensor))
        for name, p in self.trainable.items():
            # Masters are trained instead: in half precision an update below the last digit would be
            # lost, and FSDP keeps sharded parameters to itself.
            if name in self.sharded or p.dtype != _single(p.dtype):
                p.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    partial(self._pass_gradient_to_master, name)
                )

    def shard(self, layers: Sequence[nn.Module]) -> None:
        """Divide the weights of `layers` among the processes, each of which holds some of the rows.

        FSDP puts a layer's weights together when it runs, so from now on every process must run the
        network equally often. Weights outside the layers (embeddings, head) stay whole.
        """
        mesh = init_device_mesh(self.device.type, (self.processes.size,))
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
            assert isinstance(layer, FSDPModule)
            # FSDP averages gradients, but each process has a part of one loss: they must be summed.
            layer.set_gradient_divide_factor(1.0)
            layer.set_force_sum_reduction_for_comms(True)
            # An expert without tokens on one process takes part in the sum, with zeros. Torch has
            # had this setting since 2.12 or so.
            if hasattr(layer, "set_reduce_scatter_unused_params"):
                layer.set_reduce_scatter_unused_params(True)
        # Sharding has replaced the layers' parameters by new ones.
        self._find_trainable()

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """The whole of a tensor that is sharded like the trainable `name`, on every process."""
        if name not in self.sharded:
            return tensor
        parts = self.processes.gather(tensor.cpu())
        return torch.cat(parts)

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """The rows of a whole tensor that this process holds: the inverse of `whole`."""
        if name not in self.sharded:
            return tensor
        parts = tensor.chunk(self.processes.size)
        # A tensor with fewer rows than processes has fewer chunks than processes.
        return parts[self.processes.rank] if self.processes.rank < len(parts) else tensor[:0]

    @property
    @abstractmethod
    def context(self) -> int | None:
        """The largest number of tokens in a row; None if there is no limit."""

    @abstractmethod
    def _states(self, inputs: Inputs) -> Tensor:
        """States `(M, d)` at the positions of the inputs."""

    @abstractmethod
    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        """Next-token logits `(..., V)` of states `(..., d)`, by the head's weights in `weights`.

        None stands for the weights that the module has.
        """

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
            self._round_masters()
        states = self._with(weights, self._states, inputs)
        self.tokens_passed[int(states.requires_grad)] += len(states)
        return states

    def decode(self, weights: Weights, rows: Tensor, lengths: Tensor) -> Decoder:
        """A decoder by `weights` of left-aligned prompts `rows` `(N, P)` of `lengths` `(N,)`."""
        # Weights are rounded, or fetched from the CPU, once here and not again for every token.
        weights = {
            n: w if n in self.sharded else w.to(self.trainable[n]) for n, w in weights.items()
        }
        inner = self._decoder(rows, lengths)

        def step(tokens: Tensor | None) -> Tensor:
            logits = self._with(weights, inner.next, tokens)
            self.tokens_passed[0] += len(logits)
            return logits

        return _WeightedDecoder(step, inner.keep)

    def weights(self) -> Weights:
        """The workbench's weights. They must not be written to; `load` makes copies."""
        # The last update has changed masters alone. Whoever reads the module now, to save it for
        # example, would miss that update.
        self._round_masters()
        # A master comes before the module's parameter, which is only its rounding.
        return {name: _local(p) for name, p in (self.trainable | self._masters).items()}

    def load(self, weights: Weights) -> Mapping[str, nn.Parameter]:
        """Copy `weights` to the workbench, and return its parameters by name, to be optimised.

        A weight in half precision, or a sharded one, has a master in single precision. The master
        is optimised: each pass through the module rounds it, and the module's gradients add up in
        it.
        """
        for name, p in self.trainable.items():
            # A copy: the weights that the last step has returned are the workbench's own tensors.
            single = weights[name].to(p.device, _single(p.dtype), copy=True)
            p.grad = None
            if p.dtype == single.dtype and name not in self.sharded:
                p.data = single
            else:
                self._masters[name] = nn.Parameter(single)
        self._round_masters()
        return self.trainable | self._masters

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
        held = {name: p.data for name, p in self.trainable.items()}
        try:
            self._put(weights)
            yield self._module
        finally:
            self._put(held)

    def stored(self, weights: Weights) -> Weights:
        """The weights as stored policies keep them: in CPU memory with `offload`, or unchanged."""
        return {n: w.cpu() for n, w in weights.items()} if self.offload else weights

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

    def _round_masters(self) -> None:
        """Write the masters to the module's parameters, which are less precise."""
        for name, master in self._masters.items():
            _local(self.trainable[name]).copy_(master.data)

    def _pass_gradient_to_master(self, name: str, p: Tensor) -> None:
        master = self._masters[name]
        if p.grad is not None:
            # Added up in single precision, where small parts of the gradient are not lost.
            gradient = _local(p.grad).to(master)
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            p.grad = None

    def _with(
        self, weights: Weights | None, function: Callable[A, T], *args: A.args, **kwargs: A.kwargs
    ) -> T:
        """The function's result while the module has `weights`; its own ones if there are none.

        With `weights` the result must not be differentiated: they are gone by then.
        """
        if not weights:
            return function(*args, **kwargs)
        # Whole tensors are exchanged and never copied. FSDP has the sharded ones in its own
        # storage, so those are overwritten and written back.
        held = {n: self.trainable[n].data for n in weights if n not in self.sharded}
        parts = {n: _local(self.trainable[n]).clone() for n in weights if n in self.sharded}
        try:
            self._put(weights)
            return function(*args, **kwargs)
        finally:
            self._put(held | parts)

    def _put(self, weights: Weights) -> None:
        """Set the module's parameters to these values."""
        for name, tensor in weights.items():
            p = self.trainable[name]
            if name in self.sharded:
                _local(p).copy_(tensor)
            else:
                p.data = tensor.to(p)


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


def _single(dtype: torch.dtype) -> torch.dtype:
    """Single precision, or `dtype` if that is more precise."""
    return torch.promote_types(dtype, torch.float32)


def _local(p: Tensor) -> Tensor:
    """The rows that this process holds of a parameter or a gradient, without its graph."""
    held: Any = p.detach()
    return held.to_local() if isinstance(held, DTensor) else held


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
