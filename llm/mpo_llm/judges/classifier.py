"""Reward models: sequence classifiers of transformers, trained elsewhere, used as scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import Tokenizer, batches, encode, load_tokenizer


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
    """The largest number of tokens of prompt and response together; `encode` cuts longer ones."""

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """Load the classifier and its tokenizer from a folder, or by name.

        `settings` are the remaining fields.
        """
        from transformers import AutoModelForSequenceClassification

        model = (
            AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=False)
            .to(device)
            .eval()
        )
        tokenizer = load_tokenizer(path)
        # The classifier finds the last token of a padded row by this id, or refuses a batch.
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        return cls(model, tokenizer, **settings)

    def __post_init__(self) -> None:
        if not 0 <= self.label < self.model.config.num_labels:
            raise ValueError(
                f"`label` must be one of the model's {self.model.config.num_labels} outputs, "
                f"got {self.label}."
            )

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The scores of N responses, `(N,)`, in the units of the classifier's logits."""
        rows = encode(self.tokenizer, prompts, responses, self.longest)
        found = np.zeros(len(prompts))
        with torch.no_grad():
            for which, batch in batches(self.tokenizer, rows, self.batch, self.model.device):
                logits = self.model(**batch).logits[:, self.label]
                # NumPy has no bfloat16, in which many reward models are saved.
                found[which] = logits.double().cpu().numpy()
        return found
