"""Judges by name, for `judge.factory` of a configuration: `mpo_llm.judges:everyday` and so on.

Each factory returns a judge that remembers what it was asked and is patient with failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mpo_llm.judges import criteria, votes
from mpo_llm.judges.classifier import RewardModel
from mpo_llm.judges.language_model import RUBRIC, LanguageModelJudge
from mpo_llm.judges.pairwise import PreferenceModel
from mpo_llm.judges.protocol import Judge
from mpo_llm.judges.scores import BradleyTerry, Score
from mpo_llm.judges.wrappers import Cached, OrderDebiased, Retried
from mpo_llm.networks import loading as models

MEANS, SPREADS = (0.51, -270.0, 0.485), (0.44, 66.0, 0.19)
"""Means and spreads of positivity, brevity and relevance on SmolLM2-135M-Instruct's own answers of
at most 64 tokens to 24 everyday prompts; of 96 answers 38, 27 and 31 are best at each."""


def everyday(vote: Literal["majority", "mean"] = "majority", device: str | None = None) -> Judge:
    """The offline default: positivity, brevity and relevance to the prompt, one vote each.

    A hard `majority` of them is cyclic; so is their `mean`, the share of the votes, which is the
    same majority less sure of itself.
    """
    rules = {"majority": votes.majority, "mean": votes.mean}
    if vote not in rules:
        raise ValueError(f"`vote` must be majority or mean, got {vote!r}.")
    return patient(criteria.everyday(rules[vote], _device(device)))


def second_opinion() -> Judge:
    """The same three aims by other instruments, hard majority: to judge what `everyday` trained."""
    return patient(criteria.second_opinion())


def rock_paper_scissors(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> Judge:
    """Which of the three everyday criteria a response is best at, in units of `spreads` from
    `means`: each beats the one before it.

    Every equilibrium has shares of 1/3.
    """
    return patient(criteria.RockPaperScissors(standardised(device, means, spreads)))


def mean_score(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> Judge:
    """The mean of the everyday criteria in standard units, as a Bradley-Terry model: what a single
    reward makes of them. Transitive."""
    return patient(BradleyTerry(standardised(device, means, spreads)))


def reward_model(
    path: str, device: str | None = None, scale: float = 1.0, **settings: Any
) -> Judge:
    """A sequence classifier of transformers with one output, as a Bradley-Terry model."""
    model = RewardModel.load(models.folder(path), device=_device(device), **settings)
    return patient(BradleyTerry(model, scale))


def score(path: str, device: str | None = None, **settings: Any) -> Score:
    """Not a judge but a score, for `mpo-llm evaluate --score`: one output of a sequence classifier,
    a reward or a cost."""
    return RewardModel.load(models.folder(path), device=_device(device), **settings)


def preference_model(path: str, device: str | None = None, batch: int = 32) -> Judge:
    """What `mpo-llm fit-preferences` has saved, pairwise or Bradley-Terry."""
    return patient(PreferenceModel.load(path, device=_device(device), batch=batch))


def language_model(
    path: str, rubric: str = RUBRIC, device: str | None = None, **settings: Any
) -> Judge:
    """A local language model asked, in both orders, which response is better by a rubric.

    `rubric` is a sentence, or a file that holds it.
    """
    if rubric.endswith((".txt", ".md")):
        rubric = Path(rubric).read_text(encoding="utf-8").strip()
    judge = LanguageModelJudge.load(
        models.folder(path), device=_device(device), rubric=rubric, **settings
    )
    return patient(OrderDebiased(judge))


def patient(judge: Judge) -> Judge:
    """The judge with a memory, and patience with failures."""
    return Retried(Cached(judge))


def standardised(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> criteria.Standardised:
    """Positivity, brevity and relevance in standard units, and what a response is best at."""
    scores = (criteria.positivity, criteria.brevity, criteria.Relevance.minilm(_device(device)))
    return criteria.Standardised(scores, tuple(means), tuple(spreads))


def _device(name: str | None) -> str:
    return name or models.device().type
