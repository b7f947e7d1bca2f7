"""Everyone against everyone on texts: who beats whom, by how much, and is anyone beaten.

Only texts are compared, so entrants may be checkpoints, other models, or people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

import mpo_games as mg
from mpo_games.exact import Equilibrium
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array, Indices, Mask
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.judges.protocol import Judge, judged
from mpo_llm.measures.length_control import length_controlled

Entrants = Mapping[str, Sequence[Sequence[str]]]
"""By name, for each prompt, the responses: equally many everywhere."""

POPULATION, INTENSITY = 50, 10.0
"""Of alpha-rank: the size of the population, and the strength of selection in units of P."""


@dataclass(frozen=True, slots=True, eq=False)
class Tournament:
    """What a judge said of all pairs of responses to the same prompts. Intervals are for new
    prompts of the same kind."""

    names: tuple[str, ...]
    table: Array
    """`P(k-th response of i > l-th response of j | x)`, `(X, n, K, n, K)`."""
    lengths: Array
    """Characters of each response, `(X, n, K)`."""

    def win_rate(self, one: str, other: str, prompts: Mask | slice = slice(None)) -> Estimate:
        """How probably a response of `one` is preferred to one of `other`; some prompts only."""
        i, j = self.names.index(one), self.names.index(other)
        each = self.table[prompts, i, :, j].mean(axis=(1, 2))
        return clustered(each, np.arange(len(each)))

    def length_controlled(self, one: str, other: str) -> Estimate:
        """The win rate there would be at equal lengths, see `length_control`."""
        i, j = self.names.index(one), self.names.index(other)
        longer = self.lengths[:, i, :, None] - self.lengths[:, j, None, :]
        of = np.broadcast_to(np.arange(len(longer))[:, None, None], longer.shape)
        return length_controlled(self.table[:, i, :, j].ravel(), longer.ravel(), of.ravel())

    def length(self, name: str) -> Estimate:
        """Of the responses, in characters."""
        each = self.lengths[:, self.names.index(name)].mean(axis=1)
        return clustered(each, np.arange(len(each)))

    def matrix(self, prompts: Indices | slice = slice(None)) -> Array:
        """The win rates of all against all, `(n, n)`."""
        return np.asarray(self.table[prompts].mean(axis=(0, 2, 4)))

    def equilibrium(self) -> Equilibrium[TabularPolicy]:
        """The Nash equilibrium of choosing an entrant: the pool that no entrant beats."""
        return mg.exact.nash(mg.PreferenceGame(self.matrix()))

    def exploitability(self, name: str) -> Estimate:
        """How much the best of the entrants beats this one, `max_j P(j > i) - 1/2`.

        Who is best is decided on one half of the prompts and measured on the other, so this is a
        lower bound in the mean; at 0 this one model needs no pool. `ValueError` for one prompt.
        """
        i, prompts = self.names.index(name), len(self.table)
        if prompts < 2:
            raise ValueError("Exploitability needs at least 2 prompts.")
        gains = 0.5 - self.table[:, i].mean(axis=(1, 3))
        each = np.zeros(prompts)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            other = np.ones(prompts, dtype=bool)
            other[half] = False
            best = gains[other].mean(axis=0).argmax()
            each[half] = gains[half, best]
        return clustered(each, np.arange(prompts))

    def ranking(self) -> dict[str, float]:
        """Alpha-rank, the best first: see `alpha_rank`."""
        mass = alpha_rank(self.matrix())
        order = np.argsort(-mass, kind="stable")
        return {self.names[i]: float(mass[i]) for i in order}


def meet(judge: Judge, prompts: Sequence[str], entrants: Entrants) -> Tournament:
    """Judge every pair of texts once; equal texts tie unasked.

    `ValueError` if the judge fails, or unless all entrants have equally many responses to each
    prompt.
    """
    shapes = {tuple(map(len, each)) for each in entrants.values()}
    counts = {count for shape in shapes for count in shape}
    if len(shapes) != 1 or len(counts) != 1 or {len(shape) for shape in shapes} != {len(prompts)}:
        raise ValueError("All entrants must have equally many responses to each of the prompts.")
    (count,) = counts
    texts = [[text for each in entrants.values() for text in each[x]] for x in range(len(prompts))]
    asked: dict[tuple[int, str, str], int] = {}
    for x, row in enumerate(texts):
        for a, b in combinations(dict.fromkeys(row), 2):
            asked[x, a, b] = len(asked)
    said = judged(
        judge, [prompts[x] for x, _, _ in asked], [a for _, a, _ in asked], [b for *_, b in asked]
    )
    table = np.full((len(prompts), len(texts[0]), len(texts[0])), 0.5)
    for x, row in enumerate(texts):
        for i, a in enumerate(row):
            for j, b in enumerate(row):
                if (x, a, b) in asked:
                    table[x, i, j] = said[asked[x, a, b]]
                    table[x, j, i] = 1.0 - table[x, i, j]
    lengths = np.array([[len(text) for text in row] for row in texts], dtype=np.float64)
    n = len(entrants)
    return Tournament(
        tuple(entrants),
        table.reshape(len(prompts), n, count, n, count),
        lengths.reshape(len(prompts), n, count),
    )


def alpha_rank(matrix: Array) -> Array:
    r"""How long a population dwells with each entrant when mutants invade it, `(n,)`, summing to 1.

    A mutant j takes over a population of m entrants i with probability
    $(1 - e^{-u}) / (1 - e^{-mu})$, $u = \alpha \tfrac{m}{m-1} (P_{ji} - \tfrac12)$ (Omidshafiei et
    al. 2019). Unlike a mean win rate it does not change when a weak entrant is entered twice.
    """
    n, m = len(matrix), POPULATION
    if n == 1:
        return np.ones(1)
    u = INTENSITY * m / (m - 1) * (matrix.T - 0.5)
    safe = np.where(u == 0.0, 1.0, u)
    takes_over = np.where(u == 0.0, 1.0 / m, np.expm1(-safe) / np.expm1(-m * safe))
    rates = takes_over / (n - 1)
    np.fill_diagonal(rates, 0.0)
    return _stationary(rates)


def _stationary(rates: Array) -> Array:
    """Of the chain that leaves i for j at `rates[i, j]`, by elimination without a subtraction
    (Grassmann, Taksar & Heyman 1985): small masses keep their digits."""
    q = rates.copy()
    for k in range(len(q) - 1, 0, -1):
        q[:k, k] /= q[k, :k].sum()
        q[:k, :k] += np.outer(q[:k, k], q[k, :k])
    mass = np.ones(len(q))
    for k in range(1, len(q)):
        mass[k] = mass[:k] @ q[:k, k]
    return np.asarray(mass / mass.sum())
