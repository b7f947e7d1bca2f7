"""The causal language models of transformers as networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from mpo_llm.networks import adapters
from mpo_llm.networks.base import Decoder, Network, Weights
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.processes import OneProcess, Processes
from mpo_llm.responses import Responses

# A call of the model either continues a cache, or begins a new one (None), or has none at all. The
# third needs a value of its own.
_NO_CACHE: Any = object()


@final
class TransformersNetwork(Network):
    """A network made of a causal language model of transformers, as it is or under LoRA by PEFT.

    Only weights that require a gradient belong to a policy. If the head alone does not give the
    model's logits (because they are capped or scaled after it), logits take the place of states.
    That is correct, but then the logits of all R W positions are in memory. `offload` keeps the
    weights of stored policies in CPU memory. `ValueError` for anything but a loaded model, and for
    prompt tuning and other adapters that could not be trained.
    """

    def __init__(
        self, model: nn.Module, *, offload: bool = False, processes: Processes = OneProcess()
    ) -> None:
        if not hasattr(model, "config"):
            raise ValueError(
                "`model` must be a loaded model of transformers, `AutoModelForCausalLM."
                f"from_pretrained(name)`, got {type(model).__name__}."
            )
        self.given = model
        """The model as it was given, in PEFT's wrapper if it has adapters."""
        # The inner model runs the adapters, since PEFT has injected them into its layers.
        module = adapters.inner(model)
        super().__init__(module, offload, processes)
        self._model = module
        self._head_is_last = self._head_alone_gives_logits()
        self._prompts_shared = self._prompts_can_be_shared()

    @property
    def context(self) -> int | None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        return None if limit is None else int(limit)

    @property
    def config(self) -> Any:
        """The model's configuration, an object of transformers."""
        return self._model.config

    @property
    def layers(self) -> list[nn.Module]:
        """The model's blocks, which `shard` divides: the modules that `_no_split_modules` names."""
        names = getattr(self._model, "_no_split_modules", None) or ()
        return [m for m in self._model.modules() if type(m).__name__ in names]

    def _prompts_can_be_shared(self) -> bool:
        """Whether a response that runs on its prompt's cache gets the states of the whole row.

        If so, a prompt is run once for all its responses. In a batch of prompts of different
        lengths there are masked columns between a shorter prompt and its response. Attention
        windows, recurrent layers and biases by distance may count these columns.
        """
        config = self._model.config.get_text_config()
        # Windows are longer than the rows tried below, so they are recognised by their settings.
        windows = ("sliding_window", "window_size", "attention_window_size")
        attention = set(getattr(config, "layer_types", None) or ("full_attention",))
        if attention != {"full_attention"} or any(getattr(config, w, None) for w in windows):
            return False
        # Anything else is tried out, on a short prompt beside a long one that has two responses.
        prompts, responses = ((1, 2, 3), (4,)), ((5, 6), (7,), (5, 6))
        if self.context is not None and self.context < len(prompts[0]) + len(responses[0]):
            return False
        words = config.vocab_size
        inputs = Inputs.of_responses(
            Responses.of_ids(
                [tuple(i % words for i in prompt) for prompt in prompts],
                (0, 0, 1),
                [tuple(i % words for i in response) for response in responses],
            ),
            self.device,
        )
        with torch.no_grad():
            whole = self._whole(inputs)
            probe = self._model.base_model(input_ids=inputs.prompts, use_cache=True)
            if not hasattr(getattr(probe, "past_key_values", None), "batch_select_indices"):
                return False
            apart = (self._branching(inputs) - whole).abs().max()
        # Rounding differs between the two; a column that is counted wrongly changes far more.
        return bool(apart <= torch.finfo(whole.dtype).eps ** 0.5 * whole.abs().max())

    @property
    def _recomputes(self) -> bool:
        """Whether layers must be run once, over whole rows: if they are sharded, or checkpointed
        and in training."""
        # FSDP gathers a layer's weights for each run, and checkpointed layers keep no cache.
        return bool(self.sharded) or any(layer.training for layer in self._checkpointed)

    def _head_alone_gives_logits(self) -> bool:
        """Whether the head reads the trunk's states unchanged, and its output is the logits."""
        rows = torch.arange(min(4, self._model.config.vocab_size), device=self.device)[None]
        seen: list[Tensor] = []

        # The head's output is replaced by large numbers: a cap would leave small ones as they are.
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

    def _states(self, inputs: Inputs) -> Tensor:
        # With as many prompts as rows there is nothing to share.
        several = len(inputs.prompts) < len(inputs.ids)
        if self._prompts_shared and several and not self._recomputes:
            return self._branching(inputs)
        return self._whole(inputs)

    def _whole(self, inputs: Inputs) -> Tensor:
        """States `(M, d)`, each row run as it stands."""
        columns = torch.arange(inputs.ids.shape[1], device=inputs.ids.device)
        mask = columns < inputs.lengths[:, None]
        states, _ = self._run(inputs.ids, mask, columns.expand_as(inputs.ids))
        return states[inputs.row, inputs.column]

    def _branching(self, inputs: Inputs) -> Tensor:
        """States `(M, d)`: each prompt (stem) is run once, then the rest of each row (branch) on
        the keys and values of its prompt, through which gradients flow."""
        columns = torch.arange(inputs.ids.shape[1], device=inputs.ids.device)
        size, begin = inputs.sizes[inputs.prompt_of, None], columns[: inputs.prompts.shape[1]]
        known = begin < inputs.sizes[:, None]
        stems, cache = self._run(inputs.prompts, known, begin.expand_as(inputs.prompts), None)
        # Where responses have one token, no row goes on; a model still needs a column to run.
        longest = max(1, int((inputs.lengths - size[:, 0]).max()))
        at = size + columns[:longest]
        mask = at < inputs.lengths[:, None]
        cache.batch_select_indices(inputs.prompt_of)
        there = at.clamp(max=len(columns) - 1)
        ids, mask = inputs.ids.gather(1, there), torch.cat([known[inputs.prompt_of], mask], dim=1)
        branches, _ = self._run(ids, mask, there, cache)
        # A position within the prompt has its state in the stem, a later one in the branch.
        ahead = inputs.column - size[inputs.row, 0]
        stem = inputs.prompt_of[inputs.row] * len(begin) + inputs.column
        branch = stems[..., 0].numel() + inputs.row * longest + ahead
        return torch.cat([stems.flatten(0, 1), branches.flatten(0, 1)])[
            torch.where(ahead < 0, stem, branch)
        ]

    def _run(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any = _NO_CACHE
    ) -> tuple[Tensor, Any]:
        """States (or logits, where the head is not last) `(R, W, d)`, and the cache."""
        model = self._model.base_model if self._head_is_last else self._model
        out = model(
            input_ids=ids,
            attention_mask=mask.long(),
            # Counted from the row's first token; by default transformers counts columns.
            position_ids=positions,
            past_key_values=None if cache is _NO_CACHE else cache,
            use_cache=cache is not _NO_CACHE,
        )
        return out[0], out.past_key_values

    def logits(self, hidden: Tensor, weights: Weights | None = None) -> Tensor:
        if not self._head_is_last:
            return hidden
        head: Callable[[Tensor], Tensor] = self._model.get_output_embeddings()
        # This is called for every chunk of positions, so only the head's weights are put in place.
        used = {p for p in self._model.get_output_embeddings().parameters() if p.requires_grad}
        own = {n: weights[n] for n, p in self.trainable.items() if p in used} if weights else None
        return self._with(own, head, hidden)

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return _CachedDecoder(self._run, self.logits, rows, lengths)


class _CachedDecoder:
    """A decoder with the model's key-value cache.

    Prompts are left-aligned, and new tokens come after the longest of them. The columns between a
    shorter prompt and its first new token are masked, and positions count tokens, not columns.
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
