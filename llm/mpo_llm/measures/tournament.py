"""Tournaments: all entrants against all, on the same prompts.

Only texts are compared, so an entrant may be a checkpoint, another model, or a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, prod

import numpy as np

import mpo_games as mg
from mpo_games.exact import Equilibrium
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices, Mask
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.gap import Payoffs, estimated_gap
from mpo_llm.judges.protocol import Judge, judged
from mpo_llm.measures.averaging import Averaging, averaging, distinct
from mpo_llm.measures.length_control import length_controlled

Entrants = Mapping[str, Sequence[Sequence[str]]]
"""The responses of each entrant by its name: for each of X prompts, K texts."""

POPULATION, INTENSITY = 50, 10.0
"""Settings of alpha-rank: the size m of the population, and the strength of selection alpha, which
multiplies differences of P."""


@dataclass(frozen=True, slots=True, eq=False)
class Tournament:
    """A judge's verdicts on all pairs of responses to the same prompts.

    Standard errors are for new prompts of the same kind. Win rates are probabilities.
    """

    names: tuple[str, ...]
    """The names of the n entrants."""
    table: Array
    """`table[x, i, k, j, l]`: the probability that response k of entrant i to prompt x is preferred
    to response l of entrant j, `(X, n, K, n, K)`."""
    lengths: Array
    """The length of each response in characters, `(X, n, K)`."""

    def win_rate(self, one: str, other: str, prompts: Mask | slice = slice(None)) -> Estimate:
        """The probability that a response of `one` is preferred to a response of `other`.

        `prompts`, a mask `(X,)` or a slice, selects some of the prompts.
        """
        i, j = self.names.index(one), self.names.index(other)
        each = self.table[prompts, i, :, j].mean(axis=(1, 2))
        return clustered(each, np.arange(len(each)), (0.0, 1.0))

    def length_controlled(self, one: str, other: str) -> Estimate:
        """The win rate of `one` over `other` at equal lengths, see `length_control`."""
        i, j = self.names.index(one), self.names.index(other)
        longer = self.lengths[:, i, :, None] - self.lengths[:, j, None, :]
        prompt_of = np.broadcast_to(np.arange(len(longer))[:, None, None], longer.shape)
        return length_controlled(self.table[:, i, :, j].ravel(), longer.ravel(), prompt_of.ravel())

    def length(self, name: str) -> Estimate:
        """The mean length of an entrant's responses, in characters."""
        each = self.lengths[:, self.names.index(name)].mean(axis=1)
        return clustered(each, np.arange(len(each)), (0.0, inf))

    def matrix(self, prompts: Indices | slice = slice(None)) -> Array:
        """The win rates of all entrants (rows) against all (columns), `(n, n)`."""
        return np.asarray(self.table[prompts].mean(axis=(0, 2, 4)))

    def equilibrium(self) -> Equilibrium[TabularPolicy]:
        """The Nash equilibrium of the game in which each player chooses an entrant.

        It is the mixture of entrants that no entrant beats.
        """
        return mg.exact.nash(mg.PreferenceGame(self.matrix()))

    def exploitability(self, name: str) -> Estimate:
        """By how much the best rival beats this entrant: `max_j P(j > i) - 1/2`, in [0, 1/2].

        The best rival is chosen on one half of the prompts and measured on the other half, so the
        mean of this estimate is a lower bound. It is negative where the rival that won on one half
        loses on the other: then no rival is shown to win. An entrant whose value is 0 needs no pool
        of others beside it. `ValueError` for fewer than 2 prompts.
        """
        i, prompts = self.names.index(name), len(self.table)
        if prompts < 2:
            raise ValueError(f"Exploitability needs at least 2 prompts, got {prompts}.")
        gains = 0.5 - self.table[:, i].mean(axis=(1, 3))
        each = np.zeros(prompts)
        # Measured on the prompts that chose it, the maximum over rivals would be biased upwards.
        for half in (slice(0, None, 2), slice(1, None, 2)):
            other = np.ones(prompts, dtype=bool)
            other[half] = False
            best = gains[other].mean(axis=0).argmax()
            each[half] = gains[half, best]
        return clustered(each, np.arange(prompts), (-0.5, 0.5))

    def gap(self, name: str, rng: np.random.Generator) -> Estimate | None:
        """The estimated duality gap of an entrant, see `estimated_gap`.

        The responses of all entrants are rivals; those of others were drawn apart from its own. It
        has the unit of `duality_gap`, so an exploitability of .1 is a gap of .2. None for fewer
        than 4 responses to a prompt, or if all comparisons are ties.
        """
        i, count = self.names.index(name), self.table.shape[2]
        draws = np.ones(count, dtype=np.int64)
        against = self.table[:, :, :, i] - 0.5
        others = np.delete(against, i, axis=1).reshape(len(against), -1, count)
        tables = zip(against[:, i], others, strict=True)
        return estimated_gap((Payoffs(own, draws, other) for own, other in tables), rng)

    def averaging(self, entrants: Entrants) -> Averaging:
        """What a mean of the judge's answers loses on the responses of all entrants to a prompt.

        `entrants` holds their texts, by which equal responses are one.
        """
        whole = self.table.reshape(len(self.table), prod(self.table.shape[1:3]), -1)
        rows = zip(*(entrants[name] for name in self.names), strict=True)
        return averaging(
            distinct(table, [text for texts in row for text in texts])
            for table, row in zip(whole, rows, strict=True)
        )

    def ranking(self) -> dict[str, float]:
        """The mass of each entrant in alpha-rank, the largest first; see `alpha_rank`."""
        mass = alpha_rank(self.matrix())
        order = np.argsort(-mass, kind="stable")
        return {self.names[i]: float(mass[i]) for i in order}


def meet(judge: Judge, prompts: Sequence[str], entrants: Entrants) -> Tournament:
    """Judge all pairs of responses to the same prompt.

    The judge is asked about each pair of distinct texts once, in one order. Equal texts tie without
    being judged. `ValueError` if the judge fails, or if the numbers of responses differ between
    entrants or prompts.
    """
    shapes = {tuple(map(len, each)) for each in entrants.values()}
    counts = {count for shape in shapes for count in shape}
    if len(shapes) != 1 or len(counts) != 1 or {len(shape) for shape in shapes} != {len(prompts)}:
        raise ValueError("All entrants must have equally many responses to each of the prompts.")
    (count,) = counts
    texts = [[text for each in entrants.values() for text in each[x]] for x in range(len(prompts))]
    asked: dict[tuple[int, str, str], int] = {}
    # In one order only: the other is 1 - P. Wrap a judge that favours a place in `OrderDebiased`.
    for x, row in enumerate(texts):
        for a, b in combinations(dict.fromkeys(row), 2):
            asked[x, a, b] = len(asked)
    answers = judged(
        judge, [prompts[x] for x, _, _ in asked], [a for _, a, _ in asked], [b for *_, b in asked]
    )
    table = np.full((len(prompts), len(texts[0]), len(texts[0])), 0.5)
    for x, row in enumerate(texts):
        for i, a in enumerate(row):
            for j, b in enumerate(row):
                if (x, a, b) in asked:
                    table[x, i, j] = answers[asked[x, a, b]]
                    table[x, j, i] = 1.0 - table[x, i, j]
    lengths = np.array([[len(text) for text in row] for row in texts], dtype=np.float64)
    n = len(entrants)
    return Tournament(
        tuple(entrants),
        table.reshape(len(prompts), n, count, n, count),
        lengths.reshape(len(prompts), n, count),
    )


def alpha_rank(matrix: Array) -> Array:
    r"""The mass of each entrant in alpha-rank, `(n,)`, which sums to 1 (Omidshafiei et al. 2019).

    `matrix` holds the win rates `(n, n)`. A population of m copies of one entrant is invaded by
    single mutants. A mutant j takes over a population of entrant i with probability
    $(1 - e^{-u}) / (1 - e^{-mu})$, where $u = \alpha \tfrac{m}{m-1} (P_{ji} - \tfrac12)$. The mass
    of an entrant is the share of time for which it is the population. A mean win rate changes when
    a weak entrant is entered twice; alpha-rank does not.
    """
    n, m = len(matrix), POPULATION
    if n == 1:
        return np.ones(1)
    u = INTENSITY * m / (m - 1) * (matrix.T - 0.5)
    safe = np.where(u == 0.0, 1.0, u)
    # Without an advantage the mutant is one of m equals. `expm1` keeps the digits of small u.
    takes_over = np.where(u == 0.0, 1.0 / m, np.expm1(-safe) / np.expm1(-m * safe))
    rates = takes_over / (n - 1)
    np.fill_diagonal(rates, 0.0)
    return _stationary(rates)


def _stationary(rates: Array) -> Array:
    """The stationary distribution `(n,)` of the chain that goes from i to j with `rates[i, j]`.

    By an elimination without subtractions (Grassmann, Taksar & Heyman 1985), in which small masses
    keep their digits.
    """
    q = rates.copy()
    for k in range(len(q) - 1, 0, -1):
        q[:k, k] /= q[k, :k].sum()
        q[:k, :k] += np.outer(q[:k, k], q[k, :k])
    mass = np.ones(len(q))
    for k in range(1, len(q)):
        mass[k] = mass[:k] @ q[:k, k]
    return np.asarray(mass / mass.sum())
