"""Learn preferences from comparisons: a model with planes, and a Bradley-Terry one beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from mpo_games.protocol import Array, Indices
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.judges.pairs import Pair, clusters, split
from mpo_llm.judges.pairwise import Head, PreferenceModel, Reader, log_odds

BINS = 10
"""Of confidence, from 1/2 to 1, in the calibration."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a preference model is learned: the log loss by AdamW, the best epoch kept."""

    planes: int = 4
    """Planes of the cyclic part; 0 for a Bradley-Terry reward model."""
    epochs: int = 30
    rate: float = 1e-3
    """Learning rate of the head."""
    reader_rate: float = 0.0
    """Learning rate of the reader; 0 leaves it as it is, and each response is read only once."""
    decay: float = 0.01
    """Weight decay."""
    batch: int = 64
    """Comparisons in an update."""
    held_out: float = 0.1
    """The share of the comparisons, by whole prompts, that judge the result; as many more choose
    the epoch."""

    def __post_init__(self) -> None:
        if self.planes < 0 or self.epochs < 1 or self.batch < 1:
            raise ValueError("`epochs` and `batch` must be at least 1, `planes` at least 0.")
        if not 0.0 < self.held_out < 0.5:
            raise ValueError(f"`held_out` must lie between 0 and 1/2, got {self.held_out}.")
        if not (self.rate > 0.0 and self.reader_rate >= 0.0 and self.decay >= 0.0):
            raise ValueError("Learning rates and decay must not be negative, `rate` not 0.")


@dataclass(frozen=True, slots=True)
class Bin:
    """Held-out comparisons of about one confidence."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True)
class Quality:
    """A model on comparisons held out. Its confidence is the probability of whom it prefers."""

    accuracy: Estimate
    """The share of comparisons whose chosen response it prefers; ties are 1/2."""
    log_loss: Estimate
    """In nats a comparison: ln 2 = .693 knows nothing."""
    calibration_error: float
    """The mean distance of confidence and accuracy over the bins, weighted by their counts."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Both models, judged on the same held-out comparisons."""

    pairwise: PreferenceModel
    bradley_terry: PreferenceModel
    pairwise_quality: Quality
    bradley_terry_quality: Quality
    ahead: Estimate
    """The accuracy of the pairwise model less that of the other, comparison by comparison: where
    its interval is above 0, a score does not explain these preferences."""


def fit_both(found: Sequence[Pair], reader: Reader, fit: Fit, seed: int = 0) -> Fitted:
    """The two models of the same data, readers and settings, alike but for the planes.

    `ValueError` for too little data, or without planes.
    """
    if not fit.planes:
        raise ValueError("`planes` must be at least 1: without them both models are one.")
    of = clusters(found)
    rest, test = split(of, fit.held_out, np.random.default_rng(seed))
    data = _Comparisons.of(found, reader, fixed=not fit.reader_rate)
    models = [_learn(data, rest, of[rest], f, seed) for f in (fit, replace(fit, planes=0))]
    texts = [[getattr(found[i], side) for i in test] for side in ("prompt", "chosen", "rejected")]
    said = [model.log_odds(*texts) for model in models]
    ahead = clustered(_right(said[0]) - _right(said[1]), of[test])
    first, second = (quality(odds, of[test]) for odds in said)
    return Fitted(models[0], models[1], first, second, ahead)


def _learn(data: _Comparisons, rows: Indices, of: Indices, fit: Fit, seed: int) -> PreferenceModel:
    """A model of the comparisons `rows`, of clusters `of`; a part of them chooses the epoch."""
    used, checks = (rows[i] for i in split(of, fit.held_out, np.random.default_rng([seed, 1])))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = Head(data.reader.width, fit.planes).to(data.reader.model.device)
    groups = [{"params": list(head.parameters()), "lr": fit.rate}]
    modules = nn.ModuleList([head])
    if fit.reader_rate:
        data = replace(data, reader=replace(data.reader, model=deepcopy(data.reader.model)))
        groups.append({"params": list(data.reader.model.parameters()), "lr": fit.reader_rate})
        modules.append(data.reader.model)
    optimiser = torch.optim.AdamW(groups, weight_decay=fit.decay)
    best, kept = np.inf, deepcopy(modules.state_dict())
    rng = np.random.default_rng([seed, 2])
    for _ in range(fit.epochs):
        for batch in _blocks(rng.permutation(used), fit.batch):
            optimiser.zero_grad()
            data.losses(head, batch).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            each = torch.cat([data.losses(head, batch) for batch in _blocks(checks, fit.batch)])
        if float(each.mean()) < best:
            best, kept = float(each.mean()), deepcopy(modules.state_dict())
    modules.load_state_dict(kept)
    return PreferenceModel(data.reader, head)


def quality(odds: Array, of: Indices) -> Quality:
    """From the log-odds `(N,)` of the chosen responses over the rejected, and their prompts."""
    right, confidence = _right(odds), expit(np.abs(odds))
    places = np.minimum((BINS * (2.0 * confidence - 1.0)).astype(int), BINS - 1)
    bins = tuple(
        Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (places == i for i in range(BINS))
        if inside.any()
    )
    error = sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(right)
    loss = np.logaddexp(0.0, -odds)
    return Quality(clustered(right, of), clustered(loss, of), error, bins)


@dataclass(frozen=True, slots=True, eq=False)
class _Comparisons:
    """Comparisons of responses, and how these are read."""

    texts: list[tuple[str, str]]
    """Distinct prompts with their responses."""
    sides: Indices
    """Which of them was chosen and which rejected, `(N, 2)`."""
    reader: Reader
    known: Tensor | None
    """What a fixed reader makes of them, each read once; None where it learns."""

    @classmethod
    def of(cls, found: Sequence[Pair], reader: Reader, fixed: bool) -> Self:
        rows = [(p.prompt, text) for p in found for text in (p.chosen, p.rejected)]
        distinct = list(dict.fromkeys(rows))
        where = {row: i for i, row in enumerate(distinct)}
        known = None
        if fixed:
            with torch.no_grad():
                known = reader.read(*zip(*distinct, strict=True))
        return cls(distinct, np.reshape([where[row] for row in rows], (-1, 2)), reader, known)

    def losses(self, head: Head, rows: Indices) -> Tensor:
        """The log loss of some comparisons, differentiable."""
        which, where = np.unique(self.sides[rows], return_inverse=True)
        if self.known is None:
            readings = self.reader.read(*zip(*(self.texts[i] for i in which), strict=True))
        else:
            readings = self.known[torch.from_numpy(which).to(self.known.device)]
        chosen, rejected = head(readings)[torch.from_numpy(where.reshape(-1, 2).T)]
        return nn.functional.softplus(-log_odds(chosen, rejected))


def _blocks(rows: Indices, size: int) -> Iterator[Indices]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _right(odds: Array) -> Array:
    return 0.5 + 0.5 * np.sign(odds)
