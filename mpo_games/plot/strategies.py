"""Strategies and preferences as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.checks import has_verbs, require_count
from mpo_games.labelled import shown
from mpo_games.plot.looks import BLACK, BLUE, BROWN, GREEN, GREY, ORANGE, SAND, SKY, literal, theme
from mpo_games.protocol import Array
from mpo_games.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILLS = (SKY, ORANGE, BLUE, SAND, GREEN, BROWN)
"""The colours of actions: neighbours differ in lightness too."""

READABLE = 0.09
"""A bar that is narrower than this has no room for the name of its action."""


def strategy(
    policy: Any,
    *,
    ax: Axes | None = None,
    states: Mapping[Any, str] | Sequence[Any] | None = None,
    most: int = 30,
) -> Axes:
    """Draw a strategy: a bar for each information state, cut into its actions; returns the axes.

    A state that is never reached, because of what its own player does before, is pale.

    Args:
        policy: a policy that has a table (`policy.table()`), of a matrix, of preferences or of a
            tree, or a solution of these.
        ax: matplotlib axes; new ones by default.
        states: which states are drawn, in which order; a mapping gives them other names:
            `{"0": "jack", "1": "queen"}`. By default those that are reached most.
        most: how many states are drawn at most, if `states` does not say.

    Raises:
        ValueError: for a policy without a table, for a batch, and for states that it does not have.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    require_count("most", most)
    if not has_verbs(policy, "table"):
        raise ValueError(f"`policy` must be a policy with a table, got {shown(policy)}.")
    rows, reach, owner = _states(policy.table())
    chosen = list(states) if states is not None else _most_reached(reach, most)
    if missing := [state for state in chosen if state not in rows]:
        raise ValueError(f"`states`: the policy has no state {shown(missing[0])}.")
    actions = list(dict.fromkeys(name for state in chosen for name in rows[state]))
    fills = {name: FILLS[i % len(FILLS)] for i, name in enumerate(actions)}
    with theme():
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 1.3 + 0.32 * len(chosen)))
        for y, state in enumerate(chosen):
            left = 0.0
            for name, share in rows[state].items():
                pale = 1.0 if reach[state] > 1e-6 else 0.25
                ax.barh(y, share, 0.78, left, color=fills[name], alpha=pale, edgecolor="white")
                if share > READABLE:
                    said = f"{literal(name)}\n{share:.2f}" if len(chosen) < 3 else f"{share:.2f}"
                    dark = fills[name] in (BLUE, GREEN, BROWN) and pale == 1.0
                    color = "white" if dark else BLACK
                    ax.text(left + share / 2, y, said, ha="center", va="center", color=color)
                left += share
        names = states if isinstance(states, Mapping) else {}
        ax.set_yticks(range(len(chosen)), [literal(names.get(state, state)) for state in chosen])
        ax.invert_yaxis()
        for y in range(1, len(chosen)):
            # A line between the players.
            if owner[chosen[y]] != owner[chosen[y - 1]]:
                ax.axhline(y - 0.5, color=GREY, linewidth=1.0)
        ax.set(xlim=(0.0, 1.0), xticks=[0, 0.5, 1], xlabel="probability")
        ax.grid(False)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "bottom"]].set_visible(False)
        patches = [Patch(color=fills[name], label="action") for name in actions]
        if len(actions) <= 12:
            legend = ax.legend(
                handles=patches,
                loc="lower left",
                bbox_to_anchor=(0.0, 1.0),
                ncols=min(len(patches), 6),
                borderaxespad=0.2,
                handlelength=1.0,
                columnspacing=1.2,
            )
            # Older matplotlib leaves out an artist whose label begins with an underscore.
            for text, name in zip(legend.get_texts(), actions, strict=True):
                text.set_text(literal(name))
    return ax


def preferences(
    shares: Array, names: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw preferences as arrows from winner to loser, as thick as the majority; returns the axes.

    Args:
        shares: how often the response of the row beats that of the column, `(n, n)`, or a
            preference game of one context.
        names: the names of the responses; by default those of the game, or numbers.
        ax: matplotlib axes; new ones by default.

    Raises:
        ValueError: unless `shares` is a square table.
    """
    import matplotlib.pyplot as plt

    given: Any = shares
    if hasattr(given, "preferences"):
        names = names or [str(name) for name in getattr(given, "responses", ())] or None
        given = given.preferences
    elif has_verbs(given, "feedback"):
        raise ValueError(f"`shares` must be a table or a preference game, got {shown(given)}.")
    p = np.asarray(given, dtype=np.float64)
    p = p[0] if p.ndim == 3 and len(p) == 1 else p
    if p.ndim != 2 or p.shape[0] != p.shape[1]:
        raise ValueError(f"`shares` must be one square table (n, n), got shape {p.shape}.")
    n = len(p)
    names = [str(i + 1) for i in range(n)] if names is None else list(names)
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    place = np.column_stack([np.cos(angle), np.sin(angle)])
    with theme():
        if ax is None:
            _, ax = plt.subplots(figsize=(5.0, 3.6))
        for i, j in zip(*np.nonzero(p > 0.5), strict=True):
            start, end = 0.8 * place[i] + 0.2 * place[j], 0.2 * place[i] + 0.8 * place[j]
            style = {"arrowstyle": "-|>", "color": BLUE, "mutation_scale": 22}
            style["lw"] = 14 * (p[i, j] - 0.5) + 1
            ax.annotate("", tuple(end), tuple(start), arrowprops=style)
            middle = 0.5 * (start + end)
            box = {"boxstyle": "round,pad=.2", "fc": "white", "ec": "none"}
            x, y = float(middle[0]), float(middle[1])
            ax.text(x, y, f"{p[i, j]:.0%}", ha="center", va="center", bbox=box)
        for (x, y), name in zip(place, names, strict=True):
            ax.text(1.12 * x, 1.12 * y, literal(name), ha="center", va="center", fontweight="bold")
        ax.set(xlim=(-1.25, 1.25), ylim=(place[:, 1].min() - 0.3, 1.3), aspect="equal")
        ax.axis("off")
    return ax


def _states(table: Table) -> tuple[dict[Any, dict[Any, float]], dict[Any, float], dict[Any, Any]]:
    """For each state: the probabilities of its actions, how likely it is reached, whose it is."""
    if "run" in table.columns:
        raise ValueError("`policy` is a batch: draw one of its policies.")
    rows: dict[Any, dict[Any, float]] = {}
    reach: dict[Any, float] = {}
    owner: dict[Any, Any] = {}
    players: dict[Any, set[Any]] = {}
    for line in table:
        players.setdefault(line.get("state"), set()).add(line.get("player"))
    for line in table:
        state = line.get("state", line.get("row", "policy"))
        # Two players may call a state alike.
        if len(players[line.get("state")]) > 1:
            state = f"{state} (player {line['player']})"
        rows.setdefault(state, {})[line["action"]] = line["probability"]
        reach[state], owner[state] = line.get("reach", 1.0), line.get("player", 0)
    return rows, reach, owner


def _most_reached(reach: Mapping[Any, float], most: int) -> list[Any]:
    """The states that are reached most, in the order of the table."""
    kept = sorted(reach, key=lambda state: -reach[state])[:most]
    return [state for state in reach if state in set(kept)]
