r"""The duality gap of a policy, estimated from judged responses alone.

A policy's gap is what a best response would win against it, counted for both players: twice
$\max_y E_{y' \sim \text{policy}}[P(y \succ y') - \tfrac{1}{2}]$, at most 1. Where responses cannot
be listed, the best response is sought among those that were drawn. The largest of several noisy
means is too large, so each prompt's draws of the policy are split into two halves: the rival with
the highest mean against one half is valued by its mean against the other half, which did not choose
it.

A rival must not be among the draws that value it. The draws of the choosing half and responses that
were drawn apart from these draws (by other policies, or in earlier steps) may be chosen. A draw of
the valuing half may not: if it is the best of its half, the others of its half are those that are
worse, and its mean against them is too high.

So the mean of the estimate is at most the gap, for any number of draws, and it is 0 for a policy
that plays an equilibrium and meets no other rivals. The estimate misses what no drawn response
wins: a policy that always says the same thing has no rivals of its own.

Shapes: M different responses of the policy to a prompt, R other rivals, n draws, S splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from mpo_games.protocol import Array, Indices, Mask
from mpo_llm.estimates import Estimate, clustered

LEAST = 4
"""The fewest draws of a prompt that are split: two in each half."""

ALL_SPLITS = 8
"""The most draws of which all splits are averaged."""

SPLITS = 32
"""The number of random splits of more draws; each is used in both directions."""

NEAR = 1e-9
"""Means within this are equal: their sums were rounded in another order."""


@dataclass(frozen=True, slots=True, eq=False)
class Payoffs:
    """What was judged at one prompt: rivals against a policy's own responses.

    `ValueError` for arrays of other shapes, payoffs beyond 1/2, and negative draws or weights.
    """

    own: Array
    """`P(y_i > y_j) - 1/2` for the policy's responses i and j, `(M, M)`."""
    draws: Indices
    """How often each of these responses was drawn, `(M,)`."""
    others: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """`P(y_r > y_j) - 1/2` for other rivals r, which were drawn apart from the policy's responses,
    `(R, M)`; none by default."""
    weights: Array | None = None
    """The weight of each response in the policy's mean, `(M,)`; `draws` if None."""

    def __post_init__(self) -> None:
        m = len(self.draws)
        if not self.others.size:
            object.__setattr__(self, "others", np.zeros((0, m)))
        shapes = self.own.shape, self.others.shape[1:], np.shape(self.draws)
        if shapes != ((m, m), (m,), (m,)):
            raise ValueError(
                "`own` must be (M, M), `others` (R, M) and `draws` (M,), got shapes "
                f"{self.own.shape}, {self.others.shape} and {np.shape(self.draws)}."
            )
        for name in ("own", "others"):
            # Also False for NaN.
            if not np.all(np.abs(getattr(self, name)) <= 0.5 + NEAR):
                raise ValueError(f"`{name}` must hold payoffs P - 1/2, between -1/2 and 1/2.")
        if self.weights is not None and self.weights.shape != (m,):
            raise ValueError(f"`weights` must be ({m},), got shape {self.weights.shape}.")
        for name, values in (("draws", self.draws), ("weights", self.weights)):
            if values is not None and not np.all((values >= 0) & np.isfinite(values)):
                raise ValueError(f"`{name}` must be finite and at least 0.")


def estimated_gap(prompts: Iterable[Payoffs], rng: np.random.Generator) -> Estimate | None:
    r"""The estimated duality gap of a policy, in the mean over prompts; see the module.

    It has the unit of `duality_gap`: payoffs $P - \tfrac{1}{2}$, counted for both players, between
    -1 and 1. Its mean over draws is at most the gap. At each prompt the estimate is averaged over
    all splits into halves, or over `SPLITS` of them, which `rng` draws, if there are more than
    `ALL_SPLITS` draws. So for few draws the order of the responses is without effect.

    The error is that for new prompts of the same kind (clustered by prompt), and for a single
    prompt that of its draws; for 2 to 7 prompts there is no interval. It is one of the mean of the
    estimate, so its upper end does not bound the gap.

    None if no prompt has `LEAST` draws, or if all payoffs are ties, as those of equal responses
    are. Prompts with fewer draws are left out.
    """
    used = [p for p in prompts if p.draws.sum() >= LEAST]
    # A policy that says one thing only would have the estimate 0, as if nothing could beat it.
    if not any(np.any(p.own) or np.any(p.others) for p in used):
        return None
    found = [_gain(p, rng) for p in used]
    # In self-play both players can gain as much, and the gap counts both.
    values = 2.0 * np.array([value for value, _ in found])
    if len(values) > 1:
        return clustered(values, np.arange(len(values)), (-1.0, 1.0))
    return Estimate(float(values[0]), 2.0 * found[0][1], bounds=(-1.0, 1.0))


def by_prompt(
    prompt_of: tuple[Indices, Indices],
    at: Indices,
    apart: Mask,
    draws: Indices,
    weights: Array,
    comparisons: tuple[Indices, Indices, Array],
) -> Iterator[Payoffs]:
    """The payoffs at each prompt, from comparisons of N responses of a policy with L that they met.

    `prompt_of` numbers the prompts of both, `(N,)` in ascending order and `(L,)`. `at` `(N,)` has
    the index of each of the policy's responses among those that are met; `apart` `(L,)` is true for
    those that were drawn apart from them. `draws` and `weights`, `(N,)`, are as in `Payoffs`.
    `comparisons` are `(i, j, P(i > j) - 1/2)` of response i and met response j, sorted by i;
    responses that were not compared tie.
    """
    own_of, met_of = prompt_of
    i, j, payoff = comparisons
    for x in np.unique(own_of):
        first, last = np.searchsorted(own_of, [x, x + 1])
        met = np.flatnonzero(met_of == x)
        these = slice(*np.searchsorted(i, [first, last]))
        table = np.zeros((last - first, len(met)))
        table[i[these] - first, np.searchsorted(met, j[these])] = payoff[these]
        mine = np.searchsorted(met, at[first:last])
        yield Payoffs(
            table[:, mine],
            draws[first:last],
            -table[:, apart[met]].T,
            weights[first:last],
        )


def _gain(at: Payoffs, rng: np.random.Generator) -> tuple[float, float]:
    """What the best rival gains at a prompt, and the standard error that the draws give it."""
    which = np.repeat(np.arange(len(at.draws)), at.draws)
    weights = at.draws if at.weights is None else at.weights
    # The draws as rows `(n, M)`: which response each of them is, and with its weight.
    rows = (which[:, None] == np.arange(len(at.draws))).astype(np.float64)
    weighted = rows * (weights / np.maximum(at.draws, 1))
    first = _halves(len(which), rng)
    second = 1.0 - first
    # Of the policy's own responses those of the choosing half may be chosen.
    allowed = np.ones((len(first), len(at.own) + len(at.others)), dtype=bool)
    allowed[:, : len(at.own)] = first @ rows > 0.0
    rivals = np.concatenate([at.own, at.others])
    scores = np.where(allowed, _shares(first @ weighted) @ rivals.T, -np.inf)
    best = scores >= scores.max(axis=1, keepdims=True) - NEAR
    # Of several best rivals the mean counts, whatever their order.
    met = _shares(best.astype(np.float64)) @ rivals
    total = (second @ weighted).sum(axis=1, keepdims=True)
    gains = np.sum(_shares(second @ weighted) * met, axis=1)
    # The variance of a half's weighted mean, with the correction of small samples.
    squares = np.divide(second @ weighted**2, total**2, out=0.0 * met, where=total > 0.0)
    size = second.sum(axis=1)
    variance = size / (size - 1.0) * np.sum(squares * (met - gains[:, None]) ** 2, axis=1)
    # Both halves are used for valuing; that many splits are averaged is not counted, because they
    # are splits of the same draws.
    return float(gains.mean()), float(np.sqrt(variance.mean() / 2.0))


def _halves(n: int, rng: np.random.Generator) -> Array:
    """Splits of n draws: 1 for those that choose and 0 for those that value, `(S, n)`."""
    half = n // 2
    if n <= ALL_SPLITS:
        rows = np.array(list(combinations(range(n), half)))
    else:
        rows = np.argsort(rng.random((SPLITS, n)), axis=1)[:, :half]
    found = np.zeros((len(rows), n))
    np.put_along_axis(found, rows, 1.0, axis=1)
    # Each half chooses once and values once.
    return np.concatenate([found, 1.0 - found])


def _shares(weights: Array) -> Array:
    """Rows of weights that add up to 1; rows of zeros stay as they are."""
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0.0))
