"""Reward models: sequence classifiers of transformers, trained elsewhere, used as scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import (
    Tokenizer,
    batches,
    context,
    encode,
    load_tokenizer,
)
from mpo_llm.networks.loading import checked, usable


@dataclass(frozen=True, slots=True, eq=False)
class RewardModel:
    """A `Score`: one output of a sequence classifier whose input is a prompt and its response.

    It is a score and no judge: `BradleyTerry(RewardModel.load(path))` is the judge. `ValueError` if
    the model has no output `label`.
    """

    model: Any
    """A sequence classifier of transformers with more than `label` outputs."""
    tokenizer: Tokenizer
    label: int = 0
    """The index of the output that is the score: 0 for a reward model, which has one output."""
    batch: int = 16
    """Responses in one forward pass."""
    longest: int = 1024
    """The largest number of tokens of prompt and response together; `encode` cuts longer ones. A
    model with a smaller context has that limit."""

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """Load the classifier and its tokenizer from a folder, or by name.

        `settings` are the remaining fields. `ValueError` for a model without a trained classifier.
        """
        from transformers import AutoModelForSequenceClassification

        model = checked(AutoModelForSequenceClassification, str(path)).to(usable(device)).eval()
        return cls(model, load_tokenizer(path), **settings)

    def __post_init__(self) -> None:
        if not 0 <= self.label < self.model.config.num_labels:
            raise ValueError(
                f"`label` must be one of the model's {self.model.config.num_labels} outputs, "
                f"got {self.label}."
            )

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The scores of N responses, `(N,)`, in the units of the classifier's logits."""
        longest = min(self.longest, context(self.model, self.model.config))
        rows = encode(self.tokenizer, prompts, responses, longest)
        found = np.zeros(len(prompts))
        with torch.no_grad(), self._padding(rows["input_ids"]) as pad:
            for which, batch in batches(rows, self.batch, self.model.device, pad):
                logits = self.model(**batch).logits[:, self.label]
                # NumPy has no bfloat16, in which many reward models are saved.
                found[which] = logits.double().cpu().numpy()
        return found

    @contextmanager
    def _padding(self, rows: Sequence[Sequence[int]]) -> Iterator[int]:
        """The id that pads, such that the classifier reads each row as it does alone."""
        # A causal classifier reads the score at the last token that is not the configuration's
        # padding. Where there is none, it reads a single row at its last token: with an id that no
        # row has, it does so in a batch. `eos` would not do, as responses end in it.
        config = self.model.config.get_text_config()
        given = config.pad_token_id
        if given is not None and 0 <= given < config.vocab_size:
            yield given
            return
        used = {token for row in rows for token in row}
        config.pad_token_id = next(i for i in range(config.vocab_size) if i not in used)
        try:
            yield config.pad_token_id
        finally:
            config.pad_token_id = given
