"""Drawings in matplotlib's axes: traces, policies of three actions, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import numpy as np

from mpo_games.checks import require_callable, require_kind, require_weight
from mpo_games.plot.looks import BLACK, DASHED, GREY, THEME, Dash, Palette, Style, theme
from mpo_games.protocol import Array
from mpo_games.trace import Trace

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

FAINT = "#DDDDDD"
"""The colour of curves without a name."""

PIECE = 0.085
"""The length of the piece of line before a label, in widths of the axes."""

BAND = "median, band"
"""What a label of an axis says where several runs are drawn."""

_QUANTITY = {"gap": "duality gap", "average_gap": "duality gap of the average"}


def convergence(
    traces: Mapping[str, Trace | Sequence[Trace]],
    metric: str = "gap",
    *,
    ax: Axes | None = None,
    x: str = "evaluations",
    log_x: bool = True,
    bound: Callable[[Array], Array] | None = None,
    band: tuple[float, float] = (0.1, 0.9),
    floor: float = 1e-17,
    labels: bool = True,
    looks: Mapping[str, Style] | None = None,
    faint: Collection[str] = (),
    settings: Mapping[str, Sequence[str]] | None = None,
) -> Axes:
    """Draw a recorded metric of each run on a logarithmic axis; returns the matplotlib axes.

    Curves that are added to axes later differ from those that are there, and all are labelled.

    Args:
        traces: a trace for each label, or several. With several traces, and for a trace with batch
            axes, the line is the median of the runs.
        metric: the recorded column that is drawn.
        ax: matplotlib axes; new ones by default.
        x: the column on the horizontal axis.
        log_x: whether that axis is logarithmic; then the records at 0 are left out.
        bound: a function of `x` that is drawn dashed.
        band: the two quantiles of several runs between which the area is shaded; the vertical
            axis says so.
        floor: smaller numbers, which are rounding, are drawn at this height, those of `bound` too.
        labels: whether each label is written at the end of its line; a lone one becomes the title.
        looks: looks of some labels; that of another is its algorithm's (`style`), or a spare one.
        faint: labels whose lines are thin and grey, without a name and a band.
        settings: for each label the settings of its run, in words. The title of a lone curve has
            them, and curves of one label on the same axes are told apart by those that differ.

    Raises:
        ValueError: without a trace, and where the traces of one label were recorded at
            different `x`.
        KeyError: for a metric that was not recorded.
    """
    import matplotlib.pyplot as plt

    if not isinstance(traces, Mapping):
        raise ValueError("`traces` must be labels with their traces, `{label: solution.trace}`.")
    if not traces:
        raise ValueError("`traces` is empty: pass at least one label and its trace.")
    for name, column in (("metric", metric), ("x", x)):
        require_kind(name, column, str, "the name of a recorded column, like 'gap'")
    require_weight("floor", floor)
    if bound is not None:
        require_callable("bound", bound, "`lambda evaluations: 10.0 / evaluations`")
    with theme():
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 4.0))
        drawn = _CURVES.setdefault(ax, _Drawn())
        palette = Palette(curve.look for curve in drawn.curves)
        ax.set_yscale("log")
        if log_x:
            ax.set_xscale("log")
        at: Array = np.empty(0)
        banded = False
        for label, group in traces.items():
            at, runs = _runs(label, group if isinstance(group, Sequence) else [group], metric, x)
            shown = at > 0 if log_x else np.full(at.shape, True)
            at, runs = at[shown], np.maximum(runs[shown], floor)
            middle = np.median(runs, axis=1)
            if label in faint:
                ax.plot(at, middle, color=FAINT, linewidth=1.2, zorder=1.5)
                continue
            name = _tidy(str(label))
            look = (looks or {}).get(label) or palette.look(name)
            (line,) = ax.plot(at, middle, color=look.color, linestyle=look.dash, label=name)
            if look.width is not None:
                line.set_linewidth(look.width)
            # A single run has no quantiles to shade.
            if runs.shape[1] > 1:
                low, high = np.quantile(runs, band, axis=1)
                ax.fill_between(at, low, high, color=look.color, alpha=0.15, linewidth=0)
                banded = True
            drawn.curves.append(_Curve(name, tuple((settings or {}).get(label, ())), line, look))
        if bound is not None:
            low_bound = np.maximum(bound(at), floor)
            (line,) = ax.plot(
                at, low_bound, color=GREY, linestyle=DASHED, linewidth=1.6, label="bound"
            )
            drawn.curves.append(_Curve("bound", (), line, Style(GREY, DASHED)))
        ax.set_xlabel(x)
        # Curves that are added to axes with bands keep the words for these.
        if banded or BAND not in ax.get_ylabel():
            explained = f"\n{BAND} {100 * band[0]:g} % to {100 * band[1]:g} %" if banded else ""
            ax.set_ylabel(f"{_QUANTITY.get(metric, metric)}{explained}")
        if labels:
            drawn.label(ax)
    return ax


@dataclass(frozen=True, slots=True)
class _Curve:
    """A curve that `convergence` has drawn."""

    name: str
    settings: tuple[str, ...]
    line: Line2D
    look: Style


class _Drawn:
    """What `convergence` has drawn into some axes: the curves, and their labels."""

    def __init__(self) -> None:
        self.curves: list[_Curve] = []
        self.beside: list[Artist] = []
        self.title = ""

    def names(self) -> list[str]:
        """A label for each curve: curves of one name also have the settings in which they differ,
        or a number."""
        found: list[str] = []
        for curve in self.curves:
            kin = [other.settings for other in self.curves if other.name == curve.name]
            own = [s for s in curve.settings if any(s not in settings for settings in kin)]
            label = ", ".join([curve.name, *own])
            again = (f"{label} ({i})" for i in count(2))
            found.append(label if label not in found else next(n for n in again if n not in found))
        return found

    def label(self, ax: Axes) -> None:
        """Write each label at the end of its curve; that of a lone curve is the title."""
        for artist in self.beside:
            artist.remove()
        self.beside = []
        if len(self.curves) == 1:
            # A lone line needs no label beside it, and a long one wraps.
            self.title = ", ".join([self.curves[0].name, *self.curves[0].settings])
            ax.set_title(self.title, wrap=True)
            return
        # Unless the user has written another one since.
        if self.title and self.title in (ax.get_title(loc="left"), ax.get_title()):
            ax.set_title("")
        ends = []
        for name, curve in zip(self.names(), self.curves, strict=True):
            curve.line.set_label(name)
            end = float(np.asarray(curve.line.get_ydata())[-1])
            ends.append((name, end, str(curve.line.get_color())))
        colors = [curve.look.color for curve in self.curves]
        # Where two have one colour, a piece of the line beside the label shows its dash.
        alike = len(set(colors)) < len(colors)
        dashes = [curve.look.dash for curve in self.curves] if alike else []
        before = set(ax.get_children())
        label_ends(ax, ends, dashes)
        self.beside = [artist for artist in ax.get_children() if artist not in before]


_CURVES: WeakKeyDictionary[Axes, _Drawn] = WeakKeyDictionary()
"""What was drawn into which axes, so that later curves differ from earlier ones."""


def label_ends(
    ax: Axes, ends: Sequence[tuple[str, float, str]], dashes: Sequence[Dash] = ()
) -> None:
    """Write labels to the right of the axes at the heights `y`, apart where they would overlap.

    `ends` holds `(label, y, colour)`, `y` in the units of the data. With `dashes`, one for each
    label, a piece of line in this dash stands before it. No label is no text. Call it last: the
    heights are those at the limits that the axes have now.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if not ends:
        return
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) for _, y, _ in ends]
    # Font sizes are in points, 72 an inch: the distance of two lines of text in units of the axes.
    points = ax.get_position().height * cast(Figure, ax.figure).get_figheight() * 72.0
    size = float(THEME["legend.fontsize"])
    spots = _spread(np.clip(heights, 0.0, 0.96), 1.2 * size / points)
    # A collection, because the lines of the axes are the curves.
    pieces = LineCollection(
        [[(1.02, spot), (1.02 + PIECE, spot)] for spot in spots[: len(dashes)]],
        colors=[color for _, _, color in ends],
        linestyles=list(dashes) or "-",
        linewidths=float(THEME["lines.linewidth"]),
        transform=ax.transAxes,
        clip_on=False,
    )
    if dashes:
        ax.add_collection(pieces, autolim=False)
    left = 1.02 + (PIECE + 0.02) * bool(dashes)
    for (label, _, color), spot in zip(ends, spots, strict=True):
        ax.text(left, spot, label, color=color, fontsize=size, va="center", transform=ax.transAxes)


def heatmap(ax: Axes, powers: Array, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw powers of ten, `(rows, columns)`, as numbers on colours.

    Numbers within a factor of 3 of the least of their column are bold. A column's name breaks at
    its first space.
    """
    with theme():
        ax.imshow(powers, cmap="viridis", vmin=-16.0, vmax=0.0, aspect="auto")
        ax.grid(False)
        for (i, j), power in np.ndenumerate(powers):
            ax.text(
                j,
                i,
                f"{power:.0f}".replace("-0", "0"),
                ha="center",
                va="center",
                # Half a power of ten is a factor of 3.
                fontweight="bold" if power <= powers[:, j].min() + 0.5 else "normal",
                # The upper part of the colour map is bright, the lower part dark.
                color=BLACK if power > -6.0 else "white",
            )
        ax.set_yticks(range(len(rows)), rows)
        labels = [column.replace(" ", "\n", 1) for column in columns]
        ax.set_xticks(range(len(columns)), labels, fontsize=9.5)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)


def _runs(label: str, group: Sequence[Trace], metric: str, x: str) -> tuple[Array, Array]:
    """The records of one label: `x` `(records,)`, and the metric of its runs `(records, runs)`."""
    for trace in group:
        if not isinstance(trace, Trace):
            raise ValueError(f"{label!r} is a {type(trace).__name__}: pass its `trace`.")
    at = np.asarray(group[0][x], dtype=np.float64)
    if any(not np.array_equal(at, trace[x]) for trace in group):
        raise ValueError(
            f"The traces of {label!r} were recorded at different `{x}`: pass the same `at`."
        )
    columns = [np.asarray(trace[metric], dtype=np.float64) for trace in group]
    return at, np.concatenate([column.reshape(len(at), -1) for column in columns], axis=1)


def _tidy(label: str) -> str:
    """A label without the addresses of functions, which differ from run to run."""
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", label)


def _spread(heights: Array, distance: float) -> Array:
    """Heights in [0, 1] pushed at least `distance` apart: in a sweep up, then one back down."""
    order = np.argsort(heights, kind="stable")
    spots = np.array(heights, dtype=np.float64)[order]
    for i in range(1, len(spots)):
        spots[i] = max(spots[i], spots[i - 1] + distance)
    # The sweep up may push the last label above the axes; more labels than fit must stand higher.
    excess = max(0.0, spots[-1] - max(0.96, (len(spots) - 1) * distance))
    if excess:
        spots[-1] -= excess
        for i in range(len(spots) - 2, -1, -1):
            spots[i] = min(spots[i], spots[i + 1] - distance)
    out = np.empty_like(spots)
    out[order] = spots
    return out
