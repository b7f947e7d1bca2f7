"""How figures look: one colour and dash per algorithm, everywhere, and the theme around them.

The colours are those of Okabe and Ito (2008), four of Tol (2021), and a violet and a pink that are
far from all of these also for colour-blind readers. There are more algorithms than colours: two of
one colour differ in their dash, and rivals never by dashes against dashes with dots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Dash = str | tuple[int, tuple[float, ...]]
"""A line style of matplotlib: a name, or an offset with the lengths of lines and gaps in points."""

BLACK, ORANGE, SKY, GREEN = "#222222", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"
WINE, INDIGO, OLIVE, SAND = "#882255", "#332288", "#999933", "#DDCC77"
VIOLET, PINK = "#7800F0", "#F0A8C0"
CRIMSON, BROWN, MAGENTA = "#E6194B", "#6B3E00", "#FF00FF"
"""Colours of solvers that are not the library's: those above belong to its methods."""

SOLID: Dash = "-"
DASHED: Dash = (0, (5.0, 2.0))
DOTTED: Dash = (0, (1.2, 1.2))
DASH_DOTTED: Dash = (0, (5.0, 1.5, 1.2, 1.5))


@dataclass(frozen=True, slots=True)
class Style:
    """How an algorithm looks: a colour, a dash, and a width in points (None: that of all lines)."""

    color: str
    dash: Dash = SOLID
    width: float | None = None


STYLES: Mapping[str, Style] = {
    "AutoMPO": Style(WINE),
    "MPO": Style(VERMILLION),
    "Optimistic MPO": Style(PURPLE),
    "MPO-RT": Style(ORANGE, DASHED),
    "EMA magnet": Style(GREEN),
    "MMD": Style(BLUE),
    "Annealed MMD": Style(SKY),
    "EGPO": Style(BLACK, DASHED),
    "Nash-MD": Style(GREEN, DASHED),
    "APMD": Style(SKY, DOTTED),
    "M2WU": Style(BLACK, DOTTED),
    "MD": Style(BLACK),
    "GDA": Style(ORANGE),
    "Optimistic MD": Style(SKY, DASHED),
    "Optimistic MD, average": Style(VIOLET, DOTTED),
    "Optimistic MD, weighted": Style(PURPLE, DASH_DOTTED),
    "Extragradient": Style(BLUE, DASHED),
    "SPO/SPPO": Style(PURPLE, DASHED),
    "Fictitious play": Style(ORANGE, DOTTED),
    "RM": Style(GREEN, DOTTED),
    "RM, average": Style(PINK, DASHED),
    "RM+": Style(BLUE, DOTTED),
    "RM+, average": Style(PINK, DOTTED),
    "PRM+": Style(PURPLE, DOTTED),
    "PRM+, average": Style(PINK),
    "PRM+ restarted": Style(INDIGO, DOTTED),
    "Smooth PRM+": Style(OLIVE, DOTTED),
    "Smooth PRM+ restarted": Style(OLIVE, DASHED),
    "ExRM+": Style(WINE, DOTTED),
    "ExRM+ restarted": Style(WINE, DASHED),
    "Anchored Popov, L2": Style(VERMILLION, DASHED),
    "EG restarted": Style(GREY, DASHED),
    "EG restarted, L2 (PDLP)": Style(GREY),
    "RT-RM+": Style(GREY, DOTTED),
    "CFR": Style(SAND),
    "CFR+": Style(INDIGO),
    "PCFR+": Style(OLIVE),
    "PCFR+, last": Style(GREEN, DASH_DOTTED),
    "PCFR+ restarted": Style(INDIGO, DASHED),
    "RT-CFR+": Style(VERMILLION, DOTTED),
    "DCFR": Style(VERMILLION, DASH_DOTTED),
    "PDCFR+": Style(SAND, DASHED),
    "HS-DCFR": Style(VIOLET, DASHED),
    "HS-PCFR+": Style(VIOLET),
    "The recipe": Style(WINE, DASH_DOTTED),
    "Self-play PG": Style(GREY, DASH_DOTTED),
    "SPPO": Style(INDIGO, DASH_DOTTED),
    "INPO": Style(BLUE, DASH_DOTTED),
    "Iterative DPO": Style(OLIVE, DASH_DOTTED),
    "PPO": Style(SKY, DASH_DOTTED),
    "NFSP": Style(SAND, DOTTED),
}
"""The look of every algorithm by its name in figures; no two look alike."""

SPARE = tuple(Style(c, d) for d in (SOLID, DASHED) for c in (BLUE, GREEN, ORANGE, PURPLE, SKY))
"""The looks of labels that name no algorithm, in the order in which they are given out."""

DASHES = (SOLID, DASHED, DOTTED, DASH_DOTTED)
"""The dashes by which two curves of one algorithm differ."""

OWN = tuple(Style(c, d, 3.4) for d in (SOLID, DASHED) for c in (CRIMSON, BROWN, MAGENTA))
"""The looks of your own solvers beside the library's, in the order in which they are given out."""

THEME: Mapping[str, Any] = {
    # The font that matplotlib brings along: text has the same widths on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 12.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 11.0,
    "lines.linewidth": 2.2,
    # Other caps lengthen a dash by the line's width, and short gaps would close.
    "lines.dash_capstyle": "butt",
    "figure.dpi": 100.0,
    "savefig.dpi": 110.0,
    # Makes room for the labels that `label_ends` writes beside the axes.
    "figure.constrained_layout.use": True,
}
"""Matplotlib's settings for all figures."""


def literal(name: object) -> str:
    """A name as matplotlib draws it as it is: what stands between two `$` would be a formula."""
    return str(name).replace("$", r"\$")


def theme() -> AbstractContextManager[None]:
    """A context: figures that are drawn in it have the look of all figures."""
    import matplotlib

    settings: Any = dict(THEME)
    return matplotlib.rc_context(settings)


def style(label: str) -> Style | None:
    """The look of the algorithm that `label` begins with (`"MPO, K = 50"` is MPO's), else None."""
    # The name must end there: "MPO-RT" is not MPO with a remark.
    names = [
        name
        for name in STYLES
        if label.startswith(name) and not re.match(r"[\w+-]", label[len(name) :])
    ]
    return STYLES[max(names, key=len)] if names else None


def own_looks(labels: Sequence[str]) -> dict[str, Style]:
    """A look for each of your own solvers, in colours that no algorithm of the library has."""
    return {label: OWN[i % len(OWN)] for i, label in enumerate(labels)}


class Palette:
    """Gives out looks so that no two curves of one figure are alike."""

    def __init__(self, taken: Iterable[Style] = ()) -> None:
        self.taken = {(look.color, look.dash) for look in taken}

    def look(self, label: str) -> Style:
        """The look of the algorithm that `label` names, in another dash if that look is taken.

        A label that names none gets the first look of `SPARE` that is free.
        """
        known = style(label)
        own = () if known is None else (known, *(Style(known.color, dash) for dash in DASHES))
        choices = (*own, *SPARE)
        found = next((c for c in choices if (c.color, c.dash) not in self.taken), choices[0])
        self.taken.add((found.color, found.dash))
        return found
