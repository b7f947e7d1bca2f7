"""What is lost where a judge's answers are averaged into one score a response.

A usual recipe asks a judge about pairs, gives every response its mean win rate, and trains on this
number as a reward. It cannot express cycles: the response with the highest mean may lose to another
one. The equilibrium of the same answers does not lose to any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mpo_games import cyclicity
from mpo_games.games.preference import PreferenceGame
from mpo_games.protocol import Array
from mpo_llm.estimates import Estimate, clustered


@dataclass(frozen=True, slots=True)
class Averaging:
    r"""How cyclic a judge is on the responses that were drawn, and what a mean score loses on them.

    All numbers are means over the prompts, with standard errors for new prompts of the same kind.
    The exploitability of a policy is $\max_y P(y \succ \text{policy}) - \tfrac{1}{2}$, in [0, 1/2],
    where y is any of the responses that were drawn to the prompt: by how much the best of them
    beats the policy.
    """

    cyclic: Estimate
    """The share of the triples of responses whose majorities form a cycle, over the prompts with
    three different responses at least; NaN if there are none."""
    mixed: Estimate
    """The share of the prompts whose equilibrium plays more than one response."""
    averaged: Estimate
    """The exploitability of the response with the highest mean win rate (Borda), which a mean score
    prefers; of several with the same mean, of the one that was drawn first."""
    equilibrium: Estimate
    """The exploitability of the equilibrium: 0, up to rounding."""
    lost: Estimate
    """By how much the equilibrium is less exploitable than that response."""

    def __str__(self) -> str:
        unknown = np.isnan(self.cyclic.value)
        cycles = "unknown" if unknown else self.cyclic.with_interval(".1%")
        return "\n".join(
            [
                f"cyclic triples     {cycles}; the equilibrium mixes responses on "
                f"{self.mixed.value:.0%} of the prompts",
                f"averaging loses    {self.lost.with_interval('.3f')}: the response "
                f"with the best mean win rate is beaten with {0.5 + self.averaged.value:.3f},",
                f"                   the equilibrium with {0.5 + self.equilibrium.value:.3f}, each "
                "by the response that is best against it",
            ]
        )


def averaging(tables: Iterable[Array]) -> Averaging:
    """The report on the preferences of X prompts: a table `(Y, Y)` of the Y responses to each.

    The responses to a prompt must be different texts (`distinct`), and Y may differ.
    `ValueError` without prompts, and for what is no table of preferences.
    """
    found = [cyclicity.report(PreferenceGame(table)).contexts[0] for table in tables]
    if not found:
        raise ValueError("`tables` must hold the preferences of at least one prompt.")
    # A duality gap counts the gain of both players.
    averaged, equilibrium = (
        0.5 * np.array(gaps)
        for gaps in ([c.borda_gap for c in found], [c.equilibrium_gap for c in found])
    )
    return Averaging(
        _mean([c.cyclic_share for c in found if len(c.equilibrium) >= 3], 1.0),
        _mean([float(len(c.support) > 1) for c in found], 1.0),
        _mean(averaged, 0.5),
        _mean(equilibrium, 0.5),
        _mean(averaged - equilibrium, 0.5),
    )


def distinct(table: Array, texts: Sequence[str]) -> Array:
    """The table `(Y, Y)` of the different texts among K responses, from their table `(K, K)`.

    Equal texts tie, and are one response. `texts` are the K responses.
    """
    first = sorted({text: k for k, text in reversed(list(enumerate(texts)))}.values())
    return np.asarray(table[np.ix_(first, first)])


def _mean(values: Sequence[float] | Array, most: float) -> Estimate:
    """The mean over the prompts of values between 0 and `most`."""
    each = np.asarray(values, dtype=np.float64)
    if not len(each):
        return Estimate(np.nan, np.nan, 0, (0.0, most))
    return clustered(each, np.arange(len(each)), (0.0, most))
