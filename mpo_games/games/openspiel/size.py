"""How large an OpenSpiel game is: estimates before the walk and during it, and refusals."""

from __future__ import annotations

from math import exp, inf, log
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mpo_games.games.memory import GIB, MOST, size
from mpo_games.games.openspiel.source import pyspiel_module, shown
from mpo_games.games.tree_builder import TreeBuilder

if TYPE_CHECKING:
    import pyspiel

LEAF, STATE, SEQUENCE, LABEL = 120.0, 500.0, 170.0, 1.0
"""Bytes that a leaf, an information state, a sequence and a character of a label take at the peak
of compiling, as measured."""

MOVE, OPEN = 8.0, 2000.0
"""Bytes that a walk holds at depth `d`: `MOVE d^2` in the histories above and `OPEN d` besides."""

ACTION = 250.0
"""Bytes of an action in Python's lists and in the sequences of a state."""

UNIFORM = ((0, 0.0),)
LEANING = tuple((favourite, lean) for lean in (0.8, 0.98, 0.998) for favourite in (0, -1))
"""How a random play is drawn: in the share `lean` of all moves the `favourite` of the legal
actions, the first or the last, and in the others each with the same probability."""

PLAYS = ((1, UNIFORM), (30, UNIFORM), (60, LEANING), (969, UNIFORM), (540, LEANING))
"""Random plays that estimate the number of leaves: more, unless the first ones decide."""

DOUBT = 1e-6
"""The probability with which those plays may wrongly call a game too large."""


def needed(builder: TreeBuilder, characters: int, depth: int) -> float:
    """The bytes that a walk takes at a depth, with what it has found so far."""
    return (
        LEAF * len(builder.payoffs)
        + STATE * len(builder.players)
        + SEQUENCE * builder.sequences
        + LABEL * characters
        + held(depth)
    )


def held(depth: int) -> float:
    """The bytes that a walk holds at a depth, in the states above."""
    return MOVE * depth * depth + OPEN * depth


def require_size(source: pyspiel.Game, limit: float) -> None:
    """Refuse a game that surely takes more than `limit` bytes, by Knuth's estimate (1975).

    The reciprocal of the probability of a random play has the number of leaves as its mean,
    however the play was drawn. In the same way the reciprocals up to each move estimate the number
    of histories; under perfect information each of them is an information state.

    Most plays lean to the first or to the last action, which are often to pass or to bid nothing:
    in some games uniform play ends soon, and almost all histories are far longer.
    """
    for count, noun in (
        (source.num_distinct_actions(), "actions"),
        (source.max_chance_outcomes(), "chance outcomes"),
    ):
        if count * ACTION > limit:
            refuse(source, f"{count} {noun}", count * ACTION, limit)
    # Copies of it, because a first state takes gin rummy 30 ms.
    root = source.new_initial_state()
    found: dict[object, list[float]] = {UNIFORM: [], LEANING: []}
    generators = {ways: np.random.default_rng(0) for ways in found}
    for plays, ways in PLAYS:
        drawn, rng = found[ways], generators[ways]
        drawn += [_estimate(root, limit, rng, *ways[i % len(ways)]) for i in range(plays)]
        if (fewest := surely(drawn)) > log(limit):
            refuse(source, "too many histories", exp(fewest), limit)
        # A game whose plays all look small is walked at once.
        if ways is LEANING and max(map(max, found.values())) < log(limit / 1000.0):
            return


def _estimate(
    root: pyspiel.State, limit: float, rng: np.random.Generator, favourite: int, lean: float
) -> float:
    """The log of the bytes that the game takes, estimated by one random play (see `PLAYS`)."""
    information = pyspiel_module().GameType.Information
    source = root.get_game()
    openly = source.get_type().information == information.PERFECT_INFORMATION
    state, paths, inner, moves = root.clone(), 0.0, -inf, 0
    # Where the game is that much too large, no further move matters.
    while paths < log(limit) + 50.0 and not state.is_terminal():
        legal = state.legal_actions()
        if not legal:
            raise ValueError(f"`game`: {shown(source)} has a state without actions.")
        if openly and not state.is_chance_node():
            inner = float(np.logaddexp(inner, paths + log(STATE + SEQUENCE * len(legal))))
        follow = lean > 0.0 and rng.random() < lean
        action = legal[favourite if follow else rng.integers(len(legal))]
        share = (1.0 - lean) / len(legal)
        paths -= log(share + lean if action == legal[favourite] else share)
        state.apply_action(action)
        moves += 1
        if held(moves) > limit:
            refuse(source, f"plays of {moves} moves", held(moves), limit)
    return float(np.logaddexp(inner, paths + log(LEAF)))


def surely(estimates: list[float]) -> float:
    """The log of what the game surely has, but for the probability `DOUBT`.

    `estimates` are logs of random numbers whose mean `N` is what it has. One of them is at least
    `x` with probability at most `N / x` (Markov). So `k` of `m` plays are, with probability at most
    `(e m N / (k x))^k`. This is `DOUBT` at the bound.
    """
    x = np.sort(estimates)[::-1]
    k = np.arange(1, x.size + 1)
    bound = float(np.max(x + np.log(k / (np.e * x.size)) + log(DOUBT) / k))
    # A long run of equal estimates, as of a game with regular choices, says more: their mean.
    spread = float(np.std(np.exp(x - x[0])) / np.sqrt(x.size))
    mean = float(np.mean(np.exp(x - x[0]))) - 5.0 * spread
    return max(bound, x[0] + log(mean) if mean > 0.0 else -inf)


def refuse(source: pyspiel.Game, has: str, needed: float, limit: float) -> NoReturn:
    """Raise the `ValueError` of `too_large`."""
    raise ValueError(too_large(shown(source), has, needed, limit))


def too_large(what: str, has: str, needed: float, limit: float) -> str:
    """The sentence that refuses a game: what it has, and the bytes that this takes."""
    way = "Pass a larger `max_memory`, or smaller parameters of the game."
    if needed > MOST * GIB:
        way = "No machine has as much, so no `max_memory` helps: take a smaller game."
    return (
        f"`game` must fit into memory: {what} has {has}, which takes {size(needed)}, and the limit "
        f"is {limit / GIB:g} GiB. {way}"
    )
