"""Games of cards and dice in plain English, from the labels that OpenSpiel gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mpo_games.labelled import shown
from mpo_llm.trees.wording import Wording

CARDS = ("jack", "queen", "king")
FACES = ("jack", "queen", "king", "ace")


def kuhn() -> Wording:
    """Kuhn poker: three cards, pass or bet. The answers are "Pass" and "Bet"."""
    return Wording(_kuhn, _named(("Pass", "Bet")), "You play poker.")


def leduc() -> Wording:
    """Leduc poker of two suits: the answers are "Fold", "Call" and "Raise"."""
    return Wording(
        _leduc,
        _named(("Fold", "Call", "Raise")),
        "You play poker with one card of your own and, in the second round, one card for all.",
    )


def liars_dice(sides: int = 6) -> Wording:
    """Liar's dice with one die a player: a bid is an answer such as "1x4" (one four), a challenge
    is "Liar"."""

    def say(_: str, action: int | str) -> str:
        number = _number(action)
        if number is None:
            return "Liar" if str(action) == "Liar" else str(action).replace("-", "x")
        if number == 2 * sides:
            return "Liar"
        return f"{number // sides + 1}x{number % sides + 1}"

    return Wording(
        _liars_dice,
        say,
        "You play liar's dice. Each of two players has one die. "
        f"The number {sides} counts as any number.",
    )


def leduc_signs(label: str) -> tuple[str, ...]:
    """Leduc poker in few words, for `compact`: the card, the first round's moves, the card for all,
    and the second round's moves."""
    own, public, first, second = _leduc_parts(label)
    cards = () if public is None else (f"card {public}",)
    return (f"card {own}", *first, *cards, *second)


def _kuhn(label: str) -> str:
    found = re.fullmatch(r"([0-2])(|p|b|pb)", label)
    if found is None:
        raise ValueError(_unknown(label, "Kuhn poker of two players"))
    said = {
        "": "Nobody bet yet.",
        "p": "The other player passed.",
        "b": "The other player bet.",
        "pb": "You passed, the other player bet.",
    }[found[2]]
    return f"Your card: {CARDS[int(found[1])]}. {said} Pass or bet?"


def _leduc(label: str) -> str:
    own, public, first, second = _leduc_parts(label)
    seat = int("[Observer: 1]" in label)
    told = [f"Your card: {_card(own)}.", *_moves("First round", first, seat)]
    if public is not None:
        told.append(f"The card for all: {_card(public)}.")
        told += _moves("Second round", second, seat)
    return " ".join([*told, "Fold, call or raise?"])


def _leduc_parts(label: str) -> tuple[str, str | None, list[str], list[str]]:
    """The own card, the card for all if it is known, and the moves of both rounds."""
    own = re.search(r"\[Private: (\d)\]", label)
    first, second = (re.search(rf"\[Round{n}: ([\d ]*)\]", label) for n in (1, 2))
    if own is None or first is None or second is None:
        raise ValueError(_unknown(label, "Leduc poker"))
    public = re.search(r"\[Public: (\d)\]", label)
    return own[1], None if public is None else public[1], first[1].split(), second[1].split()


def _card(number: str) -> str:
    """A card of a deck of two suits, in which cards of one face have numbers that follow."""
    return f"{FACES[int(number) // 2]} of {('spades', 'hearts')[int(number) % 2]}"


def _moves(name: str, actions: Sequence[str], seat: int) -> list[str]:
    verbs = {"0": "fold", "1": "call", "2": "raise"}
    # In both rounds the first player begins, and players take turns.
    said = [f"{'you' if i % 2 == seat else 'they'} {verbs[a]}" for i, a in enumerate(actions)]
    return [f"{name}: {', '.join(said)}."] if said else []


def _liars_dice(label: str) -> str:
    found = re.fullmatch(r"(\d+)((?: \d+-\d+)*)", label)
    if found is None:
        raise ValueError(_unknown(label, "liar's dice with one die a player"))
    bids = [bid.replace("-", "x") for bid in found[2].split()]
    said = f"The bids so far: {', '.join(bids)}." if bids else "Nobody has bid."
    return f"Your die: {found[1]}. {said} Your bid?"


def _named(names: Sequence[str]) -> Callable[[str, int | str], str]:
    def say(_: str, action: int | str) -> str:
        number = _number(action)
        return str(action) if number is None else names[number]

    return say


def _number(action: int | str) -> int | None:
    """An action of OpenSpiel by its number; None for its name."""
    text = str(action)
    return int(text) if text.isdigit() else None


def _unknown(label: str, game: str) -> str:
    return (
        f"The label {shown(label)} is not one of {game}, which these words are for: write a "
        "`Wording` for this game, or take `compact(game)`."
    )
