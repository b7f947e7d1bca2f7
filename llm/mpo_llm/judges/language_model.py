"""A language model as judge: which of two responses does it name, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import Tokenizer, load_tokenizer
from mpo_llm.networks.base import Network
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.inputs import Inputs
from mpo_llm.responses import left_aligned

RUBRIC = "Which response is more helpful, correct and harmless?"

QUESTION = """{rubric}

Prompt:
{prompt}

Response A:
{a}

Response B:
{b}

Answer with the letter of the better response, A or B."""
"""What is asked; a rubric of one's own goes into `rubric`, or a whole question of this form."""


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModelJudge:
    """A local causal language model asked for a letter: P(A) of its next token, A or B.

    No text is sampled, so its answer has no noise. Where it gives both letters together less than
    `sense` of the probability it did not answer, and the comparison has failed (NaN). It has a
    favourite position: put it into `OrderDebiased`.
    """

    network: Network
    tokenizer: Tokenizer
    rubric: str = RUBRIC
    question: str = QUESTION
    batch: int = 8
    sense: float = 0.01

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """The judge that a model folder or name makes."""
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=False)
        return cls(TransformersNetwork(model.to(device)), load_tokenizer(path), **settings)

    def __post_init__(self) -> None:
        self._letters()

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        letters, found = self._letters(), np.zeros(len(prompts))
        texts = [self._asked(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        order = np.argsort([-len(row) for row in ids], kind="stable")
        for start in range(0, len(order), self.batch):
            which = order[start : start + self.batch]
            rows, lengths = (
                torch.from_numpy(part).to(self.network.device)
                for part in left_aligned([ids[i] for i in which])
            )
            with torch.no_grad():
                last = self.network.states(Inputs.whole(rows, lengths))
                probs = self.network.logits(last).double().softmax(-1)[:, letters].cpu().numpy()
            named = probs.sum(axis=1)
            found[which] = np.where(named >= self.sense, probs[:, 0] / named, np.nan)
        return found

    def _asked(self, prompt: str, a: str, b: str) -> str:
        question = self.question.format(rubric=self.rubric, prompt=prompt, a=a, b=b)
        if self.tokenizer.chat_template is None:
            return f"{question}\n"
        asked: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return asked

    def _letters(self) -> list[int]:
        """The ids of A and B, each of one token."""
        ids = [self.tokenizer(x, add_special_tokens=False)["input_ids"] for x in ("A", "B")]
        if [len(tokens) for tokens in ids] != [1, 1]:
            raise ValueError("The judge's tokenizer must have A and B as tokens.")
        return [tokens[0] for tokens in ids]
