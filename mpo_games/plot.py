"""Figures: one colour and dash per algorithm, everywhere. Matplotlib is imported on first use.

Colours are Okabe & Ito's (2008) and three of Tol's (2021), which colour-blind readers tell apart;
where they run out, the dash pattern tells on. `convergence` draws traces, `simplex` trajectories
of three actions, `save` writes the same bytes for the same figure, `save_animation` a GIF.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.protocol import Array
from mpo_games.trace import Trace

Dash = str | tuple[int, tuple[float, ...]]

BLACK, ORANGE, SKY, GREEN = "#222222", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8A8A8A"
WINE, INDIGO, OLIVE = "#882255", "#332288", "#999933"

SOLID: Dash = "-"
DASHED: Dash = (0, (5.0, 2.0))
DOTTED: Dash = (0, (1.2, 1.2))
DASH_DOTTED: Dash = (0, (5.0, 1.5, 1.2, 1.5))


@dataclass(frozen=True, slots=True)
class Style:
    """How an algorithm looks: a colour and a dash."""

    color: str
    dash: Dash = SOLID


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
    "Optimistic MD, weighted": Style(PURPLE, DASH_DOTTED),
    "Extragradient": Style(BLUE, DASHED),
    "SPO/SPPO": Style(PURPLE, DASHED),
    "Fictitious play": Style(ORANGE, DOTTED),
    "RM": Style(GREEN, DOTTED),
    "RM+": Style(BLUE, DOTTED),
    "PRM+": Style(PURPLE, DOTTED),
    "PRM+ restarted": Style(INDIGO, DOTTED),
    "Smooth PRM+": Style(OLIVE, DOTTED),
    "Smooth PRM+ restarted": Style(OLIVE, DASHED),
    "ExRM+": Style(WINE, DOTTED),
    "ExRM+ restarted": Style(WINE, DASHED),
    "Anchored Popov, L2": Style(VERMILLION, DASHED),
    "EG restarted": Style(GREY, DASHED),
    "EG restarted, L2 (PDLP)": Style(GREY),
    "RT-RM+": Style(GREY, DOTTED),
    "CFR+": Style(INDIGO),
    "PCFR+": Style(OLIVE),
    "PCFR+, last": Style(GREEN, DASH_DOTTED),
    "PCFR+ restarted": Style(INDIGO, DASHED),
    "RT-CFR+": Style(VERMILLION, DOTTED),
    "The recipe": Style(WINE, DASH_DOTTED),
    "Self-play PG": Style(GREY, DASH_DOTTED),
    "SPPO": Style(INDIGO, DASH_DOTTED),
    "INPO": Style(BLUE, DASH_DOTTED),
    "Iterative DPO": Style(OLIVE, DASH_DOTTED),
}
"""The look of every algorithm; no two look alike."""

_FALLBACK = tuple(Style(c, d) for d in (SOLID, DASHED) for c in (BLUE, GREEN, ORANGE, PURPLE, SKY))

_QUANTITY = {"gap": "duality gap", "average_gap": "duality gap of the average"}

_THEME: Mapping[str, Any] = {
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
    "lines.dash_capstyle": "butt",
    "figure.dpi": 100.0,
    "savefig.dpi": 110.0,
    "figure.constrained_layout.use": True,
}


def theme() -> AbstractContextManager[None]:
    """The look of all figures, as a context to draw in."""
    import matplotlib

    settings: Any = dict(_THEME)
    return matplotlib.rc_context(settings)


def style(label: str) -> Style | None:
    """The look of the algorithm that `label` begins with (`"MPO, K = 50"` is MPO's), else None."""
    names = [
        name
        for name in STYLES
        if label.startswith(name) and not re.match(r"[\w+-]", label[len(name) :])
    ]
    return STYLES[max(names, key=len)] if names else None


def convergence(
    traces: Mapping[str, Trace | Sequence[Trace]],
    metric: str = "gap",
    *,
    ax: Any = None,
    x: str = "evaluations",
    log_x: bool = True,
    bound: Callable[[Array], Array] | None = None,
    band: tuple[float, float] = (0.1, 0.9),
    floor: float = 1e-17,
    labels: bool = True,
) -> Any:
    """Draw a recorded metric of each run on a logarithmic axis; returns the matplotlib axes.

    Several traces under one label, or a trace with batch axes, become their median and the `band`
    between two quantiles. `bound`, a function of `x`, is drawn dashed. Numbers at or below `floor`
    (rounding) are drawn there. `labels` writes each label at the end of its line.

    Raises `ValueError` where the traces of one label were recorded at different `x`.
    """
    import matplotlib.pyplot as plt

    if not isinstance(traces, Mapping):
        raise ValueError("`traces` must be labels with their traces, `{label: solution.trace}`.")
    if not traces:
        raise ValueError("`traces` is empty: pass at least one label and its trace.")
    with theme():
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 4.0))
        spare = iter(_FALLBACK * (1 + len(traces) // len(_FALLBACK)))
        ax.set_yscale("log")
        if log_x:
            ax.set_xscale("log")
        ends: list[tuple[str, float, str]] = []
        at: Array = np.empty(0)
        for label, group in traces.items():
            at, runs = _runs(label, group if isinstance(group, Sequence) else [group], metric, x)
            shown = at > 0 if log_x else np.full(at.shape, True)
            at, runs = at[shown], np.maximum(runs[shown], floor)
            look = style(label) or next(spare)
            middle = np.median(runs, axis=1)
            ax.plot(at, middle, color=look.color, linestyle=look.dash, label=_tidy(label))
            if runs.shape[1] > 1:
                low, high = np.quantile(runs, band, axis=1)
                ax.fill_between(at, low, high, color=look.color, alpha=0.15, linewidth=0)
            ends.append((_tidy(label), float(middle[-1]), look.color))
        if bound is not None:
            ax.plot(at, bound(at), color=GREY, linestyle=DASHED, linewidth=1.6, label="bound")
            ends.append(("bound", float(bound(at[-1:])[0]), GREY))
        ax.set_xlabel(x)
        ax.set_ylabel(_QUANTITY.get(metric, metric))
        if labels and len(traces) == 1 and bound is None:
            ax.set_title(ends[0][0], wrap=True)
        elif labels:
            label_ends(ax, ends)
    return ax


def label_ends(ax: Any, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write `(label, y, colour)` to the right of the axes, pushed apart where they would overlap.

    Call it when the limits of the axes are settled.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) for _, y, _ in ends]
    points = ax.get_position().height * ax.figure.get_figheight() * 72.0
    size = float(_THEME["legend.fontsize"])
    spots = _spread(np.clip(heights, 0.0, 0.96), 1.2 * size / points)
    for (label, _, color), spot in zip(ends, spots, strict=True):
        ax.text(1.02, spot, label, color=color, fontsize=size, va="center", transform=ax.transAxes)


def simplex(
    trajectories: Mapping[str, Array],
    *,
    ax: Any = None,
    points: Mapping[str, Array] | None = None,
    magnets: Array | None = None,
    corners: Sequence[str] = ("1", "2", "3"),
) -> Any:
    """Draw policies over three actions, `(steps, 3)` each, in a triangle; returns its axes.

    A ring marks the start, a disc the last iterate, a star each of the named `points` (the
    equilibrium, say), small diamonds the `magnets`, `(moves, 3)`.

    Raises `ValueError` for trajectories that are not `(steps, 3)`.
    """
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    for label, path in trajectories.items():
        if np.ndim(path) != 2 or np.shape(path)[1] != 3:
            raise ValueError(
                f"Trajectory {label!r} must be (steps, 3): the simplex has three corners; "
                f"got shape {np.shape(path)}."
            )
    with theme():
        if ax is None:
            ax = plt.figure(figsize=(4.2, 3.8)).add_subplot(projection="ternary")
        spare = iter(_FALLBACK * (1 + len(trajectories) // len(_FALLBACK)))
        ax.grid(False)
        for axis in (ax.taxis, ax.laxis, ax.raxis):
            axis.set_ticks([])
            axis.set_label_text("")
        for place, corner in zip(np.eye(3), corners, strict=True):
            ax.text(
                *(1.16 * place - 0.16 / 3 * np.ones(3)),
                corner,
                ha="center",
                va="center",
                color="#333333",
            )
        for label, path in trajectories.items():
            look = style(label) or next(spare)
            ax.plot(*path.T, color=look.color, linestyle=look.dash, linewidth=1.6, label=label)
            ax.plot(*path[:1].T, "o", color=look.color, markerfacecolor="white", markersize=8)
            ax.plot(*path[-1:].T, "o", color=look.color, markersize=8)
        if magnets is not None:
            ax.plot(
                *magnets.T,
                "D",
                color=BLACK,
                markerfacecolor="white",
                markersize=5,
                linestyle="none",
                label="magnets",
            )
        for name, point in (points or {}).items():
            ax.plot(
                *np.reshape(point, (1, 3)).T,
                "*",
                color=BLACK,
                markersize=14,
                markeredgecolor="white",
                linestyle="none",
                label=name,
            )
    return ax


def heatmap(ax: Any, powers: Array, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw powers of ten, `(rows, columns)`, as numbers on colours; those within a factor of 3 of
    their column's least are bold. Column names break at their first space."""
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
                fontweight="bold" if power <= powers[:, j].min() + 0.5 else "normal",
                color=BLACK if power > -6.0 else "white",
            )
        ax.set_yticks(range(len(rows)), rows)
        labels = [column.replace(" ", "\n", 1) for column in columns]
        ax.set_xticks(range(len(columns)), labels, fontsize=9.5)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)


def save(figure: Any, path: str | Path) -> tuple[Path, Path]:
    """Write `figure` beside `path` as `.svg` and `.png`, atomically; equal figures, equal bytes.

    Returns the two paths and closes the figure.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = []
    # Glyphs as outlines: every reader sees the same text, whatever fonts are installed.
    with theme(), matplotlib.rc_context({"svg.hashsalt": "mpo-games", "svg.fonttype": "path"}):
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], metadata=metadata)
            written.append(target.with_suffix(suffix))
            write_bytes(written[-1], content.getvalue())
    plt.close(figure)
    return written[0], written[1]


def save_animation(
    figure: Any,
    frame: Callable[[int], None],
    frames: Sequence[int],
    path: str | Path,
    *,
    seconds: float = 0.07,
    colors: int = 64,
) -> Path:
    """Write an endless GIF of what `frame(i)` draws into `figure`, for every `i` of `frames`.

    All frames share one palette of so many `colors`: flat drawings then stay small. Returns the
    path and closes the figure.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    target = Path(path).with_suffix(".gif")
    target.parent.mkdir(parents=True, exist_ok=True)

    def drawn(i: int) -> Any:
        frame(i)
        figure.canvas.draw()
        return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")

    # A frame on the way has every colour; its background must be white, not nearly so.
    middle = drawn(frames[len(frames) // 3]).quantize(colors, Image.Quantize.MAXCOVERAGE)
    table = np.reshape(middle.getpalette(), (-1, 3))
    table[table.min(axis=1) > 245] = 255
    common = Image.new("P", (1, 1))
    common.putpalette(table.ravel().tolist())
    images = [drawn(i).quantize(palette=common, dither=Image.Dither.NONE) for i in frames]
    plt.close(figure)
    content = io.BytesIO()
    images[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 * seconds),
        loop=0,
        optimize=False,
    )
    write_bytes(target, content.getvalue())
    return target


def _runs(label: str, group: Sequence[Trace], metric: str, x: str) -> tuple[Array, Array]:
    """Where one label was recorded, and its runs as columns, `(records, runs)`."""
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
    """The heights, moved as little as a sweep up and a sweep down need to be `distance` apart."""
    order = np.argsort(heights, kind="stable")
    spots = np.array(heights, dtype=np.float64)[order]
    for i in range(1, len(spots)):
        spots[i] = max(spots[i], spots[i - 1] + distance)
    excess = max(0.0, spots[-1] - max(0.96, (len(spots) - 1) * distance))
    if excess:
        spots[-1] -= excess
        for i in range(len(spots) - 2, -1, -1):
            spots[i] = min(spots[i], spots[i + 1] - distance)
    out = np.empty_like(spots)
    out[order] = spots
    return out
