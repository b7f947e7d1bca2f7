"""Reward models and pair classifiers of transformers, as they were trained elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import Tokenizer, batches, load_tokenizer, written


@dataclass(frozen=True, slots=True, eq=False)
class RewardModel:
    """A `Score`: one output of a sequence classifier that reads a prompt and its response.

    `BradleyTerry(RewardModel.load(path))` is the judge.
    """

    model: Any
    """Of transformers' sequence classifiers, with as many labels as `label` needs."""
    tokenizer: Tokenizer
    label: int = 0
    """Which output is the score: 0, the only one, of a reward model."""
    batch: int = 16
    longest: int = 1024
    """Tokens of prompt and response together."""

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """The classifier of a model folder or name."""
        from transformers import AutoModelForSequenceClassification

        model = (
            AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=False)
            .to(device)
            .eval()
        )
        tokenizer = load_tokenizer(path)
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
        rows = written(self.tokenizer, prompts, responses, self.longest)
        found = np.zeros(len(prompts))
        with torch.no_grad():
            for which, batch in batches(self.tokenizer, rows, self.batch, self.model.device):
                logits = self.model(**batch).logits[:, self.label]
                found[which] = logits.double().cpu().numpy()
        return found
