"""What a ranking rests on: which models met, how often, and what is assumed where they did not."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from mpo_games.games.battles import Battles
from mpo_games.protocol import Array, Indices
from mpo_games.written import counted

ELO = 400.0 / np.log(10.0)
"""Elo points in a unit of Bradley-Terry's log-odds."""

HELD = 0.1
"""The weight of the squared scores where Bradley-Terry has no finite fit: a normal prior whose
standard deviation is 3.2 in log-odds, or 550 Elo points."""

FEW = 8
"""A model with fewer battles has intervals that say little."""


WORD = re.compile(r"[^\W\d_]+|\d+")
"""A run of letters, or a number."""

JOINED = re.compile(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)")
"""What may be left out of a name; between two digits it keeps them apart."""

SHORTEST = 4
"""The letters of a word in which one edit looks like a mistake."""


def linked(wins: Array, connection: Literal["strong", "weak"] = "strong") -> Indices:
    """The group of each model. Of two in one group, each has beaten the other one, or a model that
    did, and so on; with `weak` links it is enough that they met.

    Bradley-Terry has a finite fit if and only if there is a single strong group (Ford 1957).
    """
    from scipy.sparse.csgraph import connected_components

    _, groups = connected_components(wins > 0.0, connection=connection)
    return np.asarray(groups)


def unplayed(found: Battles) -> tuple[tuple[Hashable, Hashable], ...]:
    """The pairs of models that never met."""
    never = np.triu(found.played == 0.0, 1)
    return tuple((found.models[i], found.models[j]) for i, j in np.argwhere(never))


def on_intervals(found: Battles, resamples: int, level: float, seed: int) -> str:
    """What the intervals are, or why there are none."""
    if not found.counted:
        return "There are no intervals: win rates do not say how many battles they rest on."
    if not found.whole:
        return "There are no intervals, because the numbers of wins are not whole."
    return (
        f"Brackets hold intervals: {100 * level:g} % of {resamples:,} resamples of the battles "
        f"(seed {seed})."
    )


def on_battles(found: Battles) -> list[str]:
    """What was assumed where battles are missing or too few."""
    notes, names = [], found.models
    if found.left_out:
        was = "was" if found.left_out == 1 else "were"
        notes.append(f"{counted(found.left_out, 'battle')} of a model with itself {was} left out.")
    if never_met := unplayed(found):
        pairs = [f"{a} and {b}" for a, b in never_met]
        notes.append(
            f"{len(pairs)} of {len(names) * (len(names) - 1) // 2} pairs never met: "
            f"{listed(pairs, 20)}. The equilibrium counts them as even; Bradley-Terry and win "
            "rates leave them out."
        )
    groups, parts = linked(found.scores), linked(found.scores, "weak")
    if parts.max() > 0:
        apart = [
            listed([str(n) for n, g in zip(names, parts, strict=True) if g == part])
            for part in range(parts.max() + 1)
        ]
        notes.append(
            f"No battle links these groups: {'; '.join(apart)}. Scores of different groups cannot "
            "be compared."
        )
    if groups.max() > 0:
        lost, won = found.scores.sum(axis=0), found.scores.sum(axis=1)
        never = []
        for number, did in ((lost, "lost"), (won, "won")):
            of = [str(n) for n, count in zip(names, number, strict=True) if not count]
            never += [f"{listed(of)} never {did}"] if of else []
        why = " and ".join(never) or "some models never lost to any of the others"
        notes.append(
            f"Bradley-Terry has no finite fit, because {why}: a weak normal prior "
            f"({ELO / HELD**0.5:.0f} Elo points) holds its scores. Intervals do not show the "
            "losses that could have happened."
        )
    few = [str(n) for n, c in zip(names, found.played.sum(axis=1), strict=True) if c < FEW]
    if few and found.counted:
        notes.append(f"Fewer than {FEW} battles, so intervals say little: {listed(few)}.")
    if alike := [f"{str(a)!r} and {str(b)!r}" for a, b in combinations(names, 2) if misspelt(a, b)]:
        notes.append(
            f"Perhaps one model under two spellings: {listed(alike)}. They are ranked as different "
            "models."
        )
    return notes


def misspelt(one: Hashable, other: Hashable) -> bool:
    """Whether two names may be meant for one model.

    They are if only capitals, blanks and hyphens differ, or one word of four or more letters by one
    edit: a letter more, less or another one, or two neighbours swapped. Digits and short words are
    versions: `gpt-4` and `gpt-4o` are two models.
    """
    a, b = (str(name).lower().strip() for name in (one, other))
    if JOINED.sub("", a) == JOINED.sub("", b):
        return True
    words, others = WORD.findall(a), WORD.findall(b)
    differ = [pair for pair in zip(words, others, strict=False) if pair[0] != pair[1]]
    return len(words) == len(others) and len(differ) == 1 and _one_edit(*differ[0])


def _one_edit(a: str, b: str) -> bool:
    pairs = enumerate(zip(a, b, strict=False))
    begin = next((i for i, (one, other) in pairs if one != other), min(len(a), len(b)))
    # Few mistakes are in the first letter, and many names rhyme.
    if not (begin and a.isalpha() and b.isalpha() and min(len(a), len(b)) >= SHORTEST):
        return False
    a, b = a[begin:], b[begin:]
    swapped = a[:2] == b[:2][::-1] and a[2:] == b[2:]
    return swapped or a[1:] == b[1:] or a[1:] == b or a == b[1:]


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
