"""A language model as judge: it is asked which of two responses is better, A or B."""

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
"""The question to the model. `rubric` changes its criterion; `question` replaces it by another text
with these four fields in braces."""


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModelJudge:
    """A judge that reads the next-token probabilities of a local causal language model.

    The preference for a is P(A) / (P(A) + P(B)), from the probabilities of the letters as the next
    token after the question. No text is sampled, so equal questions get equal answers. If both
    letters together have less than `sense` of the probability, the comparison has failed (NaN).

    Language models favour one of the two places: wrap this judge in `OrderDebiased`.

    `ValueError` if the tokenizer does not encode each letter as one token.
    """

    network: Network
    tokenizer: Tokenizer
    rubric: str = RUBRIC
    """The criterion, a sentence that the question begins with."""
    question: str = QUESTION
    """The whole question, with the fields `{rubric}`, `{prompt}`, `{a}` and `{b}`."""
    batch: int = 8
    """Questions in one forward pass."""
    sense: float = 0.01
    """The least probability of both letters together that counts as an answer."""

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", **settings: Any) -> Self:
        """Load the model and its tokenizer from a folder, or by name.

        `settings` are the remaining fields.
        """
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=False)
        return cls(TransformersNetwork(model.to(device)), load_tokenizer(path), **settings)

    def __post_init__(self) -> None:
        # A tokenizer without the letters is refused here, not at the first comparison of a run.
        self._letters()

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """The preferences `(N,)` for each `a` over its `b`; NaN where the model did not answer."""
        letters, found = self._letters(), np.zeros(len(prompts))
        texts = [self._asked(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        # Questions of similar length need little padding.
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
            # Tokens other than the two letters say nothing about the preference.
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
        """The token ids of A and B. `ValueError` unless each is a single token."""
        ids = [self.tokenizer(x, add_special_tokens=False)["input_ids"] for x in ("A", "B")]
        if [len(tokens) for tokens in ids] != [1, 1]:
            raise ValueError(
                "The judge's tokenizer must have A and B as tokens: take another model."
            )
        return [tokens[0] for tokens in ids]
