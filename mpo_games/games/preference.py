"""Preference games: a policy plays itself for the judge's preference."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import distributions, finite, require_kind, slack
from mpo_games.games.shown import batch, html
from mpo_games.labelled import Labelled, Labels, names_of, read
from mpo_games.policies.best_responses import greedy, regularised_regret
from mpo_games.policies.means import arithmetic_mean
from mpo_games.policies.mirror_maps import SmoothedEntropy
from mpo_games.policies.tabular import (
    TabularPolicy,
    probabilities,
    require_policies,
)
from mpo_games.protocol import Array, Mask, Mixture
from mpo_games.written import counted


@dataclass(frozen=True, eq=False)
class PreferenceGame:
    """The symmetric constant-sum game of `P[x, y, y'] = P(y preferred to y' | context x)`.

    `preferences` is `(Y, Y)`, `(X, Y, Y)`, or `(..., X, Y, Y)` for a batch of games, with
    `P + P' = 1`. A policy is `(..., X, Y)`, a row per context, and metrics are means over the
    contexts. The Nash equilibrium is the von Neumann winner (maximal lottery): no other policy is
    preferred to it with probability above 1/2.

    A table with names (a DataFrame, a mapping of mappings) is read by them: its columns are brought
    into the order of its rows. `responses` and `contexts` are names for an array, or another order
    of the names that a table has. Numbers in float32 or coarser need to satisfy `P + P' = 1` up to
    the rounding of their type only. `ValueError` for what is no such table.

    >>> game = PreferenceGame([[0.5, 0.9], [0.1, 0.5]])
    >>> first, second = game.policy([1, 0]), game.policy([0, 1])
    >>> float(game.win_rate(first, second)), float(game.duality_gap(second))
    (0.9, 0.8)
    """

    preferences: Array
    """`P`, `(..., X, Y, Y)`, read-only."""
    payoff: Array
    """`P - 1/2`, antisymmetric, `(..., X, Y, Y)`, read-only."""

    responses: Labels
    """The names of the responses, `(Y,)`, or nothing."""
    contexts: Labels
    """The names of the contexts, `(X,)`, or nothing."""
    name: str = ""
    """What the game is called, or nothing."""

    def __init__(
        self,
        preferences: ArrayLike,
        responses: Iterable[Hashable] | None = None,
        contexts: Iterable[Hashable] | None = None,
        name: str = "",
    ) -> None:
        require_kind("name", name, str, "a text")
        found = read(preferences, "preferences").squared("preferences")
        table = finite(found, "preferences")
        if table.ndim < 2 or table.shape[-1] != table.shape[-2] or 0 in table.shape:
            raise ValueError(
                "`preferences` must be square, (Y, Y), (X, Y, Y) or (..., X, Y, Y), "
                f"got shape {table.shape}."
            )
        if responses is not None:
            names = names_of(responses, "responses", table.shape[-1])
            for axis in (-2, -1):
                found = found.aligned(axis, names, "preferences").called(axis, names)
        if found.values.ndim == 2:
            found = Labelled(found.values[None], (None, *found.labels), found.rounding)
        if contexts is not None:
            names = names_of(contexts, "contexts", found.values.shape[-3])
            found = found.aligned(-3, names, "preferences").called(-3, names)
        table = found.values
        # With a tolerance, since computed tables miss 1 by rounding errors.
        allowed = slack(found.rounding, 2)
        if not ((table >= -allowed) & (table <= 1.0 + allowed)).all():
            raise ValueError("`preferences` must lie in [0, 1]: they are probabilities.")
        off = np.abs(table + np.swapaxes(table, -1, -2) - 1.0)
        if not off.max() <= allowed:
            *lead, i, j = np.unravel_index(int(np.argmax(off)), off.shape)
            one, other = (float(table[(*lead, *at)]) for at in ((i, j), (j, i)))
            where = f"in context {int(lead[-1])} " if table.shape[-3] > 1 else ""
            raise ValueError(
                "`preferences` must satisfy P + P.T = 1 (so 1/2 on the diagonal): "
                f"{where}P[{i}, {j}] + P[{j}, {i}] is {one:g} + {other:g}."
            )
        # Made exactly antisymmetric, so that a policy wins exactly half of its games with itself.
        table = 0.5 + 0.5 * np.clip(table - np.swapaxes(table, -1, -2), -1.0, 1.0)
        table.setflags(write=False)
        object.__setattr__(self, "preferences", table)
        object.__setattr__(self, "name", name)
        payoff = table - 0.5
        payoff.setflags(write=False)
        object.__setattr__(self, "payoff", payoff)
        object.__setattr__(self, "responses", found.labels[-1] or ())
        object.__setattr__(self, "contexts", found.labels[-3] or ())

    @property
    def title(self) -> str:
        """The name of the game, or its size."""
        return self.name or f"a preference game of {counted(self.payoff.shape[-1], 'response')}"

    def __repr__(self) -> str:
        *many, contexts, responses, _ = self.payoff.shape
        where = f" at {contexts} contexts" if contexts > 1 else ""
        what = f"preferences among {counted(responses, 'response')}{where}"
        return f"{self.name or type(self).__name__}: {batch(many)}{what}"

    def _repr_html_(self) -> str:
        single = self.preferences.ndim == 3 and len(self.preferences) == 1
        table = self.preferences[0] if single else self.preferences
        return html(self, table, self.actions * 2)

    @property
    def actions(self) -> tuple[Labels, ...]:
        """The names of the actions as those of other games: one tuple for all rows, or nothing."""
        return (self.responses,) if self.responses else ()

    @property
    def players(self) -> int:
        """1: the same policy plays both seats."""
        return 1

    @property
    def legal(self) -> Mask:
        """Mask of the legal actions, `(..., X, Y)`: every response is legal."""
        return np.ones(self.payoff.shape[:-1], dtype=bool)

    @property
    def bound(self) -> Array:
        """`L = max |P - 1/2|` of each game, at most 1/2."""
        return np.asarray(np.abs(self.payoff).max(axis=(-3, -2, -1)))

    def initial_policy(self) -> TabularPolicy:
        """Uniform over responses."""
        return TabularPolicy.uniform(self.legal, actions=self.actions, rows=self.contexts)

    def policy(self, probs: ArrayLike) -> TabularPolicy:
        """The policy with the given probabilities, `(Y,)` for every context or `(..., X, Y)`.

        Probabilities with names (a Series, a mapping) are brought into the order of `responses`.
        `ValueError` for another shape, or for rows that are not distributions.
        """
        found = read(probs, "probs")
        shape = found.values.shape
        contexts, responses = self.payoff.shape[-3:-1]
        # Names first: that one is missing says more than a shape.
        if shape:
            found = found.aligned(-1, self.responses or tuple(range(responses)), "probs")
        if not shape or shape[-1] != responses or (len(shape) > 1 and shape[-2] != contexts):
            raise ValueError(
                f"`probs` must be ({responses},) or (..., {contexts}, {responses}), "
                f"got shape {shape}."
            )
        if len(shape) > 1:
            found = found.aligned(-2, self.contexts or None, "probs")
        p = distributions(found.values, "probs", found.rounding)
        p = np.tile(p, (contexts, 1)) if p.ndim == 1 else p
        return TabularPolicy.from_probs(p, actions=self.actions, rows=self.contexts)

    def feedback(
        self,
        policy: TabularPolicy,
        opponent: TabularPolicy | Mixture[TabularPolicy] | None = None,
        *,
        player: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """`q(y|x) = sum_y' P(y > y' | x) opponent(y'|x) - 1/2`, `(..., X, Y)`.

        The opponent is `policy` itself if None. `player` and `rng` are not used: one policy plays
        both seats, and the feedback is exact.
        """
        z = probabilities(policy if opponent is None else opponent)
        try:
            return np.asarray(np.matmul(self.payoff, z[..., None])[..., 0])
        except ValueError:
            raise ValueError(
                f"`policy` has shape {z.shape}, the policies of this game {self.payoff.shape[:-1]}."
            ) from None

    def duality_gap(self, policy: TabularPolicy) -> Array:
        """`2 max_y q(y|x)`, mean over contexts: what both seats gain by deviating (NashConv)."""
        # No gap is below 0: what is there is rounding.
        return np.asarray(np.maximum(self.gap(policy, self.feedback(policy)), 0.0))

    def gap(self, policy: TabularPolicy, q: Array) -> Array:
        """The duality gap of `policy`, given its own feedback `q`, without another evaluation."""
        # The policy's own value is 0 by symmetry, so nothing is subtracted from the maximum.
        return np.asarray(2.0 * q.max(axis=-1).mean(axis=-1))

    def smoothed(self, policy: TabularPolicy) -> tuple[TabularPolicy, float]:
        """The same play in the smoothed entropy, and the evaluations that this costs: 0."""
        require_policies(policy)
        return policy.within(SmoothedEntropy()), 0.0

    def regularised_gap(self, policy: TabularPolicy, magnet: TabularPolicy, alpha: float) -> Array:
        """Duality gap of the game in which each seat pays `alpha KL(own policy || magnet)`."""
        q = self.feedback(policy)
        return np.asarray(2.0 * regularised_regret(policy, q, magnet, alpha).mean(axis=-1))

    def best_response(self, policy: TabularPolicy) -> TabularPolicy:
        """The response with the largest win rate against `policy` in each context; of several, the
        first."""
        return greedy(policy, self.feedback(policy))

    def value(self, policy: TabularPolicy) -> Array:
        """The win rate of `policy` against itself, less 1/2: 0 up to rounding."""
        q = self.feedback(policy)
        return np.asarray(np.sum(policy.probs * q, axis=-1).mean(axis=-1))

    def win_rate(self, policy: TabularPolicy, opponent: TabularPolicy) -> Array:
        """`P(policy preferred to opponent)`, the mean over contexts, of each game."""
        q = self.feedback(policy, opponent)
        return np.asarray(0.5 + np.sum(policy.probs * q, axis=-1).mean(axis=-1))

    def divergence(self, policy: TabularPolicy, other: TabularPolicy) -> Array:
        """`KL(policy || other)` in nats, the mean over contexts, of each game."""
        require_policies(policy, other)
        return np.asarray(policy.kl(other).mean(axis=-1))

    def average(self, mixture: Mixture[TabularPolicy]) -> TabularPolicy:
        """The mean of the probabilities under the mixture's weights."""
        return arithmetic_mean(mixture)
