"""Strategic games from Gambit's .nfg files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from mpo_games.games.gambit.text import Tokens
from mpo_games.games.matrix import MatrixGame

ROUNDING = Fraction(1, 10**12)
"""Two payoffs may miss the constant sum by this share of them: programs write rounded digits."""


def read_nfg(path: Path) -> tuple[MatrixGame, float]:
    """The game of a file `NFG 1 R`, and what both players receive together.

    Its payoffs are player 1's. Strategies with names give the actions theirs. `ValueError`, with
    the file and the line, for a file that is not well-formed, and for a game that does not have two
    players and a constant sum.
    """
    tokens = Tokens.of(path)
    _, players = tokens.header("NFG", "1", "Gambit writes NFG 1.")
    strategies, named = _strategies(tokens)
    if tokens.text_next():
        tokens.quoted("the comment")
    outcomes = _outcomes(tokens) if tokens.peek() == "{" else None
    n, m = (len(side) for side in strategies)
    payoff = np.empty((n, m))
    constant: Fraction | None = None
    # The strategy of player 1 changes fastest.
    for j in range(m):
        for i in range(n):
            begin = tokens.at
            if outcomes is None:
                pair = tokens.number("player 1's payoff"), tokens.number("player 2's payoff")
            else:
                number = tokens.whole("the number of an outcome")
                if number >= len(outcomes):
                    tokens.fail(f"there are {len(outcomes) - 1} outcomes, got number {number}.")
                pair = outcomes[number]
            total = pair[0] + pair[1]
            constant = total if constant is None else constant
            if abs(total - constant) > ROUNDING * (abs(pair[0]) + abs(pair[1]) + abs(constant)):
                tokens.fail(
                    "the game must have a constant sum: "
                    f"{players[0]} by {strategies[0][i]!r} and {players[1]} by "
                    f"{strategies[1][j]!r} receive {float(total):g} together, "
                    f"the first pair of strategies gives {float(constant):g}.",
                    begin,
                )
            payoff[i, j] = float(pair[0])
    if tokens.peek():
        tokens.fail(
            f"expected the end of the file after {n * m} pairs of strategies, "
            f"got {tokens.word('the end')[:40]}."
        )
    return MatrixGame(payoff, strategies if named else None), float(constant or 0)


def _strategies(tokens: Tokens) -> tuple[list[list[str]], bool]:
    """Both players' strategies, and whether they have names."""
    tokens.expect("{", "the strategies")
    if tokens.peek() not in ("{", "}"):
        sizes = [tokens.whole(f"the number of player {p}'s strategies") for p in (1, 2)]
        if min(sizes) == 0:
            tokens.fail("every player needs at least one strategy.")
        tokens.expect("}", "the end of the numbers of strategies, one per player")
        # Before the strategies are listed: the numbers may be any, and the file is short.
        if not sizes[0] * sizes[1] <= len(tokens.words) - tokens.at:
            tokens.fail(f"the file ends before {sizes[0]} times {sizes[1]} pairs of strategies.")
        return [[str(i + 1) for i in range(size)] for size in sizes], False
    strategies: list[list[str]] = []
    while tokens.peek() == "{":
        tokens.at += 1
        names = []
        while tokens.peek() != "}":
            names.append(tokens.quoted("the name of a strategy"))
        tokens.at += 1
        if not names:
            tokens.fail("every player needs at least one strategy.")
        # Names are how actions are told apart, so a name that is given twice becomes none.
        once = len(set(names)) == len(names)
        strategies.append(names if once else [f"{i + 1} {name}" for i, name in enumerate(names)])
    tokens.expect("}", "the end of the strategies")
    if len(strategies) != 2:
        tokens.fail(f"expected the strategies of two players, got {len(strategies)} lists.")
    return strategies, True


def _outcomes(tokens: Tokens) -> list[tuple[Fraction, Fraction]]:
    """The payoffs of each outcome; number 0 stands for no payoffs."""
    tokens.expect("{", "the outcomes")
    outcomes = [(Fraction(0), Fraction(0))]
    while tokens.peek() == "{":
        begin = tokens.at
        tokens.at += 1
        tokens.quoted("the name of an outcome")
        # The rest reads like payoffs in braces of their own.
        pair = tokens.number("player 1's payoff"), tokens.number("player 2's payoff")
        if tokens.word("the end of the outcome") != "}":
            tokens.fail("an outcome must be a name and two payoffs.", begin)
        outcomes.append(pair)
    tokens.expect("}", "the end of the outcomes")
    return outcomes
