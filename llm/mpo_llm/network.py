"""Networks: what runs the weights of a policy.

A policy is its trainable tensors; the network holds the module and everything frozen. So old
policy, magnet and opponents are full copies where all is trained, adapters on one shared base where
LoRA is (the base being the adapters' start, and so the first magnet), and parked in CPU memory
where `offload` asks for it: one mechanism. The module's own trainable parameters are the workbench
of the inner solve and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

Weights = Mapping[str, Tensor]
"""The trainable tensors of a policy, by name."""


_NO_CACHE: Any = object()


class Decoder(Protocol):
    """Next-token logits of a batch of growing rows."""

    def next(self, tokens: Tensor | None) -> Tensor:
        """Logits `(N, V)` after `tokens` `(N,)` were appended (None: after the prompts)."""
        ...


class _Run(nn.Module):
    """Any function of the module as a module, so that weights can be put in for the call."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


class Network(ABC):
    """A causal language model in two halves, so that logits are made where they are needed."""

    def __init__(self, module: nn.Module, offload: bool) -> None:
        self._run = _Run(module.eval())
        self.offload = offload
        self.trainable = {n: p for n, p in self._run.named_parameters() if p.requires_grad}
        if not self.trainable:
            raise ValueError("The module has no parameter that requires a gradient.")

    @property
    @abstractmethod
    def context(self) -> int | None:
        """How many tokens a row may have; None where any number."""

    @abstractmethod
    def _hidden(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """States `(N, W, d)` of left-aligned rows."""

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

    def hidden(self, rows: Tensor, lengths: Tensor, weights: Weights | None = None) -> Tensor:
        """States `(N, W, d)`; with the workbench's weights where `weights` is None."""
        states: Tensor = self._with(weights, self._hidden, rows, lengths)
        return states

    def decode(self, weights: Weights, rows: Tensor, lengths: Tensor) -> Decoder:
        """A decoder of the given prompts under `weights`."""
        inner = self._decoder(rows, lengths)
        return _Weighed(lambda tokens: self._with(weights, inner.next, tokens))

    def weights(self) -> Weights:
        """The workbench's weights, not to be written to again: `load` puts copies in."""
        return {name: p.detach() for name, p in self.trainable.items()}

    def load(self, weights: Weights) -> Mapping[str, nn.Parameter]:
        """Copy `weights` to the workbench; returns its parameters by name."""
        for name, p in self.trainable.items():
            p.data = weights[name].to(p.device, copy=True)
            p.grad = None
        return self.trainable

    def stored(self, weights: Weights) -> Weights:
        """`weights` where copies are kept: themselves, or on the CPU with `offload`."""
        return {n: w.cpu() for n, w in weights.items()} if self.offload else weights

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it gradient checkpointing works, if the module has it enabled.

        Only the checkpointed layers themselves are told that they train, so dropout stays off; and
        outside nobody is, so the cache stays on in decoding.
        """
        layers = [m for m in self._run.modules() if getattr(m, "gradient_checkpointing", False)]
        try:
            for layer in layers:
                layer.training = True
            yield
        finally:
            for layer in layers:
                layer.training = False

    def _with(self, weights: Weights | None, function: Callable[..., Any], *args: Any) -> Any:
        if weights is None:
            return function(*args)
        here = {n: w.to(self.device) for n, w in weights.items()}
        return functional_call(self._run, here, (function, *args))


class _Weighed:
    def __init__(self, step: Callable[[Tensor | None], Tensor]) -> None:
        self._step = step

    def next(self, tokens: Tensor | None) -> Tensor:
        return self._step(tokens)


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

    def _hidden(self, rows: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self._run.module(rows)
        return logits

    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        return hidden

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _Recomputing(self._hidden, rows, lengths)


class _Recomputing:
    """Without a cache: every token runs the rows again."""

    def __init__(
        self, hidden: Callable[[Tensor, Tensor], Tensor], rows: Tensor, lengths: Tensor
    ) -> None:
        self._hidden, self._rows, self._lengths = hidden, rows, lengths.clone()

    def next(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            if int(self._lengths.max()) == self._rows.shape[1]:
                self._rows = nn.functional.pad(self._rows, (0, 1))
            self._rows.scatter_(1, self._lengths[:, None], tokens[:, None])
            self._lengths += 1
        hidden = self._hidden(self._rows, self._lengths)
        return hidden[torch.arange(len(hidden), device=hidden.device), self._lengths - 1]


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

    @property
    def context(self) -> int | None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return None if limit is None else int(limit)

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

    def _hidden(self, rows: Tensor, lengths: Tensor) -> Tensor:
        columns = torch.arange(rows.shape[1], device=rows.device)
        return self._states(rows, columns < lengths[:, None], columns.expand_as(rows))[0]

    def _states(
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
        logits: Tensor = self._with(weights, self._model.get_output_embeddings(), hidden)
        return logits

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _Cached(self._states, self.logits, rows, lengths)


class _Cached:
    """With the model's key-value cache.

    Prompts stand left-aligned and new tokens follow the longest of them; the holes between are
    masked, and positions count tokens, not columns.
    """

    def __init__(
        self,
        states: Callable[..., tuple[Tensor, Any]],
        logits: Callable[[Tensor], Tensor],
        rows: Tensor,
        lengths: Tensor,
    ) -> None:
        self._states, self._logits = states, logits
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
        states, self._cache = self._states(ids, self._mask, positions, self._cache)
        return self._logits(states[torch.arange(len(ids), device=ids.device), last])
