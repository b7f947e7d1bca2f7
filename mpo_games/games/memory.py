"""The limit on memory that games of a name share: a short name may stand for a huge game."""

from __future__ import annotations

from math import log10

from mpo_games.checks import require_positive

GIB = 2.0**30
"""Bytes in a GiB."""

MOST = 1e6
"""More GiB than any machine has."""

MAX_MEMORY = 1.0
"""The GiB that a game may take unless the caller allows more."""


def require_limit(max_memory: float) -> float:
    """The limit in bytes. `ValueError` unless `max_memory` is a finite number of GiB above 0."""
    require_positive("max_memory", max_memory)
    return float(max_memory) * GIB


def require_memory(what: str, needed: float, max_memory: float) -> None:
    """Refuse what takes more bytes than the limit.

    `what` begins the sentence and says how large it is: "`n` = 10000: a matrix of 1e8 numbers".
    """
    if not needed <= require_limit(max_memory):
        raise ValueError(
            f"{what} takes {size(needed)}, more than the limit of {max_memory:g} GiB: "
            "pass a larger `max_memory` if the machine has the memory."
        )


def size(needed: float) -> str:
    """A number of bytes as a text in GiB; of one that nobody has, the power of ten."""
    number = needed / GIB
    return f"about {number:.3g} GiB" if number < MOST else f"about 10^{log10(number):.0f} GiB"
