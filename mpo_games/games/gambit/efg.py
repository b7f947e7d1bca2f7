"""Extensive games from Gambit's .efg files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from mpo_games.games.gambit.text import Tokens
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.games.tree_builder import TreeBuilder

ROUNDING = Fraction(1, 10**12)
"""Two payoffs may miss the constant sum by this share of them: programs write rounded digits."""

DECIMALS = Fraction(2, 10**6)
"""Chance probabilities may miss the sum of 1 by this much: files have six decimals or more."""


@dataclass(slots=True)
class InformationSet:
    """What all nodes of an information set share."""

    name: str
    actions: list[str]
    chances: list[Fraction]
    """The probability of each action, if chance moves."""
    shares: list[float] = field(init=False)
    """The same with a sum of 1."""
    above: int | None = None
    """The mover's own sequence at the first node, when the tree is built."""

    def __post_init__(self) -> None:
        total = sum(self.chances, Fraction(0))
        self.shares = [float(p / total) for p in self.chances]


@dataclass(slots=True)
class Line:
    """A node as it stands in the file."""

    token: int
    """The number of its first token, for error messages."""
    player: int | None
    """0 for chance, 1 or 2; None at the end of a play."""
    number: int
    """That of the information set."""
    outcome: int


@dataclass
class Parser:
    """Reads the nodes of a file, in its order: a node, then what follows each of its actions."""

    tokens: Tokens
    players: list[str]
    sets: dict[tuple[int, int], InformationSet] = field(default_factory=dict)
    outcomes: dict[int, tuple[float, float]] = field(default_factory=dict)

    def nodes(self) -> list[Line]:
        """All nodes of the tree, which must be whole."""
        lines: list[Line] = []
        missing = 1
        while missing:
            lines.append(self.node())
            line = lines[-1]
            missing -= 1
            if line.player is not None:
                missing += len(self.sets[line.player, line.number].actions)
        if self.tokens.peek():
            self.tokens.at += 1
            self.tokens.fail("the tree is complete, and the file goes on.")
        return lines

    def node(self) -> Line:
        tokens, begin = self.tokens, self.tokens.at
        kind = tokens.word("all nodes of the tree")
        if kind not in ("c", "p", "t"):
            tokens.fail(f"a node begins with c, p or t, got {kind[:40]}.")
        # The node's own name; the information set has the one that matters.
        if tokens.text_next():
            tokens.quoted("the name of a node")
        player, number = None, 0
        if kind != "t":
            player = 0
            if kind == "p":
                player = tokens.whole("the number of the player")
                if player not in (1, 2):
                    tokens.fail(f"the player who moves must be 1 or 2, got {player}.")
            number = tokens.whole("the number of the information set")
            self.information_set(player, number)
        return Line(begin, player, number, self.outcome())

    def information_set(self, player: int, number: int) -> None:
        """Read the name and the actions, which may be left out after the first time."""
        tokens, known = self.tokens, self.sets.get((player, number))
        name = tokens.quoted("the name of an information set") if tokens.text_next() else ""
        if tokens.peek() != "{":
            if known is None:
                self.tokens.at += 1
                tokens.fail(f"information set {number} of {self.who(player)} has no actions yet.")
            return
        begin = tokens.at
        tokens.at += 1
        actions: list[str] = []
        chances: list[Fraction] = []
        while tokens.peek() != "}":
            actions.append(tokens.quoted("an action"))
            if player == 0:
                chances.append(tokens.number("the probability of a chance move"))
        tokens.at += 1
        what = f"information set {number} of {self.who(player)}"
        if not actions:
            tokens.fail(f"{what} has no actions.")
        if any(p < 0 for p in chances):
            tokens.fail(f"{what} has a negative probability.", begin)
        total = sum(chances, Fraction(0))
        if player == 0 and abs(total - 1) > DECIMALS:
            tokens.fail(
                f"the probabilities of {what} must sum to 1, got {float(total):.9g}.", begin
            )
        if known is None:
            self.sets[player, number] = InformationSet(name, actions, chances)
        elif (known.actions, known.chances) != (actions, chances):
            tokens.fail(f"{what} has other actions here than before.", begin)

    def outcome(self) -> int:
        """Read the number of an outcome, and its payoffs if they are here."""
        tokens = self.tokens
        number = tokens.whole("the number of an outcome")
        begin = tokens.at
        if tokens.text_next():
            tokens.quoted("the name of an outcome")
        if tokens.peek() == "{":
            first, second = tokens.payoffs()
            values = float(first), float(second)
            if self.outcomes.setdefault(number, values) != values:
                tokens.fail(f"outcome {number} has other payoffs here than before.", begin)
            if number == 0 and values != (0.0, 0.0):
                tokens.fail("outcome 0 stands for no payoffs, so it cannot have any.", begin)
        elif number and number not in self.outcomes:
            tokens.fail(f"outcome {number} has no payoffs yet.", begin - 1)
        return number

    def who(self, player: int) -> str:
        return repr(self.players[player - 1]) if player else "chance"


def read_efg(path: Path) -> SequenceFormGame:
    """The game of a file `EFG 2 R`.

    The name of an information set is its label, with its number where names repeat. Payoffs add up
    along a play. Player 0 is the file's player 1. `utility_sum` is what both receive together.

    `ValueError`, with the file and the line, for a file that is not well-formed; for a game that
    does not have two players, a constant sum and perfect recall; and for chances that do not sum
    to 1.
    """
    tokens = Tokens.of(path)
    later = "Gambit 0.94 and later read EFG 1 and save it as EFG 2."
    _, players = tokens.header("EFG", "2", later)
    if tokens.text_next():
        tokens.quoted("the comment")
    parser = Parser(tokens, players)
    return _built(parser, parser.nodes())


def _built(parser: Parser, lines: list[Line]) -> SequenceFormGame:
    """The game of all nodes."""
    labels = _labels(parser.sets)
    builder = TreeBuilder()
    constant: float | None = None
    # The players' sequences at the next node, its chance, their payoffs so far, and the sizes of
    # all payoffs, which bound the rounding errors of the sums.
    stack = [((0, 1), 1.0, (0.0, 0.0), 0.0)]
    for line in lines:
        at, chance, (first, second), size = stack.pop()
        if line.outcome:
            won, lost = parser.outcomes[line.outcome]
            first, second, size = first + won, second + lost, size + abs(won) + abs(lost)
        if line.player is None:
            total = first + second
            constant = total if constant is None else constant
            if not abs(total - constant) <= float(ROUNDING) * (size + abs(constant)):
                parser.tokens.fail(
                    f"the game must have a constant sum: both players receive {total:g} together "
                    f"here (outcome {line.outcome}), and {constant:g} at the first end of play.",
                    line.token,
                )
            if chance > 0.0:
                builder.payoff(at, chance, first)
            continue
        known = parser.sets[line.player, line.number]
        paid = (first, second)
        if line.player == 0:
            # Reversed, because the stack gives back the last entry first.
            stack += [(at, chance * part, paid, size) for part in reversed(known.shares)]
            continue
        mover = line.player - 1
        if chance == 0.0:  # never played, so it needs no sequences
            stack += [(at, 0.0, paid, size)] * len(known.actions)
            continue
        if known.above is None:
            known.above = at[mover]
        elif known.above != at[mover]:
            parser.tokens.fail(
                f"{parser.who(line.player)} has imperfect recall at information set {line.number} "
                f"({known.name!r}): different own moves lead to it.",
                line.token,
            )
        label = labels[line.player, line.number]
        for sequence in reversed(builder.state(mover, label, tuple(known.actions), at)):
            there = (sequence, at[1]) if mover == 0 else (at[0], sequence)
            stack.append((there, chance, paid, size))
    return builder.finish(utility_sum=constant or 0.0)


def _labels(sets: dict[tuple[int, int], InformationSet]) -> dict[tuple[int, int], str]:
    """A label for each information set of a player, different from all the player's others."""
    often = Counter((player, known.name) for (player, _), known in sets.items())
    labels: dict[tuple[int, int], str] = {}
    taken = {(player, name) for (player, name), count in often.items() if count == 1 and name}
    for (player, number), known in sets.items():
        label = known.name
        if (player, label) not in taken or often[player, label] > 1:
            label = f"{known.name} #{number}" if known.name else str(number)
            while (player, label) in taken:
                label += "'"
            taken.add((player, label))
        labels[player, number] = label
    return labels
