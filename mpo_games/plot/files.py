"""Figures as files: equal figures give equal bytes, and a file is written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.checks import require_kind
from mpo_games.plot.looks import theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


METADATA: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}
"""Entries that are left out: the date and matplotlib's version change without the figure."""


def save(figure: Figure | Axes, path: str | Path) -> tuple[Path, ...]:
    """Write `figure`, or the figure of some axes, and close it; the paths that were written.

    The ending of `path` is the format (`.pdf`, `.png`, `.svg`, ...). Without one, the figure is
    written as `.svg` and as `.png`. Equal figures give equal bytes, so that a figure in a
    repository changes only if it looks different. `ValueError` for a format that matplotlib does
    not write.
    """
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.artist import Artist

    require_kind("figure", figure, Artist, "a figure or its axes, like `solution.plot()`")
    require_kind("path", path, (str, PathLike), "the path of a file")
    whole: Any = figure
    # Of axes in a figure within a figure, the outer one.
    while whole.figure is not None and whole.figure is not whole:
        whole = whole.figure
    if not hasattr(whole, "savefig"):
        raise ValueError("`figure` must be a figure or axes in one; this is in none.")
    target = Path(path).expanduser()
    known = whole.canvas.get_supported_filetypes()
    kind = target.suffix[1:].lower()
    # What begins with a digit is no ending: "gap_0.3".
    if kind and kind not in known and not kind[0].isdigit():
        raise ValueError(
            f"`path` must end in one of .{', .'.join(known)}, or in none for .svg and .png, "
            f"got {str(path)!r}."
        )
    wanted = {kind: target} if kind in known else {}
    wanted = wanted or {k: target.with_name(f"{target.name}.{k}") for k in ("svg", "png")}
    target.parent.mkdir(parents=True, exist_ok=True)
    # Without the salt the identifiers in an SVG are random. Glyphs are outlines, so that text looks
    # the same whatever fonts the reader has installed.
    with theme(), matplotlib.rc_context({"svg.hashsalt": "mpo-games", "svg.fonttype": "path"}):
        for suffix, place in wanted.items():
            content = io.BytesIO()
            whole.savefig(content, format=suffix, metadata=METADATA.get(suffix))
            write_bytes(place, content.getvalue())
    plt.close(whole)
    return tuple(wanted.values())


def save_animation(
    figure: Figure,
    frame: Callable[[int], None],
    frames: Sequence[int],
    path: str | Path,
    *,
    seconds: float = 0.07,
    colors: int = 64,
) -> Path:
    """Write a GIF that repeats for ever, and close `figure`; its path, which ends in `.gif`.

    Args:
        figure: what `frame` draws into.
        frame: draws the frame of an `i` of `frames`.
        frames: the arguments of `frame`, in order.
        path: where the GIF goes.
        seconds: how long a frame is shown.
        colors: the size of the palette that all frames share; one palette keeps the file small.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    target = Path(path).with_suffix(".gif")
    target.parent.mkdir(parents=True, exist_ok=True)

    # Typed as a canvas of any kind; the one of `Agg` has the pixels.
    canvas: Any = figure.canvas

    def drawn(i: int) -> Any:
        frame(i)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    # A frame after the first has every colour. Quantisation may turn its background nearly white.
    middle = drawn(frames[len(frames) // 3]).quantize(colors, Image.Quantize.MAXCOVERAGE)
    table = np.reshape(middle.getpalette(), (-1, 3))
    table[table.min(axis=1) > 245] = 255
    common = Image.new("P", (1, 1))
    common.putpalette(table.ravel().tolist())
    # Dithering would scatter dots over flat areas, which a GIF compresses badly.
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
