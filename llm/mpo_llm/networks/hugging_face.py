"""The causal language models of transformers as networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from mpo_llm.networks.base import Decoder, Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.responses import Responses

_NO_CACHE: Any = object()


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
        rows = Inputs.of_responses(
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

    def _states(self, rows: Inputs) -> Tensor:
        if self._shares and len(rows.prompts) < len(rows.ids) and not self._recomputes:
            return self._branching(rows)
        return self._whole(rows)

    def _whole(self, rows: Inputs) -> Tensor:
        columns = torch.arange(rows.ids.shape[1], device=rows.ids.device)
        mask = columns < rows.lengths[:, None]
        return self._run(rows.ids, mask, columns.expand_as(rows.ids))[0][rows.row, rows.column]

    def _branching(self, rows: Inputs) -> Tensor:
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
