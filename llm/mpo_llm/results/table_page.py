"""A page about a run at a game's table, as HTML: its curve, its strategy, what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games import plot
from mpo_games.atomic import write_bytes
from mpo_llm.config import Config
from mpo_llm.engines import sample
from mpo_llm.results import page, tables
from mpo_llm.results.outcomes import PAGE, START
from mpo_llm.training import checkpoint
from mpo_llm.training.played import Move, Played, moves
from mpo_llm.training.summary import Summary
from mpo_llm.training.tables import Table, table
from mpo_llm.trees.answers import labels_of
from mpo_llm.trees.policy import TreePolicy

DRAWS, MOST_PROMPTS = 8, 12
"""Answers that are drawn at an information state, and the most states where they are."""

MOST_STATES = 1000
"""Information states of the largest game of which an equilibrium is computed for the page."""


def conclude(config: Config, summary: Summary, found: Played) -> str:
    """Write the page of a run that has ended; returns its summary, with what its result is like."""
    folder = config.output.folder
    start = found.opponents[START]
    lines = [
        str(summary),
        f"result    exploitability {found.exploitability:.4f}, the start has "
        f"{start.exploitability:.4f}; it wins {start.payoff:+.4f} a game against the start",
        f"legal     {found.legal:.4f} of its answers, of the start's {start.legal:.4f}",
        *tables.strategy(found),
    ]
    try:
        write_bytes(folder / PAGE, render(folder, found).encode())
    except OSError as error:  # the run itself is saved
        return "\n".join([*lines, f"page      not written: {error}"])
    return "\n".join([*lines, f"page      {folder / PAGE}"])


def write(run: str, out: Path, *, compare_checkpoints: bool = False) -> str:
    """Evaluate the last checkpoint of a run, and write its page to `out`; returns the reports."""
    found = tables.evaluate(run)
    standings = tables.league(run) if compare_checkpoints else None
    write_bytes(out, render(run, found, standings).encode())
    return "\n".join([tables.report(run, found), *([] if standings is None else [str(standings)])])


def render(
    run: str | Path,
    found: Played,
    standings: tables.TableLeague | None = None,
    figure: str | None = None,
) -> str:
    """The page about a run's last checkpoint, as HTML that loads nothing from elsewhere.

    `found` is its evaluation, with `START` among the opponents. `figure` is an SVG in the place of
    the usual one.
    """
    config = checkpoint.config_of(run)
    at = table(config)
    drawn = page.drawing(picture(checkpoint.metrics(run), at, found)) if figure is None else figure
    start = found.opponents[START]
    numbers = [
        ("exploitability", f"{start.exploitability:.4f}", f"{found.exploitability:.4f}"),
        ("legal answers, in the mean over the states", f"{start.legal:.4f}", f"{found.legal:.4f}"),
        ("payoff against the start, a game", "0", f"{start.payoff:+.4f}"),
    ]
    rows = [(m.told, m.said, f"{m.before:.3f}", f"{m.probability:.3f}") for m in found.shown()]
    sections = {
        "Exploitability after each step, and the strategy": drawn,
        "In numbers, all exact": page.table(("", "before", "after"), numbers),
        "The strategy": page.table(("is told", "says", "before", "after"), rows),
    }
    said = spoken(at, checkpoint.answer_of_run(run, at, at.game.initial_policy()))
    if said:
        title = f"What it says, {DRAWS} draws"
        sections[title] = page.table(("is told", "before", "after"), said)
    if standings is not None:
        sections["Its checkpoints against each other"] = league(standings)
    return page.document(f"{Path(config.model.name).name} at {found.game}", sections, config)


def league(found: tables.TableLeague) -> str:
    """The HTML table of a league: payoffs, equilibrium, exploitability."""
    rows = [
        (
            name,
            *map(tables.payoff, row),
            f"{found.equilibrium[name]:.2f}",
            f"{found.exploitability[name]:.4f}",
        )
        for name, row in zip(found.names, found.payoffs, strict=True)
    ]
    return page.table(("payoff of", *found.names, "equilibrium", "exploitability"), rows)


def spoken(at: Table, policy: TreePolicy, seed: int = 0) -> list[tuple[str, str, str]]:
    """What is told at the first information states, and answers that the start and `policy` draw
    there with the same random numbers; nothing for a model without a language."""
    if at.tokenizer is None:
        return []
    labels = labels_of(at.game.tree.tree)[:MOST_PROMPTS]
    prompts = at.game.answers.listed[0].prompts[: len(labels)]
    columns = []
    for tokens in (at.game.start[0], policy.tokens[0]):
        drawn = sample(tokens, prompts, DRAWS, np.random.default_rng(seed))
        texts = [at.tokenizer.decode(drawn.ids(i)).strip() for i in range(len(drawn))]
        columns.append([", ".join(texts[i : i + DRAWS]) for i in range(0, len(texts), DRAWS)])
    return list(zip(map(at.told, labels), *columns, strict=True))


def picture(records: Sequence[Mapping[str, Any]], at: Table, found: Played) -> Any:
    """The curve of exploitability, and the strategy before and after beside an equilibrium's."""
    import matplotlib.pyplot as plt

    # The first action's probability follows from the others'.
    all_moves = found.shown()
    shown = [m for one, m in pairwise(all_moves) if one.state == m.state]
    known = _equilibrium(at)
    with plot.theme():
        height = max(4.4, 0.26 * len(shown) + 1.4)
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10.0, height), width_ratios=(1.0, 1.2), layout="constrained"
        )
        curve(left, records)
        for y, move in enumerate(shown):
            right.plot(move.before, y, "o", color=plot.ORANGE, mfc="none")
            right.plot(move.probability, y, "o", color=plot.BLUE)
            if known:
                right.plot(known[move.state, move.said], y, "|", color="black", ms=12)
        marks = [("o", "before", plot.ORANGE, "none"), ("o", "after", plot.BLUE, plot.BLUE)]
        marks += [("|", "an equilibrium", "black", "black")] if known else []
        for mark, name, color, fill in marks:
            right.plot([], [], mark, color=color, mfc=fill, label=name)
        right.set(xlabel="probability", xlim=(-0.03, 1.03))
        names = [f"{_short(move)}: {move.said}" for move in shown]
        right.set_yticks(range(len(shown)), names, fontsize="x-small")
        right.invert_yaxis()
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def curve(ax: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw the recorded exploitability over the steps."""
    points = [(r["step"], r["exploitability"]) for r in records if "exploitability" in r]
    if points:
        ax.plot(*zip(*points, strict=True), color=plot.BLUE, marker="." if len(points) < 3 else "")
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="exploitability, payoff a game")


def _equilibrium(at: Table) -> dict[tuple[str, str], float]:
    """How often one of the equilibria makes each move; nothing for a large game."""
    tree = at.game.tree.tree
    if tree.states > MOST_STATES:
        return {}
    play = at.game.initial_policy()
    point = mg.exact.nash(at.game.tree).policy
    # As a policy of this table, so that its moves have the names of the page.
    found = moves(at, replace(play, play=point), play)
    return {(move.state, move.said): move.probability for move in found}


def _short(move: Move) -> str:
    return move.told if len(move.told) <= 60 else f"{move.told[:28]} ... {move.told[-28:]}"
