"""Writes docs/openspiel_games.md: which games of OpenSpiel can be solved, and why not the others.

`python -m experiments.lab.openspiel_games` tries every registered game by default and with the
parameters below, and compares the values under perfect information with backward induction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.games import openspiel
from mpo_games.games.matrix import MatrixGame

PAGE = Path(__file__).parents[2] / "docs" / "openspiel_games.md"

SMALL = (
    "backgammon(hyper_backgammon=True,max_player_turns=1)",
    "battleship(board_width=2,board_height=2,ship_sizes=[1],ship_values=[1.0],num_shots=2)",
    "breakthrough(rows=3,columns=2)",
    "breakthrough(rows=4,columns=2)",
    "capture_the_flag(horizon=2)",
    "chinese_checkers(max_moves=2)",
    "clobber(rows=2,columns=3)",
    "connect_four(rows=3,columns=3,x_in_row=3)",
    "dark_hex(board_size=2)",
    "dots_and_boxes(num_rows=1,num_cols=1)",
    "go(board_size=2,max_game_length=6)",
    "go_fish(ranks=2,suits=2,initial_cards=1)",
    "gomoku(size=3,connect=2)",
    "goofspiel(num_cards=3)",
    "goofspiel(num_cards=4,points_order=descending)",
    "goofspiel(num_cards=4,imp_info=True,points_order=descending)",
    "havannah(board_size=2)",
    "hex(board_size=2)",
    "leduc_poker(suit_isomorphism=True)",
    "liars_dice(dice_sides=4)",
    "lines_of_action(max_game_length=2)",
    "markov_soccer(horizon=3)",
    "mnk(m=3,n=2,k=2)",
    "nim(pile_sizes=1;2;3)",
    "oshi_zumo(coins=4,size=1,horizon=4)",
    "oware(num_houses_per_player=2,num_seeds_per_house=1)",
    "phantom_go(board_size=2,max_game_length=3)",
    "pig(diceoutcomes=2,horizon=6,winscore=3)",
    "python_kuhn_poker",
    "repeated_game(stage_game=matrix_rps(),num_repetitions=2)",
    "repeated_leduc_poker(num_hands=1)",
    "y(board_size=2)",
    "laser_tag(zero_sum=True,horizon=1)",
    "laser_tag(zero_sum=True,horizon=1,fully_obs=False)",
    "add_noise(game=kuhn_poker(),epsilon=0.1,seed=3)",
    "cached_tree(game=kuhn_poker())",
    "misere(game=kuhn_poker())",
    "normal_form_extensive_game(game=kuhn_poker())",
    "restricted_nash_response(game=kuhn_poker())",
    "start_at(game=kuhn_poker(),history=0;1)",
    "turn_based_simultaneous_game(game=goofspiel(num_cards=3))",
    "zerosum(game=matrix_pd())",
)
"""Parameters with which a game is small, and the transforms of OpenSpiel around a small game."""

LARGE = ("tic_tac_toe", "python_tic_tac_toe", "liars_dice", "universal_poker")
"""Games whose tree is compiled, or refused, only after minutes."""


def row(name: str, max_memory: float = 1.0) -> tuple[str, ...]:
    """The game, its states, its value, the gap of its certificate, and the independent value."""
    game = openspiel.compile_game(name, max_memory=max_memory)
    found = mg.exact.nash(game)
    gap = float(game.duality_gap(found.policy))
    other = backward(name)
    other_text = "" if other is None else f"{other:+.6f}"
    return name, str(game.tree.states), f"{float(found.value):+.6f}", f"{gap:.0e}", other_text


def backward(name: str) -> float | None:
    """Player 0's value by backward induction over histories; None without perfect information.

    A round of simultaneous moves is a matrix game of the values behind it. Nothing here knows of
    information states.
    """
    import pyspiel

    game = pyspiel.load_game(name)
    if game.get_type().information != pyspiel.GameType.Information.PERFECT_INFORMATION:
        return None

    @cache
    def matrix(entries: tuple[tuple[float, ...], ...]) -> float:
        return float(mg.exact.nash(MatrixGame(np.array(entries))).value)

    def value(state: Any) -> float:
        if state.is_terminal():
            return float(state.returns()[0])
        if state.is_chance_node():
            return sum(p * value(state.child(a)) for a, p in state.chance_outcomes())
        if not state.is_simultaneous_node():
            best = max if state.current_player() == 0 else min
            return best(value(state.child(action)) for action in state.legal_actions())
        # A player without a choice makes the action 0.
        rows, columns = (state.legal_actions(p) or [0] for p in (0, 1))
        table = []
        for mine in rows:
            after = [state.clone() for _ in columns]
            for child, theirs in zip(after, columns, strict=True):
                child.apply_actions([mine, theirs])
            table.append(tuple(value(child) for child in after))
        return matrix(tuple(table))

    return value(game.new_initial_state())


REASONS = (
    ("fit into memory", "too large by default"),
    ("two players", "not for two players"),
    ("constant-sum", "not of constant sum"),
    ("only samples", "chance is only sampled"),
    ("imperfect recall", "a player forgets what they knew or did"),
    ("cannot load", "needs parameters, such as the game inside"),
)
"""A part of each kind of refusal, and its heading on the page."""


def page() -> str:
    """The text of docs/openspiel_games.md."""
    why = dict(_outcomes())
    lines = [
        "# Games of OpenSpiel",
        "",
        "`mg.load` and `compile_game` solve the two-player games of OpenSpiel that have a constant",
        "sum, perfect recall and explicit chance, if their trees fit into memory. This page is",
        "written by `python -m experiments.lab.openspiel_games`, which tries every game.",
        "The names are written as `mg.load` and `mpo-games solve` take them.",
        "",
        "## Solved",
        "",
        "The value is player 0's, and the gap the certificate: what both players together could",
        "gain by best responses. The last column is the value by backward induction over",
        "histories, for games of perfect information.",
        "",
        "| game | information states | value | gap | by backward induction |",
        "| --- | --- | --- | --- | --- |",
    ]
    solved = [name for name, reason in why.items() if not reason]
    for name in sorted({*solved, *SMALL}):
        lines.append("| " + " | ".join((f"`{name}`", *row(name)[1:])) + " |")
    lines += ["", "## Not solved with default parameters", ""]
    done = {name.partition("(")[0] for name in (*SMALL, *solved)}
    for part, heading in REASONS:
        found = [n for n, reason in why.items() if part in reason]
        shown = ", ".join(f"`{n}`" + ("*" if n in done else "") for n in found)
        if found:
            lines += [f"- **{heading}** ({len(found)}): {shown}."]
    large = ", ".join(f"`{n}`" for n in LARGE)
    lines += [
        "",
        "A star marks games that the table above solves with smaller parameters, or around a small",
        f"game. Not tried here, because they take minutes: {large}.",
        "",
    ]
    return "\n".join(lines)


def _outcomes() -> Iterator[tuple[str, str]]:
    """Every game with default parameters, and the sentence that refuses it, or nothing."""
    for name in openspiel.names():
        if name in LARGE:
            continue
        try:
            openspiel.compile_game(name)
        except ValueError as error:
            yield name, str(error)
        else:
            yield name, ""


if __name__ == "__main__":
    # The import registers the games that OpenSpiel has in Python.
    import open_spiel.python.games  # noqa: F401

    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
