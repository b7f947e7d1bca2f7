"""Two-player zero-sum games in normal form."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import LARGEST, distributions, finite, require_kind, require_player, too_large
from mpo_games.games.shifts import centred
from mpo_games.games.shown import batch, html
from mpo_games.kernels.tables import bilinear
from mpo_games.labelled import Labels, names_of, ordered, read, shown
from mpo_games.policies.best_responses import greedy, regularised_regret
from mpo_games.policies.means import arithmetic_mean
from mpo_games.policies.mirror_maps import SmoothedEntropy
from mpo_games.policies.tabular import (
    TabularPolicy,
    probabilities,
    require_policies,
)
from mpo_games.protocol import Array, Mask, Mixture

SIDES = ("row player", "column player")
"""The names of the rows of a policy."""


@dataclass(frozen=True, eq=False)
class MatrixGame:
    """The row player receives `x' A y`, the column player `-x' A y`.

    `payoff`, `A`, is `(n, m)`, or `(..., n, m)` for a batch of games that are solved at once. A
    policy is `(..., 2, max(n, m))`: the row player's row, then the column player's, padded with
    illegal actions.

    The names of a table (a DataFrame, a mapping of mappings) become those of the actions.
    `rows` and `columns` are names for an array, or another order of the names that a table has;
    `actions` is both of them at once.

    Payoffs are finite. Those above 1e306 in size are only for `exact.nash`: what plays such a game
    raises `ValueError`, since its sums would overflow.

    >>> game = MatrixGame([[0, -1, 3], [1, 0, -1], [-3, 1, 0]])
    >>> float(game.duality_gap(game.policy([0.2, 0.6, 0.2], [0.2, 0.6, 0.2]))) < 1e-12
    True
    >>> game.feedback(game.initial_policy())[0].round(3)
    array([ 0.667,  0.   , -0.667])
    """

    payoff: Array
    """The row player's payoffs, `(..., n, m)`, read-only."""
    _centred: Array = field(init=False, repr=False)
    _rows: tuple[int, ...] = field(init=False, repr=False)
    """The last axes of the policies that can be played; nothing if no policy can be."""

    actions: tuple[Labels, ...]
    """The names of the row player's actions and of the column player's, or nothing."""
    name: str = ""
    """What the game is called, or nothing."""

    def __init__(
        self,
        payoff: ArrayLike,
        actions: Sequence[Iterable[Hashable]] | None = None,
        *,
        rows: Iterable[Hashable] | None = None,
        columns: Iterable[Hashable] | None = None,
        name: str = "",
    ) -> None:
        require_kind("name", name, str, "a text")
        found = read(payoff, "payoff")
        finite(found, "payoff")
        if found.values.ndim < 2 or 0 in found.values.shape:
            raise ValueError(
                "`payoff` must be a matrix (n, m) or a batch (..., n, m), with no axis empty, "
                f"got shape {found.values.shape}."
            )
        sides: list[tuple[str, Any]] = [("rows", rows), ("columns", columns)]
        if actions is not None:
            if rows is not None or columns is not None:
                raise ValueError("Pass `actions`, or `rows` and `columns`, but not both.")
            both, _ = ordered(actions, "actions")
            if len(both) != 2:
                raise ValueError(
                    f"`actions` must be the names of the rows and of the columns, "
                    f"got {shown(actions)}."
                )
            sides = [("actions", side) for side in both]
        for axis, (argument, side) in zip((-2, -1), sides, strict=True):
            if side is not None:
                names = names_of(side, argument, found.values.shape[axis])
                found = found.aligned(axis, names, "payoff").called(axis, names)
        # A copy, so that the caller's array stays writable; the kernels want C order.
        matrix = np.array(found.values, order="C")
        matrix.setflags(write=False)
        object.__setattr__(self, "payoff", matrix)
        object.__setattr__(self, "name", name)
        sizes = matrix.shape[-2:]
        named = any(labels is not None for labels in found.labels[-2:])
        # A side without names is counted, if the other one has some.
        counted = (
            tuple(range(size)) if labels is None else labels
            for labels, size in zip(found.labels[-2:], sizes, strict=True)
        )
        object.__setattr__(self, "actions", tuple(counted) if named else ())
        object.__setattr__(self, "_centred", centred(matrix, 1.0))
        rows = (2, max(sizes)) if self.bound.max(initial=0.0) <= LARGEST else ()
        object.__setattr__(self, "_rows", rows)

    @property
    def title(self) -> str:
        """The name of the game, or its size."""
        n, m = self.payoff.shape[-2:]
        return self.name or f"a matrix game of {n} x {m} payoffs"

    def __repr__(self) -> str:
        n, m = self.payoff.shape[-2:]
        what = f"{n} x {m} payoffs from {self.payoff.min():.4g} to {self.payoff.max():.4g}"
        return f"{self.name or type(self).__name__}: {batch(self.payoff.shape[:-2])}{what}"

    def _repr_html_(self) -> str:
        return html(self, self.payoff, self.actions)

    @property
    def players(self) -> int:
        """2: the row player and the column player."""
        return 2

    @property
    def legal(self) -> Mask:
        """Mask of the legal actions, `(..., 2, max(n, m))`."""
        n, m = self.payoff.shape[-2:]
        mask = np.arange(max(n, m)) < np.array([[n], [m]])
        return np.broadcast_to(mask, (*self.payoff.shape[:-2], *mask.shape))

    @property
    def bound(self) -> Array:
        """`L = max |A|` of each game: the feedback is `L`-Lipschitz from l1 to l-infinity."""
        return np.asarray(np.abs(self.payoff).max(axis=(-2, -1)))

    def initial_policy(self) -> TabularPolicy:
        """Uniform play by both players."""
        return TabularPolicy.uniform(self.legal, actions=self.actions, rows=SIDES)

    def policy(self, row: ArrayLike, column: ArrayLike) -> TabularPolicy:
        """The policy with the given probabilities, `row` `(..., n)` and `column` `(..., m)`.

        Probabilities with names (a Series, a mapping) are brought into the order of `actions`.
        `ValueError` for another number of actions, or for rows that are not distributions.
        """
        width, padded = max(self.payoff.shape[-2:]), []
        given = zip(("row", "column"), (row, column), self.payoff.shape[-2:], strict=True)
        for i, (name, side, size) in enumerate(given):
            found = read(side, name)
            shape = found.values.shape
            # Names first: that one is missing says more than a shape.
            if shape:
                names = self.actions[i] if self.actions else tuple(range(size))
                found = found.aligned(-1, names, name)
            if not shape or shape[-1] != size:
                raise ValueError(f"`{name}` must have {size} actions, got shape {shape}.")
            p = distributions(found.values, name, found.rounding)
            padded.append(np.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, width - size)]))
        probs = np.stack(np.broadcast_arrays(*padded), axis=-2)
        legal = np.broadcast_to(self.legal, probs.shape)
        return TabularPolicy.from_probs(probs, legal, actions=self.actions, rows=SIDES)

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: TabularPolicy | Mixture[TabularPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """`q[0] = A y` and `q[1] = -A' x` in units of payoff, `(..., 2, max(n, m))`.

        `x` and `y` are the opponent's rows, or the policy's own if there is no opponent. With
        `player` the other player's row is 0. `rng` is not used: the feedback is exact.
        """
        return self._against(self.payoff, policy if opponent is None else opponent, player)

    def duality_gap(self, policy: TabularPolicy) -> Array:
        """`max_i (A y)_i - min_j (A' x)_j` (NashConv) of each game, in units of payoff."""
        gap = self.gap(policy, self._against(self._centred, policy))
        # No gap is below 0: what is there is rounding.
        return np.asarray(np.maximum(gap, 0.0))

    def gap(self, policy: TabularPolicy, q: Array) -> Array:
        """The duality gap of `policy`, given its own feedback `q`, without another evaluation."""
        n, m = self.payoff.shape[-2:]
        # Padded entries are 0 and might be the largest; a square game has none.
        if n != m:
            q = np.where(policy.legal, q, -np.inf)
        # The values of the two players cancel, so only those of the best responses are summed.
        return np.asarray(np.add.reduce(np.maximum.reduce(q, axis=-1), axis=-1))

    def smoothed(self, policy: TabularPolicy) -> tuple[TabularPolicy, float]:
        """The same play in the smoothed entropy, and the evaluations that this costs: 0."""
        require_policies(policy)
        return policy.within(SmoothedEntropy()), 0.0

    def regularised_gap(self, policy: TabularPolicy, magnet: TabularPolicy, alpha: float) -> Array:
        """Duality gap of the game `x' A y - alpha KL(x || magnet_x) + alpha KL(y || magnet_y)`."""
        q = self._against(self._centred, policy)
        return np.asarray(regularised_regret(policy, q, magnet, alpha).sum(axis=-1))

    def best_response(self, policy: TabularPolicy) -> TabularPolicy:
        """A pure best response of each player to `policy`; of several, the first."""
        return greedy(policy, self.feedback(policy))

    def value(self, policy: TabularPolicy) -> Array:
        """`x' A y`, the row player's expected payoff, of each game."""
        n, q = self.payoff.shape[-2], self.feedback(policy)
        return np.asarray(np.sum(policy.probs[..., 0, :n] * q[..., 0, :n], axis=-1))

    def _against(
        self,
        payoff: Array,
        opponent: TabularPolicy | Mixture[TabularPolicy],
        player: int | None = None,
    ) -> Array:
        """`feedback`, of the payoffs `payoff`."""
        z = probabilities(opponent)
        n, m = payoff.shape[-2:]
        # A policy of a larger game would be cut, and the kernel would read past the end of another.
        if z.shape[-2:] != self._rows:
            if not self._rows:
                raise ValueError(too_large("payoff", float(self.bound.max())))
            raise ValueError(
                f"`policy` has shape {z.shape}, the policies of this game (..., 2, {max(n, m)})."
            )
        x, y = z[..., 0, :n], z[..., 1, :m]
        # The kernel reads the matrix once for both players, but takes one game and one policy.
        if player is None and payoff.ndim == 2 and z.ndim == 2:
            return np.asarray(bilinear(payoff, x, y))
        require_player(player)
        batch = np.broadcast_shapes(payoff.shape[:-2], z.shape[:-2])
        q = np.zeros((*batch, *z.shape[-2:]))
        if player != 1:
            q[..., 0, :n] = np.matmul(payoff, y[..., None])[..., 0]
        if player != 0:
            q[..., 1, :m] = -np.matmul(x[..., None, :], payoff)[..., 0, :]
        return q

    def divergence(self, policy: TabularPolicy, other: TabularPolicy) -> Array:
        """`KL(x || x') + KL(y || y')` in nats, of each game."""
        require_policies(policy, other)
        return np.asarray(policy.kl(other).sum(axis=-1))

    def average(self, mixture: Mixture[TabularPolicy]) -> TabularPolicy:
        """The mean of the probabilities under the mixture's weights."""
        return arithmetic_mean(mixture)
