"""Policies over three actions, drawn in a triangle: runs, their magnets, and where steps lead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np

from mpo_games.checks import has_verbs, require_count
from mpo_games.labelled import shown
from mpo_games.plot.looks import BLACK, GREY, Palette, literal, theme
from mpo_games.protocol import Array, Solver, State

MOST_MAGNETS = 60
"""More magnets than this would hide the path: then none is drawn."""


def simplex(
    trajectories: Mapping[str, Array | Iterable[State[Any]]],
    *,
    ax: Any = None,
    points: Mapping[str, Array] | None = None,
    magnets: Array | None = None,
    corners: Sequence[str] | None = None,
    steps: int = 500,
    player: int = 0,
) -> Any:
    """Draw trajectories of policies over three actions in a triangle; returns its axes.

    A ring marks the start of a trajectory, a disc its last policy. States bring their magnets:
    small diamonds where the magnet stood, if it pulls.

    Args:
        trajectories: for each label probabilities, `(steps, 3)`, or states, as
            `mpo_games.iterate(game, solver, policy=start)` yields them.
        ax: axes with the projection `ternary`; new ones by default.
        points: policies `(3,)` marked by a star, the equilibrium for example.
        magnets: policies marked by small diamonds, `(moves, 3)`, in place of those of the states.
        corners: the names of the actions; by default those that the policies have, or numbers.
        steps: how many steps of states are drawn.
        player: whose row of the policies is drawn.

    Raises:
        ValueError: for a trajectory that is not `(steps, 3)`.
    """
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    require_count("steps", steps)
    paths, known = {}, []
    for label, given in trajectories.items():
        if not np.ndim(cast(Any, given)):
            if not isinstance(given, Iterable):
                raise ValueError(
                    f"Trajectory {label!r} must be probabilities (steps, 3), or states as "
                    f"`mpo_games.iterate(game, solver)` yields them, got {shown(given)}."
                )
            given = list(islice(cast(Iterable[State[Any]], given), steps + 1))
        if isinstance(given, Sequence) and given and isinstance(given[0], State):
            found = cast(Sequence[State[Any]], given)[: steps + 1]
            known += _magnets(found, player)
            corners = corners or _names(found[0].policy, player)
            given = np.array([state.policy.probs[player] for state in found])
        paths[label] = path = np.asarray(given)
        if path.ndim != 2 or path.shape[1] != 3:
            raise ValueError(
                f"Trajectory {label!r} must be (steps, 3): the simplex has three corners; "
                f"got shape {path.shape}."
            )
    if magnets is None and 0 < len(known) <= MOST_MAGNETS:
        magnets = np.array(known)
    with theme():
        if ax is None:
            ax = plt.figure(figsize=(4.2, 3.8)).add_subplot(projection="ternary")
        palette = Palette()
        ax.grid(False)
        for axis in (ax.taxis, ax.laxis, ax.raxis):
            axis.set_ticks([])
            axis.set_label_text("")
        for place, corner in zip(np.eye(3), corners or ("1", "2", "3"), strict=True):
            # On the line from the centre through the corner, a little outside the triangle.
            ax.text(
                *(1.16 * place - 0.16 / 3 * np.ones(3)),
                corner,
                ha="center",
                va="center",
                color="#333333",
            )
        for label, path in paths.items():
            look = palette.look(label)
            ax.plot(*path.T, color=look.color, linestyle=look.dash, linewidth=1.6, label=label)
            ax.plot(*path[:1].T, "o", color=look.color, markerfacecolor="white", markersize=8)
            ax.plot(*path[-1:].T, "o", color=look.color, markersize=8)
        if magnets is not None:
            ax.plot(
                *magnets.T,
                "D",
                color=BLACK,
                markerfacecolor="white",
                markersize=5,
                linestyle="none",
                label="magnets",
            )
        for name, point in (points or {}).items():
            ax.plot(
                *np.reshape(point, (1, 3)).T,
                "*",
                color=BLACK,
                markersize=14,
                markeredgecolor="white",
                linestyle="none",
                label=name,
            )
    return ax


def field(
    game: Any,
    solver: Solver,
    *,
    ax: Any = None,
    magnet: Any = None,
    color: str = GREY,
    density: int = 11,
) -> Any:
    """Draw an arrow for one step of `solver` from each policy of a grid; returns the axes.

    Args:
        game: a game in which one policy over three actions plays both seats.
        solver: the solver. From a grid point it takes its first step.
        ax: axes with the projection `ternary`; new ones by default.
        magnet: the magnet of all steps; by default each starts at its own.
        color: the colour of the arrows.
        density: how many grid points there are along an edge.

    Raises:
        ValueError: for any other game.
    """
    import matplotlib.pyplot as plt
    import mpltern  # noqa: F401 (registers the projection)

    require_count("density", density, least=3)
    start = game.initial_policy() if has_verbs(game, "initial_policy", "policy") else None
    if np.shape(getattr(start, "probs", ())) != (1, 3):
        raise ValueError(
            f"`game` must be one in which a policy over three actions plays both seats, "
            f"got {shown(game)}."
        )
    n = density
    grid = np.array([(i, j, n - i - j) for i in range(1, n) for j in range(1, n - i)]) / n
    moved = []
    for point in grid:
        policy = game.policy(point)
        state = State(policy, policy.snapshot() if magnet is None else magnet)
        moved.append(solver.step(game, state, None).policy.probs[0] - point)
    with theme():
        if ax is None:
            ax = plt.figure(figsize=(4.2, 3.8)).add_subplot(projection="ternary")
        ax.quiver(*grid.T, *np.array(moved).T, color=color, alpha=0.5, width=0.008, zorder=1)
    return ax


def _magnets(states: Sequence[State[Any]], player: int) -> list[Array]:
    """Where the magnets of a run stood, if they pull."""
    # The first state has taken no step, so it does not know whether its magnet pulls.
    if not any(np.any(state.alpha) for state in states[1:] if state.alpha is not None):
        return []
    found = [states[0].magnet]
    for state in states:
        if state.magnet is not found[-1]:
            found.append(state.magnet)
    return [magnet.probs[player] for magnet in found]


def _names(policy: Any, player: int) -> list[str] | None:
    """The names of the three actions, if the policy has any."""
    rows = getattr(policy, "actions", ())
    row = rows[player if len(rows) > 1 else 0] if rows else ()
    return [literal(name) for name in row] if len(row) == 3 else None
