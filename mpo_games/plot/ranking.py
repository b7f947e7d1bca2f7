"""The picture of a ranking: who beats whom, and three ways to rank the models."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from mpo_games.plot.looks import BLUE, GREY, ORANGE, VERMILLION, literal, theme
from mpo_games.protocol import Array, Indices

MOST = 30
"""The most models that are drawn."""

COLOURS = "PuOr_r"
"""Orange above one half and purple below it: colour-blind readers can tell them apart."""


class Numbers(Protocol):
    """One number for each model, and its interval, if it has one."""

    @property
    def value(self) -> Array: ...

    @property
    def low(self) -> Array | None: ...

    @property
    def high(self) -> Array | None: ...


class Ranked(Protocol):
    """What is drawn of a ranking; the arrays are in the order of `models`."""

    @property
    def models(self) -> Sequence[Hashable]: ...

    @property
    def order(self) -> Indices: ...

    @property
    def equilibrium(self) -> Numbers: ...

    @property
    def elo(self) -> Numbers: ...

    @property
    def win_rate(self) -> Numbers: ...

    @property
    def game(self) -> Any: ...

    @property
    def unplayed(self) -> Sequence[tuple[Hashable, Hashable]]: ...


def ranking(ranked: Ranked) -> Any:
    """Draw the win rate of each pair of models, and three rankings of them; returns the figure.

    Rows are models, best first by the equilibrium, at most `MOST`. A bar across a dot is its
    interval. Pairs that never met are blank.
    """
    import matplotlib.pyplot as plt

    shown = ranked.order[:MOST]
    names = [_short(str(ranked.models[i])) for i in shown]
    n = len(names)
    place = {ranked.models[i]: at for at, i in enumerate(shown)}
    rates = np.array(ranked.game.preferences[0])[np.ix_(shown, shown)]
    np.fill_diagonal(rates, np.nan)
    for a, b in ranked.unplayed:
        if a in place and b in place:
            rates[place[a], place[b]] = rates[place[b], place[a]] = np.nan
    with theme():
        side = 0.62 * n + 1.3
        figure, axes = plt.subplots(
            1,
            4,
            figsize=(side + 0.085 * max(map(len, names)) + 7.0, max(side, 3.0)),
            width_ratios=[side / 2.1, 1.0, 1.0, 1.0],
        )
        _matrix(axes[0], rates, names)
        for ax, numbers, title, color in (
            (axes[1], ranked.equilibrium, "Equilibrium", VERMILLION),
            (axes[2], ranked.elo, "Bradley-Terry, Elo", BLUE),
            (axes[3], ranked.win_rate, "Win rate", ORANGE),
        ):
            _dots(ax, numbers, shown, color)
            ax.set_title(title)
            ax.set_yticks(range(n), [])
            ax.set_ylim(n - 0.5, -0.5)
        if n < len(ranked.models):
            axes[0].set_xlabel(f"the first {n} of {len(ranked.models)} models")
    return figure


def _matrix(ax: Any, rates: Array, names: Sequence[str]) -> None:
    """Win rates of the row against the column, as numbers on colours."""
    ax.imshow(rates, cmap=COLOURS, vmin=0.0, vmax=1.0, aspect="auto")
    ax.grid(False)
    small = 11.0 if len(names) <= 12 else 7.0
    for (i, j), rate in np.ndenumerate(rates):
        if rate == rate:
            dark = abs(rate - 0.5) > 0.3
            text = f"{100 * rate:.0f}"
            color = "white" if dark else "#222222"
            ax.text(j, i, text, ha="center", va="center", fontsize=small, color=color)
        elif i != j:
            ax.text(j, i, "\N{EN DASH}", ha="center", va="center", fontsize=small, color=GREY)
    ax.set_title("% won by the row against the column")
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _dots(ax: Any, numbers: Numbers, shown: Indices, color: str) -> None:
    """A dot for each model at its height, with its interval."""
    heights = np.arange(len(shown))
    if numbers.low is not None and numbers.high is not None:
        ax.hlines(heights, numbers.low[shown], numbers.high[shown], color=color, linewidth=2.2)
    ax.plot(numbers.value[shown], heights, "o", color=color, markersize=7)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)


def _short(name: str) -> str:
    return literal(name if len(name) <= 24 else name[:23] + "…")
