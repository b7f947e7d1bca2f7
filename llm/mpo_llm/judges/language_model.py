"""A language model as judge: it is asked which of two responses is better, A or B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array
from mpo_llm.judges.encoding import Tokenizer, cut, load_tokenizer
from mpo_llm.judges.protocol import JudgeError
from mpo_llm.networks.base import Network
from mpo_llm.networks.hugging_face import TransformersNetwork
from mpo_llm.networks.inputs import Inputs
from mpo_llm.networks.loading import checked, usable
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

    A question longer than the model's context is shortened: first the beginning of the prompt is
    cut, then the end of the longer response.

    Language models favour one of the two places: wrap this judge in `OrderDebiased`.

    `ValueError` if the tokenizer does not encode each letter as one token after the question, or if
    the question leaves no room for texts.
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

        model = checked(AutoModelForCausalLM, str(path)).to(usable(device))
        return cls(TransformersNetwork(model), load_tokenizer(path), **settings)

    def __post_init__(self) -> None:
        # A tokenizer without the letters is refused here, not at the first comparison of a run.
        self._letters()

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        """The preferences `(N,)` for each `a` over its `b`; NaN where the model did not answer."""
        letters, found = self._letters(), np.zeros(len(prompts))
        ids = [self._fitting(*comparison) for comparison in zip(prompts, a, b, strict=True)]
        # Questions of similar length need little padding.
        order = np.argsort([-len(row) for row in ids], kind="stable")
        for start in range(0, len(order), self.batch):
            which = order[start : start + self.batch]
            rows, lengths = (
                torch.from_numpy(part).to(self.network.device)
                for part in left_aligned([tuple(ids[i]) for i in which])
            )
            with torch.no_grad():
                last = self.network.states(Inputs.whole(rows, lengths))
                probs = self.network.logits(last).double().softmax(-1)[:, letters].cpu().numpy()
            # Tokens other than the two letters say nothing about the preference.
            named = probs.sum(axis=1)
            found[which] = np.where(named >= self.sense, probs[:, 0] / named, np.nan)
        return found

    def _fitting(self, prompt: str, a: str, b: str) -> list[int]:
        """The question about this comparison as token ids, short enough for the model."""
        asked, limit = self._ids(self._asked(prompt, a, b)), self.network.context
        if limit is None or len(asked) <= limit:
            return asked
        room = limit - len(self._ids(self._asked("", "", "")))
        x, y, z = (
            len(ids)
            for ids in self.tokenizer([prompt, a, b], add_special_tokens=False)["input_ids"]
        )
        while room > 0:
            # The prompt keeps a quarter, or what the responses leave.
            of_prompt = min(x, max(room // 4, room - y - z))
            rest = room - of_prompt
            of_response = max(rest // 2, rest - min(y, z))
            (prompt_end,) = cut(self.tokenizer, [prompt], max(1, of_prompt), end=False)
            asked = self._ids(
                self._asked(prompt_end, *cut(self.tokenizer, [a, b], max(1, of_response)))
            )
            if len(asked) <= limit:
                return asked
            # Where texts meet the question, tokens can divide otherwise.
            room -= len(asked) - limit
        raise JudgeError(f"The judge's question does not fit into its context of {limit} tokens.")

    def _ids(self, text: str) -> list[int]:
        """The tokens of a question, after `bos` if the model expects it and no template adds it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        # Not all special tokens: an `eos` after the question would stand in the answer's place.
        begins = bos is not None and self.tokenizer("A")["input_ids"][:1] == [bos]
        return [bos, *ids] if begins and self.tokenizer.chat_template is None else ids

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
        # Right after a question, because at the start of a text it can be another token (" A").
        question = self._asked("", "", "")
        before = self._ids(question)
        after = [self._ids(question + letter) for letter in ("A", "B")]
        if any(ids[:-1] != before for ids in after) or after[0] == after[1]:
            raise ValueError(
                "The judge's tokenizer must have A and B as tokens: take another model."
            )
        return [ids[-1] for ids in after]
