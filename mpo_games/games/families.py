"""Families of games: random games drawn by a generator, cycles of any size, perturbed trees.

`n` and `m` count actions. Each function raises `ValueError` for a size below 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import (
    distributions,
    require_count,
    require_generator,
    require_kind,
    require_share,
    require_weight,
)
from mpo_games.games.builders import from_scores
from mpo_games.games.matrix import MatrixGame
from mpo_games.games.preference import PreferenceGame
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.labelled import read, shown
from mpo_games.protocol import Array

MOST = 2**14
"""The most actions of a game that is made here: its table then has 2 GiB. It may be raised."""


def random_preferences(n: int, rng: np.random.Generator) -> PreferenceGame:
    """`P[i, j] ~ U[0, 1]` for `i > j`: the games of the EGPO study (Zhou et al. 2025, n = 10)."""
    _require(rng, n=n)
    lower = np.tril(rng.uniform(size=(n, n)), -1)
    return PreferenceGame(lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(n))


def random_zero_sum(n: int, m: int, rng: np.random.Generator) -> MatrixGame:
    """An `(n, m)` game with independent payoffs `U[-1, 1]`."""
    _require(rng, n=n, m=m)
    return MatrixGame(rng.uniform(-1.0, 1.0, size=(n, m)))


def random_antisymmetric(n: int, rng: np.random.Generator) -> MatrixGame:
    """A symmetric game: `A[i, j] ~ U[-1, 1]` for `i > j`, and `A' = -A`. Its value is 0."""
    _require(rng, n=n)
    lower = np.tril(rng.uniform(-1.0, 1.0, size=(n, n)), -1)
    return MatrixGame(lower - lower.T)


def badly_scaled(n: int, rng: np.random.Generator) -> MatrixGame:
    """A random game whose rows are multiplied by `10^U[-2, 0]`: no step size suits them all."""
    _require(rng, n=n)
    rows = 10.0 ** rng.uniform(-2.0, 0.0, size=(n, 1))
    return MatrixGame(rows * rng.uniform(-1.0, 1.0, size=(n, n)))


def low_rank_cyclic(
    n: int, rank: int, rng: np.random.Generator, transitivity: float = 1.0
) -> PreferenceGame:
    r"""Logits $s_i - s_j + u_i^\top v_j - v_i^\top u_j$: skill, and a cyclic part of low rank.

    `rank`, an even number, is the rank of the cyclic part. `transitivity` is the standard deviation
    of the skills `s`. `u` and `v` are normal and scaled so that the cyclic logits have variance 2.
    Balduzzi et al. 2018 (mElo) fit tournaments with this form.

    `ValueError` for a rank that is odd, below 2 or too large.
    """
    _require(rng, n=n)
    require_weight("transitivity", transitivity)
    _require_size("rank", rank, least=2)
    if rank % 2:
        raise ValueError(f"`rank` must be even and at least 2, got {rank}.")
    skill = transitivity * rng.normal(size=n)
    # u'v sums rank / 2 products, so each factor shrinks by the fourth root to give variance 1.
    u, v = rng.normal(size=(2, n, rank // 2)) / (rank / 2) ** 0.25
    logits = skill[:, None] - skill + u @ v.T - v @ u.T
    return PreferenceGame(0.5 + 0.5 * np.tanh(0.5 * logits))


def bradley_terry(n: int, rng: np.random.Generator) -> PreferenceGame:
    """Standard normal scores: a transitive game, the control for which a reward suffices."""
    _require(rng, n=n)
    return from_scores(rng.normal(size=n))


def condorcet_cycle(n: int, strength: float = 1.0) -> PreferenceGame:
    """`n` responses in a circle, each of which beats the next `(n - 1) // 2`.

    It beats them with probability `(1 + strength) / 2`. If `n` is even, opposite responses tie.
    Uniform play is an equilibrium, and the only one if `n` is odd and `strength` above 0. `n = 3`
    is rock-paper-scissors.

    `ValueError` unless `n >= 3` and `0 <= strength <= 1`.
    """
    _require_size("n", n, least=3)
    require_share("strength", strength)
    ahead = (np.arange(n) - np.arange(n)[:, None]) % n
    beats = (ahead > 0) & (ahead <= (n - 1) // 2)
    return PreferenceGame(0.5 + 0.5 * strength * (beats.astype(np.float64) - beats.T))


def planted_equilibrium(x: ArrayLike, y: ArrayLike, rng: np.random.Generator) -> MatrixGame:
    r"""A random game of value 0 in which `(x, y)` is an equilibrium.

    `x` and `y` are probability vectors, `(n,)` and `(m,)`. Normal payoffs `B` are projected so that
    every action of the supports earns 0, $A = B - B y 1^\top - 1 x^\top B + x^\top B y$. Every
    other action loses `U(0, 1]`. If the supports have equal size, the equilibrium is unique almost
    surely. `ValueError` for a vector that is not a distribution.
    """
    require_generator(rng)
    row, column = _distribution(x, "x"), _distribution(y, "y")
    b = rng.normal(size=(len(row), len(column)))
    a = b - (b @ column)[:, None] - row @ b + row @ b @ column
    # 1 - U[0, 1) is never 0: an action outside the support must lose strictly.
    lost = np.where(row > 0, 0.0, 1.0 - rng.uniform(size=len(row)))
    given = np.where(column > 0, 0.0, 1.0 - rng.uniform(size=len(column)))
    return MatrixGame(a - lost[:, None] + given)


def many_equilibria(n: int, k: int, rng: np.random.Generator) -> MatrixGame:
    r"""A game like M-Ne (Abe et al. 2023): value 0, and a continuum of equilibria.

    $$A = \begin{pmatrix} C & 0 \\ B & D \end{pmatrix}$$

    $C$ is a `planted_equilibrium` with random $x^*, y^*$ of full support on `n` actions. $B$
    satisfies $B y^* = 0$. $D$, over `k` actions, is `U[0, 1]` off its diagonal and `-k` on it. In
    equilibrium the row player plays $(x^*, 0)$. The column player may mix $y^*$ with any $z$ for
    which $D z \le 0$, such as uniform play.
    """
    _require(rng, n=n, k=k)
    x, y = rng.dirichlet(np.ones(n), size=2)
    cycle = planted_equilibrium(x, y, rng).payoff
    tempting = rng.uniform(-1.0, 1.0, size=(k, n))
    tempting -= (tempting @ y)[:, None]
    penalty = rng.uniform(size=(k, k))
    # Each row of D then sums to at most -1, so that uniform play z has D z < 0.
    np.fill_diagonal(penalty, -k)
    return MatrixGame(np.block([[cycle, np.zeros((n, k))], [tempting, penalty]]))


def perturbed(
    game: SequenceFormGame, rng: np.random.Generator, spread: float = 0.3
) -> SequenceFormGame:
    """A tree whose payoffs are each multiplied by their own `1 + spread N(0, 1)`.

    The payoffs are those of the sequence form. Leaves that only chance tells apart, since both
    players took the same actions, share one payoff and therefore one factor.
    """
    require_kind("game", game, SequenceFormGame, "a tree, like `build_tree(root)`")
    require_generator(rng)
    require_weight("spread", spread)
    return game.with_payoff(game.payoff * (1.0 + spread * rng.normal(size=game.payoff.shape)))


def _require(rng: np.random.Generator, **sizes: int) -> None:
    """`ValueError` unless `rng` is a generator, and a table of these `sizes` fits."""
    require_generator(rng)
    for name, size in sizes.items():
        _require_size(name, size)


def _require_size(name: str, size: int, least: int = 1) -> None:
    require_count(name, size, least)
    if not size <= MOST:
        raise ValueError(
            f"`{name}` must be at most {MOST}, got {shown(size)}: the table has its square of "
            "entries. If there is memory for it, raise `mpo_games.families.MOST`."
        )


def _distribution(p: ArrayLike, name: str) -> Array:
    found = read(p, name)
    if found.values.ndim != 1:
        raise ValueError(f"`{name}` must be a probability vector: non-negative, with sum 1.")
    probs = distributions(found.values, name, found.rounding)
    return np.asarray(probs / probs.sum())
