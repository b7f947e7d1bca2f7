"""Learn two judges from the same comparisons: a pairwise model and a Bradley-Terry model.

Only the pairwise model can represent cycles. Their difference on held-out comparisons tells whether
a score can explain the preferences. Shapes: N comparisons, D distinct responses among them, d the
width of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf
from typing import Self

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from mpo_games.protocol import Array, Indices
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.fitting import Fit as Fit
from mpo_llm.judges.pairs import Pair, clusters, split
from mpo_llm.judges.pairwise import Encoder, Head, PreferenceModel, log_odds

BINS = 10
"""Bins of equal width into which the calibration divides confidences from 1/2 to 1."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Held-out comparisons on which a model has about the same confidence."""

    confidence: float
    """Their mean confidence."""
    accuracy: float
    """Their accuracy: the same number if the model is calibrated."""
    count: int
    """The number of these comparisons."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a model is on held-out comparisons.

    Its confidence in a comparison is the probability that it gives to the response it prefers.
    """

    accuracy: Estimate
    """The share of comparisons in which the model prefers the chosen response; a tie counts 1/2."""
    log_loss: Estimate
    """In nats a comparison. A model that knows nothing has ln 2 = .693."""
    calibration_error: float
    """The mean distance between confidence and accuracy over the bins, weighted by their counts."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Both models, and their quality on the same held-out comparisons."""

    pairwise: PreferenceModel
    bradley_terry: PreferenceModel
    pairwise_quality: Quality
    bradley_terry_quality: Quality
    ahead: Estimate
    """The accuracy of the pairwise model minus that of the Bradley-Terry model, comparison by
    comparison. If its interval lies above 0, no score explains these preferences."""


def fit_both(found: Sequence[Pair], encoder: Encoder, fit: Fit, seed: int = 0) -> Fitted:
    """Learn both models from the same comparisons, with the same encoder and settings.

    The Bradley-Terry model differs only in that it has no planes. The given encoder is not changed.
    `ValueError` for too few comparisons, or for `fit.planes` of 0.
    """
    if not fit.planes:
        raise ValueError("`planes` must be at least 1: without planes both models are the same.")
    cluster_of = clusters(found)
    rest, test = split(cluster_of, fit.held_out, np.random.default_rng(seed))
    data = _Comparisons.of(found, encoder, fixed=not fit.encoder_rate)
    models = [_learn(data, rest, cluster_of[rest], f, seed) for f in (fit, replace(fit, planes=0))]
    texts = [[getattr(found[i], side) for i in test] for side in ("prompt", "chosen", "rejected")]
    odds = [model.log_odds(*texts) for model in models]
    # A paired difference: noise that both models share cancels.
    ahead = clustered(_right(odds[0]) - _right(odds[1]), cluster_of[test], (-1.0, 1.0))
    first, second = (quality(each, cluster_of[test]) for each in odds)
    return Fitted(models[0], models[1], first, second, ahead)


def _learn(
    data: _Comparisons, rows: Indices, cluster_of: Indices, fit: Fit, seed: int
) -> PreferenceModel:
    """Learn a model from the comparisons `rows`, which belong to the clusters `cluster_of`.

    Some of the clusters are set aside; the epoch with the lowest log loss on them is kept.
    """
    # Random streams of their own, so that both models see the same split and the same batches.
    used, checks = (
        rows[i] for i in split(cluster_of, fit.held_out, np.random.default_rng([seed, 1]))
    )
    # The seed must not change the random state of the caller.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = Head(data.encoder.width, fit.planes).to(data.encoder.model.device)
    groups = [{"params": list(head.parameters()), "lr": fit.rate}]
    modules = nn.ModuleList([head])
    if fit.encoder_rate:
        # A copy, because the other model starts from the same encoder.
        data = replace(data, encoder=replace(data.encoder, model=deepcopy(data.encoder.model)))
        groups.append({"params": list(data.encoder.model.parameters()), "lr": fit.encoder_rate})
        modules.append(data.encoder.model)
    optimiser = torch.optim.AdamW(groups, weight_decay=fit.decay)
    # Copied, because `state_dict` refers to the weights that the next update changes.
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
    return PreferenceModel(data.encoder, head)


def quality(odds: Array, cluster_of: Indices) -> Quality:
    """The quality of a model, from its log-odds `(N,)` of chosen over rejected responses.

    `cluster_of`, `(N,)`, numbers the prompt of each comparison; it decides the standard errors.
    """
    right, confidence = _right(odds), expit(np.abs(odds))
    places = np.minimum((BINS * (2.0 * confidence - 1.0)).astype(int), BINS - 1)
    bins = tuple(
        Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (places == i for i in range(BINS))
        if inside.any()
    )
    error = sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(right)
    loss = np.logaddexp(0.0, -odds)
    accuracy = clustered(right, cluster_of, (0.0, 1.0))
    return Quality(accuracy, clustered(loss, cluster_of, (0.0, inf)), error, bins)


@dataclass(frozen=True, slots=True, eq=False)
class _Comparisons:
    """N comparisons of D distinct responses, and the encoder that embeds them."""

    texts: list[tuple[str, str]]
    """The D distinct pairs of a prompt and a response."""
    sides: Indices
    """Indices into `texts` of the chosen and the rejected response, `(N, 2)`."""
    encoder: Encoder
    known: Tensor | None
    """The embeddings `(D, d)` by an encoder that is not trained; None if it is trained."""

    @classmethod
    def of(cls, found: Sequence[Pair], encoder: Encoder, fixed: bool) -> Self:
        rows = [(p.prompt, text) for p in found for text in (p.chosen, p.rejected)]
        distinct = list(dict.fromkeys(rows))
        where = {row: i for i, row in enumerate(distinct)}
        known = None
        if fixed:
            with torch.no_grad():
                known = encoder.embed(*zip(*distinct, strict=True))
        return cls(distinct, np.reshape([where[row] for row in rows], (-1, 2)), encoder, known)

    def losses(self, head: Head, rows: Indices) -> Tensor:
        """The log loss of each comparison in `rows`, in nats, `(len(rows),)`; differentiable."""
        which, where = np.unique(self.sides[rows], return_inverse=True)
        if self.known is None:
            embeddings = self.encoder.embed(*zip(*(self.texts[i] for i in which), strict=True))
        else:
            embeddings = self.known[torch.from_numpy(which).to(self.known.device)]
        # Reshaped, because NumPy 1 returns a flat inverse.
        sides = torch.from_numpy(where.reshape(-1, 2).T).to(embeddings.device)
        chosen, rejected = head(embeddings)[sides]
        return nn.functional.softplus(-log_odds(chosen, rejected))


def _blocks(rows: Indices, size: int) -> Iterator[Indices]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _right(odds: Array) -> Array:
    """1 where the chosen response is preferred, 1/2 for a tie, 0 otherwise."""
    return 0.5 + 0.5 * np.sign(odds)
