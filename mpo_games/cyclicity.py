"""How intransitive a preference game is, and what a reward model loses on it.

A Bradley-Terry reward can only express a ranking. Where preferences are cyclic, the response that
it ranks first loses to some other response. The equilibrium (the von Neumann winner) does not lose
to any.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from mpo_games import bradley_terry
from mpo_games.bradley_terry import RIDGE as RIDGE
from mpo_games.checks import finite
from mpo_games.games.preference import PreferenceGame
from mpo_games.labelled import Labels, read
from mpo_games.policies.tabular import TabularPolicy
from mpo_games.protocol import Array
from mpo_games.written import counted

TIE = 1e-12
"""Win rates this close to 1/2 are ties."""

LISTED = 20
"""The most contexts that a report prints one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class ContextReport:
    """One context of a preference game with `Y` responses."""

    cyclic_share: float
    """The share of triples of responses whose majorities form a cycle; 0 if there are fewer than
    three responses."""
    condorcet_winner: int | None
    """The response that a majority prefers to every other one, or None."""
    equilibrium: Array
    """The Nash equilibrium, probabilities `(Y,)`."""
    support: tuple[int, ...]
    """The responses that the equilibrium plays."""
    scores: Array
    """The Bradley-Terry scores that fit best, `(Y,)`: log-odds with mean 0."""
    misfit: float
    """`KL(data || fit)` of the win rates of a pair, in nats, mean over the pairs."""
    reward_winner: int
    """The response with the highest score."""
    borda_winner: int
    """The response with the highest mean win rate. It is `reward_winner`, except for ties, because
    at the best fit each response has the same mean win rate in the model as in the data."""
    equilibrium_gap: float
    """Duality gap of the equilibrium: its certificate."""
    reward_gap: float
    """Duality gap of always playing `reward_winner` (1 if some response always beats it)."""
    borda_gap: float
    """Duality gap of always playing `borda_winner`."""

    def __repr__(self) -> str:
        winner = f"Condorcet winner {self.condorcet_winner}"
        return (
            f"ContextReport: {counted(len(self.scores), 'response')}, "
            f"cyclic share {self.cyclic_share:.3g}, "
            f"{'no Condorcet winner' if self.condorcet_winner is None else winner}, "
            f"gap of the reward's winner {self.reward_gap:.3g}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class CyclicityReport:
    """The reports on a game's contexts. The properties are means over the contexts."""

    contexts: tuple[ContextReport, ...]
    responses: Labels = ()
    """The names of the responses, or nothing."""
    names: Labels = ()
    """The names of the contexts, or nothing."""

    @property
    def cyclic_share(self) -> float:
        """Share of cyclic triples."""
        return float(np.mean([c.cyclic_share for c in self.contexts]))

    @property
    def condorcet_share(self) -> float:
        """Share of the contexts that have a Condorcet winner."""
        return float(np.mean([c.condorcet_winner is not None for c in self.contexts]))

    @property
    def mixed_share(self) -> float:
        """Share of the contexts whose equilibrium plays more than one response."""
        return float(np.mean([len(c.support) > 1 for c in self.contexts]))

    @property
    def misfit(self) -> float:
        """Misfit of Bradley-Terry, in nats per pair."""
        return float(np.mean([c.misfit for c in self.contexts]))

    @property
    def equilibrium_gap(self) -> float:
        """Duality gap of the equilibrium: its certificate."""
        return float(np.mean([c.equilibrium_gap for c in self.contexts]))

    @property
    def reward_gap(self) -> float:
        """Duality gap of always playing the response with the highest Bradley-Terry score."""
        return float(np.mean([c.reward_gap for c in self.contexts]))

    @property
    def borda_gap(self) -> float:
        """Duality gap of always playing the Borda winner."""
        return float(np.mean([c.borda_gap for c in self.contexts]))

    def __repr__(self) -> str:
        return (
            f"CyclicityReport: {counted(len(self.contexts), 'context')}, cyclic share "
            f"{self.cyclic_share:.3g}, with a Condorcet winner {self.condorcet_share:.3g}, "
            f"gap of the reward's winner {self.reward_gap:.3g}"
        )

    def __str__(self) -> str:
        rows = [
            (
                str(self.names[x] if self.names else x),
                f"{c.cyclic_share:.1%}",
                self._called(c.condorcet_winner),
                str(len(c.support)),
                f"{c.misfit:.4f}",
                f"{c.equilibrium_gap:.1e}",
                f"{c.reward_gap:.4f}",
                f"{c.borda_gap:.4f}",
            )
            for x, c in enumerate(self.contexts[:LISTED])
        ]
        if len(self.contexts) > LISTED:
            left = f"{len(self.contexts) - LISTED} more"
            rows.append((left, *("...",) * 7))
        if len(rows) > 1:
            mean = (
                "mean",
                f"{self.cyclic_share:.1%}",
                f"{self.condorcet_share:.0%}",
                f"{np.mean([len(c.support) for c in self.contexts]):.1f}",
                f"{self.misfit:.4f}",
                f"{self.equilibrium_gap:.1e}",
                f"{self.reward_gap:.4f}",
                f"{self.borda_gap:.4f}",
            )
            rows.append(mean)
        table = [
            ("", "cyclic", "Condorcet", "NE", "misfit of", "gap", "gap of", "gap of"),
            ("context", "triples", "winner", "support", "BT, nats", "of NE", "BT best", "Borda"),
            *rows,
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in table
        )

    def _called(self, response: int | None) -> str:
        if response is None:
            return "none"
        return str(self.responses[response] if self.responses else response)


def report(game: PreferenceGame) -> CyclicityReport:
    """Cycles, Condorcet winner, equilibrium, and the loss of reward maximisation, per context.

    Raises `ValueError` for a game that is not a `PreferenceGame`, and for a batch of games (report
    on them one by one).
    """
    if not isinstance(game, PreferenceGame):
        raise ValueError(f"`game` must be a PreferenceGame, got {type(game).__name__}.")
    if game.preferences.ndim != 3:
        raise ValueError("`game` is a batch of games: pass them to `report` one by one.")
    # A game for each context, because the gaps and values of a game are means over its contexts.
    contexts = tuple(_context(PreferenceGame(table)) for table in game.preferences)
    return CyclicityReport(contexts, game.responses, game.contexts)


def cyclic_share(preferences: ArrayLike) -> float:
    """The share of the triples of `preferences`, `(Y, Y)`, whose strict majorities form a cycle.

    Raises `ValueError` for what is no square table of finite numbers.
    """
    # Estimates of preferences are welcome: their two orders need not sum to 1.
    table = finite(read(preferences, "preferences").squared("preferences"), "preferences")
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"`preferences` must be square, (Y, Y), got shape {table.shape}.")
    return _cyclic_share(table)


def _cyclic_share(preferences: Array) -> float:
    # With a margin, so that a tie which rounding has tilted closes no cycle.
    beats = (preferences > 0.5 + TIE).astype(np.float64)
    triples = comb(len(beats), 3)
    # Divided by 3, because the sum counts a cycle once from each of its responses.
    return float(np.sum((beats @ beats) * beats.T) / 3.0 / triples) if triples else 0.0


def fit_bradley_terry(preferences: ArrayLike) -> Array:
    r"""The scores of mean 0 whose $\sigma(s_i - s_j)$ is nearest to `preferences`, `(Y, Y)`, in KL.

    Returns log-odds, `(Y,)`, in the order of the rows. This is the maximum-likelihood fit to
    equally many comparisons of every pair. The penalty `RIDGE / 2 |s|^2` keeps the score of a
    response that always wins finite. The problem is convex and smooth; a trust-region Newton method
    solves it. Raises `ValueError` for what is no table of preferences, and `RuntimeError` if the
    fit fails.
    """
    return bradley_terry.fit(_table(preferences))


def _table(preferences: ArrayLike) -> Array:
    """One table of preferences, with its columns in the order of its rows."""
    game = PreferenceGame(preferences)
    if game.preferences.shape[:-2] != (1,):
        raise ValueError(
            "`preferences` must be the table (Y, Y) of one context, "
            f"got shape {game.preferences.shape}."
        )
    return np.asarray(game.preferences[0])


def _context(game: PreferenceGame) -> ContextReport:
    from scipy.special import expit, rel_entr

    from mpo_games import exact

    p = game.preferences[0]
    n = len(p)
    nash = exact.nash(game)
    scores = bradley_terry.fit(p)
    model = expit(scores[:, None] - scores)
    beaten = (p > 0.5 + TIE).sum(axis=1)
    # The diagonal adds 1/2 to the sum of every response, which does not change their order.
    reward, borda = int(np.argmax(scores)), int(np.argmax(p.sum(axis=1)))
    # `misfit` sums over ordered pairs: the two orders are the two terms of a Bernoulli KL. With a
    # single response there is no pair to divide by.
    return ContextReport(
        cyclic_share=_cyclic_share(p),
        condorcet_winner=int(np.argmax(beaten)) if beaten.max() == n - 1 else None,
        equilibrium=nash.policy.probs[0],
        support=tuple(int(i) for i in np.flatnonzero(nash.support[0])),
        scores=scores,
        misfit=float(rel_entr(p, model).sum() / max(comb(n, 2), 1)),
        reward_winner=reward,
        borda_winner=borda,
        equilibrium_gap=nash.gap,
        reward_gap=float(game.duality_gap(_always(game, reward))),
        borda_gap=float(game.duality_gap(_always(game, borda))),
    )


def _always(game: PreferenceGame, response: int) -> TabularPolicy:
    return game.policy(np.eye(game.preferences.shape[-1])[response])
