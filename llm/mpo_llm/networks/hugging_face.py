"""The causal language models of transformers as networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from mpo_games.protocol import Indices, Mask
from mpo_llm.networks import adapters
from mpo_llm.networks.base import Head, Network
from mpo_llm.networks.below import Below
from mpo_llm.networks.decoders import CachedDecoder, Decoder, RecomputingDecoder
from mpo_llm.networks.final import Final, final_of
from mpo_llm.networks.inputs import Branches, Inputs, Rows, to_device
from mpo_llm.networks.probe import refusal, ways
from mpo_llm.networks.processes import OneProcess, Processes

# A call of the model either continues a cache, or begins a new one (None), or has none at all. The
# third needs a value of its own.
_NO_CACHE: Any = object()

_LIMITS = ("max_position_embeddings", "max_seq_len", "max_target_positions", "n_positions")
"""Names that configurations have for the largest number of tokens in a row."""

_WINDOWS = {"doge": "keep_window_size", "hy_v4": "index_topk", "moshi": "sliding_window"}
"""Architectures whose longer rows are run wrongly, with the setting that says how long is right."""

_RELATIVE = {
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "indexed_attention",
    "linear_attention",
    "conv",
    "hybrid",
    "hybrid_sliding",
    "moe",
    "mlp",
}
"""Kinds of layers that see how far apart tokens are, and not in which columns they stand."""


def context_of(config: Any) -> int | None:
    """The largest number of tokens in a row of a model, from its text configuration; or None."""
    names = (*_LIMITS, *filter(None, [_WINDOWS.get(config.model_type)]))
    limits = (getattr(config, name, None) for name in names)
    return min((int(limit) for limit in limits if limit is not None and limit > 0), default=None)


@final
class TransformersNetwork(Network):
    """A network made of a causal language model of transformers, as it is or under LoRA by PEFT.

    Only weights that require a gradient belong to a policy; parts for pictures and sounds are
    frozen. If the head, with a cap or a scale after it, does not give the model's logits, these
    take the place of states. That is correct, but then the logits of all R W positions are in
    memory. `offload` keeps the weights of policies in CPU memory. `compiled`: kernels that
    `torch.compile` makes compute log-probabilities and KLs from logits.

    The model is tried on a few short rows (`probe.py`), which decides in which ways it is run.
    `ValueError` if none is right, for anything but a loaded model, and for prompt tuning and other
    adapters that could not be trained.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        offload: bool = False,
        compiled: bool = False,
        processes: Processes = OneProcess(),
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
        _freeze_all_but_text(module)
        super().__init__(module, offload, processes)
        self.compiled = compiled
        self._model = module
        self._text = module.config.get_text_config()
        self._switch = _rope_switch(self._text)
        self._below = Below.of(module, self.layers)
        self._accepted = {part: _accepted(part) for part in (module, module.base_model)}
        with refusal(type(module).__name__, "cannot be run on token ids alone"):
            self._final = self._after_the_head()
        self._ways = ways(_Trial(self))

    @property
    def context(self) -> int | None:
        # Rows on both sides of the switch take two passes, but sharded processes count passes.
        limits = (context_of(self._text), self._switch if self.sharded else None)
        return min((limit for limit in limits if limit is not None and limit > 0), default=None)

    @property
    def vocabulary(self) -> int:
        """The number of ids that the model has an embedding and a logit for."""
        return int(self._text.vocab_size)

    @property
    def config(self) -> Any:
        """The model's configuration, an object of transformers."""
        return self._model.config

    @property
    def generation_ends(self) -> tuple[int, ...]:
        """The ids with which `generate` ends a response."""
        settings = getattr(self._model, "generation_config", None)
        inner = self._model.config.get_text_config()
        found = getattr(settings or inner, "eos_token_id", None)
        return tuple(found) if isinstance(found, Sequence) else () if found is None else (found,)

    @property
    def generation_is_default(self) -> bool:
        """Whether nobody wrote a `generation_config`: an end may be that of the model's class."""
        settings = getattr(self._model, "generation_config", None)
        return bool(getattr(settings, "_from_model_config", True))

    @property
    def layers(self) -> list[nn.Module]:
        """The model's blocks, which `shard` divides: the modules that `_no_split_modules` names."""
        return [block for _, block in adapters.blocks(self._model)]

    @property
    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters of the head, trained or not."""
        return list(self._model.get_output_embeddings().parameters())

    def require_room(self, sizes: Indices, steps: Indices) -> None:
        super().require_room(sizes, steps)
        if self._switch is None:
            return
        # The last token of a response is not an input.
        crosses = (sizes <= self._switch) & (sizes + steps - 1 > self._switch)
        if crosses.any():
            raise ValueError(
                f"A prompt of {sizes[crosses][0]} tokens and its response cross "
                f"{self._switch} tokens (`original_max_position_embeddings`). There this model "
                "changes the positions of all its tokens, so the response would have two "
                "log-probabilities: shorten prompts or `max_tokens`."
            )

    def together(self, sizes: Indices) -> Indices:
        if not self._ways.together:
            return sizes
        return np.zeros_like(sizes) if self._switch is None else 1 * (sizes > self._switch)

    @property
    def shares_prompts(self) -> bool:
        return self._ways.shared and not self.sharded and not self._checkpointed

    @property
    def _recomputes(self) -> bool:
        """Whether layers must be run once, over whole rows: if they are sharded, or checkpointed
        and in training."""
        # FSDP gathers a layer's weights for each run, and checkpointed layers keep no cache.
        return bool(self.sharded) or any(layer.training for layer in self._checkpointed)

    def _after_the_head(self) -> Final | None:
        """What the model does to its head's output; None if the head does not read the trunk's
        states unchanged, or something else is done to its output."""
        rows = torch.arange(min(4, self.vocabulary), device=self.device)[None]
        seen: list[Tensor] = []

        # The head's output is replaced by numbers of all sizes, as a cap shows at large ones alone.
        def answer(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen.append(inputs[0])
            return (
                (1e3 * torch.linspace(-1.0, 1.0, output.numel()) ** 3).view(output.shape).to(output)
            )

        head = self._model.get_output_embeddings()
        hook = head.register_forward_hook(answer)
        try:
            with torch.no_grad():
                logits = self._logits_of(rows[0])[None]
                states = self._call(self._model.base_model, input_ids=rows, use_cache=False)[0]
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].shape != states.shape or not torch.allclose(seen[0], states):
            return None
        return final_of(answer(head, (states,), logits), logits, vars(self._text).values())

    def _states(self, inputs: Inputs) -> Tensor:
        rows = inputs.rows
        if self._switch is not None and rows is not None:
            long = rows.lengths > self._switch
            if long.any() and not long.all():
                return self._of_both(rows, long)
        branches = inputs.branches
        # With as many prompts as rows there is nothing to share.
        several = branches is not None and len(branches.stems) < len(inputs.ids)
        if branches is not None and several and self._ways.shared and not self._recomputes:
            return self._branching(branches)
        return self._whole(inputs)

    def _of_both(self, rows: Rows, long: Mask) -> Tensor:
        """States `(M, d)` of rows on both sides of the switch, each side by itself."""
        sides = [self._states(Inputs.of_rows(rows.take(s), self.device)) for s in (~long, long)]
        # The positions were sorted by side, in their order; this is the way back.
        back = np.argsort(np.argsort(long[rows.row], kind="stable"))
        return torch.cat(sides)[to_device([back], self.device)[0]]

    def _whole(self, inputs: Inputs) -> Tensor:
        """States `(M, d)`, each row run as it stands."""
        # Padding follows a row, so a causal model cannot see it, and it needs no mask. (With one,
        # windows that hold padding alone give NaN in some models.)
        longest = inputs.ids.shape[1] if self._switch is None else int(inputs.lengths.max())
        run = partial(self._run, inputs.ids[:, :longest])
        # Sharded layers cannot be left out, because processes put them together in turn.
        if self._below is None or inputs.rows is None or self.sharded:
            states, _ = run()
        else:
            states, _ = self._below.run(inputs.rows.ids[:, :longest], run)
        return states[inputs.row, inputs.column]

    def _branching(self, rows: Branches) -> Tensor:
        """States `(M, d)`: each prompt (stem) is run once, then the rest of each row (branch) on
        the keys and values of its prompt, through which gradients flow."""
        stems, cache = self._run(rows.stems, rows.known, rows.stem_positions, None)
        cache.reorder_cache(rows.stem_of)
        mask = rows.known
        if mask is not None:
            mask = nn.functional.pad(mask[rows.stem_of], (0, rows.ids.shape[1]), value=True)
        branches, _ = self._run(rows.ids, mask, rows.positions, cache)
        return torch.cat([stems.flatten(0, 1), branches.flatten(0, 1)])[rows.where]

    def _run(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = _NO_CACHE,
    ) -> tuple[Tensor, Any]:
        """States (or logits, where the head is not last) `(R, W, d)`, and the cache.

        Without mask and positions all columns are seen, and counted from 0.
        """
        model = self._model if self._final is None else self._model.base_model
        out = self._call(
            model,
            input_ids=ids,
            attention_mask=None if mask is None else mask.long(),
            # Counted from the row's first token; by default transformers counts columns.
            position_ids=positions,
            past_key_values=None if cache is _NO_CACHE else cache,
            use_cache=cache is not _NO_CACHE,
        )
        return out[0], getattr(out, "past_key_values", None)

    def _call(self, model: nn.Module, **given: Any) -> Any:
        """The output of a model for those of its arguments that it takes and that are given."""
        accepted = self._accepted[model]
        return model(**{k: v for k, v in given.items() if v is not None and k in accepted})

    def _logits_of(self, row: Tensor) -> Tensor:
        """Logits `(W, V)` of one row `(W,)`, as the model computes them from its ids alone."""
        logits: Tensor = self._call(self._model, input_ids=row[None], use_cache=False).logits[0]
        return logits

    @property
    def _head(self) -> nn.Module | None:
        found: nn.Module = self._model.get_output_embeddings()
        return None if self._final is None else found

    def logits(self, hidden: Tensor, head: Head | None = None) -> Tensor:
        module = self._head
        if module is None or self._final is None:
            return hidden
        if head is None or not head.own:
            return self._final(module(hidden))
        # The module's body may have other weights by now.
        return self._final(torch.func.functional_call(module, dict(head.own), (hidden,)))

    def _decoder(self, rows: Tensor, lengths: Tensor) -> Decoder:
        if self._ways.cached:
            return CachedDecoder(self._run, self.logits, rows, lengths)
        return RecomputingDecoder(lambda x: self.logits(self._whole(x)), rows, lengths)


class _Trial:
    """What the probe needs of a network."""

    def __init__(self, network: TransformersNetwork) -> None:
        self._network = network
        self.name = type(network._model).__name__
        self.room, self.device = network.context, network.device
        self.trainable, self.training = network.trainable, network.training
        self.alone = network._logits_of
        # Layers of other kinds may count blocks of columns that are longer than the rows tried.
        kinds = getattr(network._text, "layer_types", None) or ()
        self.relative = _RELATIVE.issuperset(kinds)

    @property
    def words(self) -> Sequence[int]:
        vocabulary = range(self._network.vocabulary)
        special = _special(self._network.config) | _special(self._network._text)
        return [i for i in vocabulary if i not in special] or vocabulary

    def whole(self, inputs: Inputs) -> Tensor:
        return self._network.logits(self._network._whole(inputs))

    def branching(self, inputs: Inputs) -> Tensor:
        assert inputs.branches is not None
        return self._network.logits(self._network._branching(inputs.branches))

    def cached(self, rows: Tensor, lengths: Tensor) -> Decoder:
        return CachedDecoder(self._network._run, self._network.logits, rows, lengths)


def _freeze_all_but_text(model: Any) -> None:
    """In a model of pictures or sounds, train no weights that a text does not run through."""
    config = model.config
    if config.get_text_config() is config:
        return
    used = {
        id(p)
        for part in (
            model.get_decoder(),
            model.get_input_embeddings(),
            model.get_output_embeddings(),
        )
        for p in part.parameters()
    }
    for p in model.parameters():
        if id(p) not in used:
            p.requires_grad_(False)


def _accepted(module: nn.Module) -> frozenset[str]:
    """Which of the arguments of a call the module takes."""
    names = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache"}
    parameters = signature(type(module).forward).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return frozenset(names)
    return frozenset(names & parameters.keys())


def _special(config: Any) -> set[int]:
    """Ids that stand for no text: the values of the settings that are named `..._token_id`."""
    found = [v for k, v in vars(config).items() if k.endswith(("token_id", "token_index"))]
    lists = [v if isinstance(v, list) else [v] for v in found]
    return {i for values in lists for i in values if isinstance(i, int)}


def _rope_switch(config: Any) -> int | None:
    """The number of tokens above which all positions of a row are rotated in another way."""
    given = getattr(config, "rope_parameters", None) or {}
    # Some models have parameters for each kind of layer.
    for rope in (given, *given.values()):
        if isinstance(rope, dict) and rope.get("rope_type") == "longrope":
            own = rope.get("original_max_position_embeddings")
            return int(own or config.original_max_position_embeddings)
    return None
