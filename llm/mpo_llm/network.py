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
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from mpo_llm.responses import Responses
from mpo_llm.rows import Rows
from mpo_llm.team import Alone, Team

Weights = Mapping[str, Tensor]
"""The trainable tensors of a policy, by name."""


_NO_CACHE: Any = object()


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
        self.team: Team = Alone()
        """The processes that share the work, each with a network like this."""
        self.sharded: frozenset[str] = frozenset()
        """Of which trainable tensors this process holds a part of the rows only."""
        self.passed = np.zeros(2, dtype=np.int64)
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

    def shard(self, layers: Sequence[nn.Module], team: Team) -> None:
        """Share the weights of `layers` among the processes, each holding a part of the rows.

        They are put together when a layer runs, by FSDP; then every process must run as often as
        the others. What is outside the layers (embeddings, head) every process holds whole.
        """
        mesh = init_device_mesh(self.device.type, (team.size,))
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
            assert isinstance(layer, FSDPModule)
            # Shares are of the whole: gradients add up.
            layer.set_gradient_divide_factor(1.0)
            layer.set_force_sum_reduction_for_comms(True)
        self.team = team
        self._take_stock()

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of the kind of trainable `name`, its parts put together on every process."""
        if name not in self.sharded:
            return tensor
        parts = self.team.gather(tensor.cpu())
        return torch.cat(parts)

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """The inverse of `whole`: what this process holds."""
        if name not in self.sharded:
            return tensor
        parts = tensor.chunk(self.team.size)
        return parts[self.team.rank] if self.team.rank < len(parts) else tensor[:0]

    @property
    @abstractmethod
    def context(self) -> int | None:
        """How many tokens a row may have; None where any number."""

    @abstractmethod
    def _states(self, rows: Rows) -> Tensor:
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
    def size(self) -> int:
        """Bytes of the module's weights, trained or not."""
        return sum(p.numel() * p.element_size() for p in self._module.parameters())

    @property
    def count(self) -> int:
        """How many weights the module has, trained or not; tied ones count once."""
        return sum(p.numel() for p in self._module.parameters())

    def states(self, rows: Rows, weights: Weights | None = None) -> Tensor:
        """States `(M, d)` at the places where the rows are read; with the workbench's weights where
        `weights` is None."""
        if weights is None:
            for name, master in self._masters.items():
                _held(self.trainable[name]).copy_(master.data)
        states: Tensor = self._with(weights, self._states, rows)
        self.passed[int(states.requires_grad)] += len(states)
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
            self.passed[0] += len(logits)
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


@final
class PlainNetwork(Network):
    """Any module `ids (N, W) -> logits (N, W, V)` that is causal: it sees no mask."""

    def __init__(
        self, module: nn.Module, *, context: int | None = None, offload: bool = False
    ) -> None:
        super().__init__(module, offload)
        self._context = context

    @property
    def context(self) -> int | None:
        return self._context

    def _states(self, rows: Rows) -> Tensor:
        logits: Tensor = self._module(rows.ids)
        return logits[rows.row, rows.column]

    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        return hidden

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _Recomputing(self._states, rows, lengths)


class _Recomputing:
    """Without a cache: every token runs the rows again, each distinct one once."""

    def __init__(self, states: Callable[[Rows], Tensor], rows: Tensor, lengths: Tensor) -> None:
        self._states, self._rows, self._lengths = states, rows, lengths.clone()

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            if int(self._lengths.max()) == self._rows.shape[1]:
                self._rows = nn.functional.pad(self._rows, (0, 1))
            self._rows.scatter_(1, self._lengths[:, None], tokens[:, None])
            self._lengths += 1
        keys = torch.cat([self._lengths[:, None], self._rows], dim=1)
        distinct, where = torch.unique(keys, dim=0, return_inverse=True)
        return self._states(Rows.whole(distinct[:, 1:], distinct[:, 0]))[where]

    def keep(self, rows: Tensor) -> None:
        self._rows, self._lengths = self._rows[rows], self._lengths[rows]


@final
class TransformersNetwork(Network):
    """A causal language model of transformers, as it is or under LoRA adapters of PEFT.

    Only what requires a gradient is a policy's own. Where the head alone does not give the model's
    logits (soft-capping, scaled logits), whole logits take the place of states: correct, but
    `(N, W, V)` stands in memory.
    """

    def __init__(self, model: nn.Module, *, offload: bool = False) -> None:
        if not hasattr(model, "config"):
            raise ValueError(
                "`model` must be a loaded model of transformers, `AutoModelForCausalLM."
                f"from_pretrained(name)`, got {type(model).__name__}."
            )
        module: Any = model
        if hasattr(model, "peft_config"):
            if any(c.is_prompt_learning for c in module.peft_config.values()):
                raise ValueError("Of PEFT's methods only injected adapters (LoRA) can be used.")
            # The wrapped model runs the adapters: they were injected into its layers.
            module = module.get_base_model()
        super().__init__(module, offload)
        self._model = module
        self._halves = self._head_alone_gives_logits()
        self._shares = self._prompts_can_be_shared()

    @property
    def context(self) -> int | None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return None if limit is None else int(limit)

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._model.config

    @property
    def layers(self) -> list[nn.Module]:
        """The model's blocks, as it names them: what is sharded."""
        names = getattr(self._model, "_no_split_modules", None) or ()
        return [m for m in self._model.modules() if type(m).__name__ in names]

    def _prompts_can_be_shared(self) -> bool:
        """Whether a row that follows a longer or shorter prompt's cache is as if it stood alone.

        Windows, recurrent layers and biases by distance may count what lies between a prompt and
        what follows it. Windows are longer than what can be tried here: they are known by name.
        """
        config = self._model.config.get_text_config()
        windows = ("sliding_window", "window_size", "attention_window_size")
        attention = set(getattr(config, "layer_types", None) or ("full_attention",))
        if attention != {"full_attention"} or any(getattr(config, w, None) for w in windows):
            return False
        prompts, responses = ((1, 2, 3), (4,)), ((5, 6), (7,), (5, 6))
        if self.context is not None and self.context < len(prompts[0]) + len(responses[0]):
            return False
        words = config.vocab_size
        rows = Rows.of_responses(
            Responses.of_ids(
                [tuple(i % words for i in prompt) for prompt in prompts],
                (0, 0, 1),
                [tuple(i % words for i in response) for response in responses],
            ),
            self.device,
        )
        with torch.no_grad():
            whole = self._whole(rows)
            probe = self._model.base_model(input_ids=rows.prompts, use_cache=True)
            if not hasattr(getattr(probe, "past_key_values", None), "batch_select_indices"):
                return False
            apart = (self._branching(rows) - whole).abs().max()
        return bool(apart <= torch.finfo(whole.dtype).eps ** 0.5 * whole.abs().max())

    @property
    def _recomputes(self) -> bool:
        """Whether layers must be run as they are, once: sharded ones, and checkpointed ones, which
        keep no keys, while they train."""
        return bool(self.sharded) or any(layer.training for layer in self._checkpointed)

    def _head_alone_gives_logits(self) -> bool:
        """Whether the head reads the trunk's states as they are and returns the logits as they are:
        asked with a head whose output is large, so that no cap on logits can hide."""
        rows = torch.arange(min(4, self._model.config.vocab_size), device=self.device)[None]
        seen: list[Tensor] = []

        def answer(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen.append(inputs[0])
            return torch.linspace(-1e3, 1e3, output.numel()).view(output.shape).to(output)

        head = self._model.get_output_embeddings()
        hook = head.register_forward_hook(answer)
        try:
            with torch.no_grad():
                logits = self._model(input_ids=rows, use_cache=False).logits
                states = self._model.base_model(input_ids=rows, use_cache=False)[0]
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].shape != states.shape:
            return False
        return torch.allclose(seen[0], states) and torch.equal(
            logits, answer(head, (states,), logits)
        )

    def _states(self, rows: Rows) -> Tensor:
        if self._shares and len(rows.prompts) < len(rows.ids) and not self._recomputes:
            return self._branching(rows)
        return self._whole(rows)

    def _whole(self, rows: Rows) -> Tensor:
        columns = torch.arange(rows.ids.shape[1], device=rows.ids.device)
        mask = columns < rows.lengths[:, None]
        return self._run(rows.ids, mask, columns.expand_as(rows.ids))[0][rows.row, rows.column]

    def _branching(self, rows: Rows) -> Tensor:
        """Each prompt is run once, and then what follows it in each row, with its keys and values:
        gradients flow through these."""
        columns = torch.arange(rows.ids.shape[1], device=rows.ids.device)
        size, begin = rows.sizes[rows.of, None], columns[: rows.prompts.shape[1]]
        known = begin < rows.sizes[:, None]
        stems, cache = self._run(rows.prompts, known, begin.expand_as(rows.prompts), None)
        longest = max(1, int((rows.lengths - size[:, 0]).max()))
        at = size + columns[:longest]
        mask = at < rows.lengths[:, None]
        cache.batch_select_indices(rows.of)
        there = at.clamp(max=len(columns) - 1)
        ids, mask = rows.ids.gather(1, there), torch.cat([known[rows.of], mask], dim=1)
        branches, _ = self._run(ids, mask, there, cache)
        ahead = rows.column - size[rows.row, 0]
        stem = rows.of[rows.row] * len(begin) + rows.column
        branch = stems[..., 0].numel() + rows.row * longest + ahead
        return torch.cat([stems.flatten(0, 1), branches.flatten(0, 1)])[
            torch.where(ahead < 0, stem, branch)
        ]

    def _run(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any = _NO_CACHE
    ) -> tuple[Tensor, Any]:
        model = self._model.base_model if self._halves else self._model
        out = model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=None if cache is _NO_CACHE else cache,
            use_cache=cache is not _NO_CACHE,
        )
        return out[0], out.past_key_values

    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        if not self._halves:
            return hidden
        head = self._model.get_output_embeddings()
        # Chunk after chunk passes here: only what the head reads is put in place.
        used = {p for p in head.parameters() if p.requires_grad}
        own = {n: weights[n] for n, p in self.trainable.items() if p in used} if weights else None
        logits: Tensor = self._with(own, head, hidden)
        return logits

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _Cached(self._run, self.logits, rows, lengths)


class _Cached:
    """With the model's key-value cache.

    Prompts stand left-aligned and new tokens follow the longest of them; the holes between are
    masked, and positions count tokens, not columns.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, Any]],
        logits: Callable[[Tensor], Tensor],
        rows: Tensor,
        lengths: Tensor,
    ) -> None:
        self._run, self._logits = run, logits
        self._rows, self._length = rows, lengths
        self._columns = torch.arange(rows.shape[1], device=rows.device)
        self._mask = self._columns < lengths[:, None]
        self._cache: Any = None

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is None:
            ids, positions = self._rows, self._columns.expand_as(self._rows)
            last = self._length - 1
        else:
            ids, positions = tokens[:, None], self._length[:, None]
            self._mask = nn.functional.pad(self._mask, (0, 1), value=True)
            self._length = self._length + 1
            last = torch.zeros_like(self._length)
        states, self._cache = self._run(ids, self._mask, positions, self._cache)
        return self._logits(states[torch.arange(len(ids), device=ids.device), last])

    def keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self._length = self._mask[rows], self._length[rows]
