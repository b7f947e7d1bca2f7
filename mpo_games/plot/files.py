"""Figures as files: equal figures give equal bytes, and a file is written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.plot.looks import theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write `figure` as `path` with the endings `.svg` and `.png`, and close it; the two paths.

    Equal figures give equal bytes, so that a figure in a repository changes only if it looks
    different.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = []
    # Without the salt the identifiers in an SVG are random. Glyphs are outlines, so that text looks
    # the same whatever fonts the reader has installed.
    with theme(), matplotlib.rc_context({"svg.hashsalt": "mpo-games", "svg.fonttype": "path"}):
        # None leaves the entry out: the date and matplotlib's version change without the figure.
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], metadata=metadata)
            written.append(target.with_suffix(suffix))
            write_bytes(written[-1], content.getvalue())
    plt.close(figure)
    return written[0], written[1]


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
