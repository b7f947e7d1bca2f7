"""Read and draw a contest on trees (`poker_contest.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.lab.poker_contest import BY_NAME
from mpo_games import plot as draw
from mpo_games.baselines import AVERAGE

FLOOR = 1e-16
"""Exploitability below which only rounding is left."""

FIRST = 5
"""The evaluation from which lines are drawn."""

TITLES = {
    "Kuhn": "Kuhn poker",
    "Leduc": "Leduc poker",
    "liar's dice(4)": "Liar's dice, four sides",
    "dark hex": "Dark hex, 2 x 2",
    "goofspiel(4)": "Goofspiel, four cards",
}

EMPHASIS = ("AutoMPO", "MPO", "Optimistic MPO, weighted")
"""The broad lines: the paper's method, the same with payoff-scaled weights, the untuned one."""


def reached(stored: Mapping[str, Any], evaluations: float) -> float:
    """The exploitability at the last record up to `evaluations`."""
    last = np.searchsorted(stored["evaluations"], evaluations, side="right") - 1
    return float(stored["exploitability"][last])


def figure(found: Mapping[str, Any]) -> Any:
    """A row of two panels for each game: by evaluations, by seconds."""
    import matplotlib.pyplot as plt

    clocks = {"evaluations": "feedback evaluations", "seconds": "seconds on one core"}
    with draw.theme():
        fig, axes = plt.subplots(
            len(found), 2, figsize=(10.4, 4.4 * len(found)), sharex="col", sharey="row"
        )
        for (game, methods), row in zip(found.items(), axes, strict=True):
            for ax, (clock, name) in zip(row, clocks.items(), strict=True):
                for method, stored in methods.items():
                    _line(ax, method, stored, clock)
                ax.set_xscale("log")
                ax.set_yscale("log")
                ax.set_xlabel(name)
                ax.label_outer()
            row[0].set_ylabel("exploitability (NashConv / 2)")
            row[0].set_title(TITLES[game])
        # Labels stand where the limits of the axes put them, which are known after drawing.
        fig.canvas.draw()
        for methods, row in zip(found.values(), axes, strict=True):
            _labels(row[1], methods)
    return fig


def _line(ax: Any, method: str, stored: Mapping[str, Any], clock: str) -> None:
    shown = np.asarray(stored["evaluations"]) >= FIRST
    gap = np.maximum(np.asarray(stored["exploitability"])[shown], FLOOR)
    ax.plot(np.asarray(stored[clock])[shown], gap, markevery=6, **_look(method))


def _look(method: str) -> dict[str, Any]:
    """How a method is drawn: rings mark an average, `EMPHASIS` has broad lines."""
    look = draw.style(method) or draw.Style(draw.GREY)
    width = 2.8 if method in EMPHASIS else 1.4
    settings = {"color": look.color, "linestyle": look.dash, "linewidth": width}
    if BY_NAME[method].family == AVERAGE:
        settings |= {"marker": "o", "markersize": 5, "markerfacecolor": "white"}
    return settings


def _labels(ax: Any, methods: Mapping[str, Any]) -> None:
    """Each name beside the end of its line, with a sample of the line between."""
    ends = []
    for method, stored in methods.items():
        suffix = " (average)" if BY_NAME[method].family == AVERAGE else ""
        last = max(stored["exploitability"][-1], FLOOR)
        ends.append((method + suffix, last, _look(method)["color"]))
    draw.label_ends(ax, ends)
    for method, text in zip(methods, ax.texts, strict=True):
        x, y = text.get_position()
        # Colours repeat, so that a name needs its dash beside it.
        text.set_x(x + 0.12)
        sample = {"transform": ax.transAxes, "clip_on": False, "markevery": [1]}
        ax.plot([x, x + 0.05, x + 0.1], [y, y, y], **sample, **_look(method))
