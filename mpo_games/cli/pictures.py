"""Pictures that the commands draw, written as files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpo_games as mg
from mpo_games.atomic import write_bytes

ENDINGS = (".png", ".svg", ".pdf")
"""The formats of a picture."""


def write(drawn: Callable[[], Any], path: Path) -> None:
    """Write the figure of matplotlib that `drawn` returns, in the format of the file's ending."""
    # Matplotlib is slow to import, and most runs draw nothing.
    import matplotlib

    # The default may be a window, which fails on a machine without a screen.
    matplotlib.use("Agg")
    from mpo_games import plot

    figure = drawn()
    # In memory first: a figure that cannot be drawn leaves no broken file.
    content = io.BytesIO()
    with plot.theme():
        figure.savefig(content, format=path.suffix[1:])
    write_bytes(path, content.getvalue())


def gap(solution: mg.Solution[Any], label: str) -> Any:
    """The figure of the gap against the evaluations, under the name of the solver."""
    if not label:
        return solution.plot().figure
    return mg.plot.convergence({label: solution.trace}).figure
