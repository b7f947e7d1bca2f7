"""Weights that the processes of a run share: each holds some rows of every tensor (FSDP).

Torch's FSDP puts the weights of a block together when it runs, and fetches those of the next block
meanwhile. Embeddings, head and all else outside the blocks are one more group, that of the root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mpo_llm.networks.processes import Processes

T = TypeVar("T")


class Shards:
    """The shares of a module's weights that each of the `processes` has, divided by `layers`.

    A number that stands alone stays whole on every process, and so do trained weights of another
    dtype than most.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[nn.Module],
        processes: Processes,
        device: torch.device,
    ) -> None:
        self._processes = processes
        self._root = root = _Root(module)
        # A group sums gradients of one dtype.
        sizes: Counter[torch.dtype] = Counter()
        for p in module.parameters():
            sizes[p.dtype] += p.numel() * p.requires_grad
        usual = sizes.most_common(1)[0][0]
        # In half precision a sum over many processes would lose its small terms.
        precision = MixedPrecisionPolicy(reduce_dtype=torch.promote_types(usual, torch.float32))
        whole = {
            p for p in module.parameters() if not p.dim() or (p.requires_grad and p.dtype != usual)
        }
        mesh = init_device_mesh(device.type, (processes.size,))
        self._groups: list[FSDPModule] = []
        # A module after those within it: what they do not have is its own.
        for part in (*reversed(layers), root):
            fully_shard(
                part,
                mesh=mesh,
                # The root's weights are needed at once: by the head and the backward pass.
                reshard_after_forward=part is not root,
                mp_policy=precision,
                ignored_params=whole,
            )
            assert isinstance(part, FSDPModule)
            # FSDP averages gradients, but each process has a part of one loss: they must be summed.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
            # An expert without tokens on one process takes part in the sum, with zeros. Torch has
            # had this setting since 2.12 or so.
            if hasattr(part, "set_reduce_scatter_unused_params"):
                part.set_reduce_scatter_unused_params(True)
            self._groups.append(part)
        named = module.named_parameters()
        self._shapes = {n: p.shape for n, p in named if isinstance(p, DTensor)}
        self._frozen: WeakValueDictionary[str, Tensor] = WeakValueDictionary()
        self.gathered = False
        """Whether all weights are together on every process: then passes need no other process."""
        # What runs first is the root, for FSDP.
        self.run(lambda: None)
        self.reshard()

    def run(self, function: Callable[[], T]) -> T:
        """The result of a function that runs the module. All processes must call it equally often,
        unless the weights are `gathered`."""
        found: T = self._root(function)
        return found

    def reshard(self) -> None:
        """Let go of the other processes' rows: they are fetched again when they are needed."""
        for group in self._groups:
            group.reshard()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within this context the weights are `gathered`. They must not be changed meanwhile."""
        self.gathered = True
        try:
            for group in self._groups:
                group.set_reshard_after_forward(False, recurse=False)
                group.unshard()
            yield
        finally:
            self.gathered = False
            *layers, _ = self._groups
            for group in layers:
                group.set_reshard_after_forward(True, recurse=False)
            self.reshard()

    def copies(self, part: nn.Module) -> Mapping[str, Tensor]:
        """Copies of all whole parameters of a part that is in no layer, by their names in it.

        Those that are not trained have one copy for all who ask.
        """
        self._groups[-1].unshard()
        found = {}
        for name, p in part.named_parameters():
            known = None if p.requires_grad else self._frozen.get(name)
            found[name] = p.detach().clone() if known is None else known
            if not p.requires_grad:
                self._frozen[name] = found[name]
        return found

    def whole(self, name: str, tensor: Tensor) -> Tensor | None:
        """The whole of a tensor that is divided like the parameter `name`, in the first process.

        None in the others. A parameter that is not divided is whole already.
        """
        if name not in self._shapes:
            return tensor
        shape = self._shapes[name]
        held: Any = tensor.detach()
        rows: Tensor = held.to_local() if isinstance(held, DTensor) else held
        # The last processes may have fewer rows, or none.
        size = -(-shape[0] // self._processes.size) * shape[1:].numel()
        padded = nn.functional.pad(rows.reshape(-1), (0, size - rows.numel()))
        # As bytes, because not every dtype can be sent.
        parts = self._processes.collect(padded.view(torch.uint8))
        if parts is None:
            return None
        return torch.cat(parts).view(rows.dtype)[: shape.numel()].view(shape)

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """The share of a whole tensor that this process has: the inverse of `whole`."""
        if name not in self._shapes:
            return tensor
        parts = tensor.chunk(self._processes.size)
        # A tensor with fewer rows than processes has fewer chunks than processes.
        rank = self._processes.rank
        own = parts[rank] if rank < len(parts) else tensor[:0]
        # A view would keep the whole tensor in memory.
        return own.clone()


class _Root(nn.Module):
    """What FSDP takes for the model. It runs whatever part of it is asked for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[[], T]) -> T:
        return function()
