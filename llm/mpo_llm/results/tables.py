"""After training at a game's table: what a run plays, and who exploits whom. All of it is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import mpo_games as mg
from mpo_games.protocol import Mixture
from mpo_llm.config import Config, ModelConfig
from mpo_llm.estimates import plain
from mpo_llm.results.outcomes import START
from mpo_llm.training import checkpoint, tables
from mpo_llm.training.played import MOST_STATES, Move, Played, beside
from mpo_llm.training.tables import Table
from mpo_llm.trees.policy import TreePolicy

SMALLEST = 1e-4
"""The smallest loss a game that is told, in units of payoff: reports have four digits."""


def payoff(value: float) -> str:
    """A payoff with its sign, in four digits; a loss that rounds to 0 has no sign of its own."""
    return f"{round(value, 4) + 0.0:+.4f}"


def evaluate(path: str, against: Sequence[str] = (START,)) -> Played:
    """What the checkpoint `path`, or the last one of the run `path`, plays.

    `against` names other policies of the same game: `START`, checkpoints, runs (their last
    checkpoint) or other models. `ValueError` for names that cannot be found, and for runs of
    another game.
    """
    hall = _Hall.of(path)
    policy = hall.policy(path)
    return beside(hall.table, policy, {name: hall.policy(name) for name in against})


def report(path: str, found: Played) -> str:
    """The lines that are printed of an evaluation."""
    lines = [
        f"{path}: {found.game}, {found.states:,} information states; all numbers are exact",
        f"  exploitability     {found.exploitability:.4f}",
        f"  value              {found.value:+.4f} for the first seat, against itself",
        f"  legal answers      {found.legal:.4f} in the mean over the states, "
        f"{found.least_legal:.4f} at least",
    ]
    for name, other in found.opponents.items():
        first, second = other.seats
        lines += [
            f"against {name} (exploitability {other.exploitability:.4f}, "
            f"legal answers {other.legal:.4f})",
            f"  payoff a game      {payoff(other.payoff)}: {payoff(first)} in the first seat, "
            f"{payoff(second)} in the second",
        ]
    return "\n".join([*lines, *strategy(found)])


def strategy(found: Played) -> list[str]:
    """The strategy, a line for each information state that is shown."""
    shown = found.shown()
    few = min(found.states, MOST_STATES)
    which = "" if few == found.states else f" at the {few} likeliest states"
    lines = [f"strategy{which} (before)"]
    by_state: dict[str, list[Move]] = {}
    for move in shown:
        by_state.setdefault(move.state, []).append(move)
    width = max((len(moves[0].told) for moves in by_state.values()), default=0)
    for moves in by_state.values():
        said = "  ".join(f"{m.said} {m.probability:.2f} ({m.before:.2f})" for m in moves)
        lines.append(f"  {moves[0].told:{width}}  {said}")
    return lines


@dataclass(frozen=True, slots=True)
class TableLeague:
    """The results of n entrants at one table, all against all. All numbers are exact.

    The last entrant is the model in question: the one that would be released.
    """

    game: str
    """The game's name."""
    names: tuple[str, ...]
    """The names of the n entrants."""
    payoffs: Sequence[Sequence[float]]
    """What i wins against j a game `[i][j]`, in the mean over both seats and over chance."""
    first_seat: Sequence[Sequence[float]]
    """What i wins in the first seat, with j in the second, `[i][j]`."""
    exploitability: Mapping[str, float]
    """What a best response wins against each entrant a game, beyond the value, in the mean over
    both seats."""
    equilibrium: Mapping[str, float]
    """The Nash equilibrium of choosing an entrant: the mixture that no entrant beats."""
    mixture: float
    """The exploitability of that mixture."""

    def __str__(self) -> str:
        width = max(12, *(len(name) + 2 for name in self.names))
        head = "".join(f"{name:>{width}}" for name in (*self.names, "equilibrium"))
        lines = [
            f"{self.game}: payoff a game, in the mean over both seats; all numbers are exact",
            f"{'payoff of':{width}}{head}  exploitability",
        ]
        for name, row in zip(self.names, self.payoffs, strict=True):
            numbers = "".join(f"{payoff(value):>{width}}" for value in row)
            lines.append(
                f"{name:{width}}{numbers}{self.equilibrium[name]:>{width}.3f}"
                f"  {self.exploitability[name]:.4f}"
            )
        losses = {name: row[-1] for name, row in zip(self.names, self.payoffs, strict=True)}
        best = max(losses, key=lambda name: losses[name])
        last = self.names[-1]
        verdict = (
            f"loses {losses[best]:.4f} a game to {best}: no other entrant wins more against it"
            if losses[best] >= SMALLEST
            else f"loses less than {SMALLEST} a game to each entrant"
        )
        return "\n".join(
            [
                *lines,
                f"the equilibrium's mixture of entrants has exploitability {self.mixture:.4f}",
                f"{last} {verdict}",
            ]
        )


def league(run: str, others: Sequence[str] = (), *, every: int = 1) -> TableLeague:
    """A league: a run's checkpoints, the model that it started from, and others, all against all.

    `every` takes only each n-th checkpoint, counted back from the last. `others` names further
    checkpoints, runs or models. `ValueError` as in `evaluate`, and for a folder without
    checkpoints.
    """
    if not every >= 1:
        raise ValueError(f"`every` must be at least 1, got {every}.")
    saved = checkpoint.listed(Path(run) / "checkpoints")
    if not saved:
        raise ValueError(f"{run} is not the folder of a run with checkpoints.")
    hall = _Hall.of(run)
    game = hall.table.game
    names = {START: START} | {name: name for name in others}
    names |= {path.name: str(path) for path in saved[::-every][::-1]}
    entrants = {name: hall.policy(where) for name, where in names.items()}
    values = np.array(
        [[float(game.value(one, two)) for two in entrants.values()] for one in entrants.values()]
    )
    payoffs = 0.5 * (values - values.T)
    equilibrium = mg.exact.nash(mg.MatrixGame(payoffs)).policy.probs[0]
    mixture = game.average(Mixture(tuple(entrants.values()), tuple(equilibrium.tolist())))
    return TableLeague(
        hall.table.name,
        tuple(entrants),
        payoffs.tolist(),
        values.tolist(),
        {name: 0.5 * float(game.duality_gap(policy)) for name, policy in entrants.items()},
        dict(zip(entrants, equilibrium.tolist(), strict=True)),
        0.5 * float(game.tree.duality_gap(mixture)),
    )


def as_json(found: Played | TableLeague) -> dict[str, Any]:
    """All results, as JSON."""
    whole: dict[str, Any] = plain(found)
    return whole


@dataclass(slots=True)
class _Hall:
    """The table of a run, to which other policies of the same game come."""

    config: Config
    table: Table
    start: TreePolicy

    @classmethod
    def of(cls, path: str) -> _Hall:
        config = checkpoint.config_of(path)
        table = tables.table(config)
        return cls(config, table, table.game.initial_policy())

    def policy(self, name: str) -> TreePolicy:
        """The policy of this name: `START`, a checkpoint, a run, or a model's name or path."""
        if name == START:
            return self.start
        if (Path(name) / checkpoint.HEADER).exists() or (Path(name) / "config.yaml").exists():
            config = checkpoint.config_of(name)
            if config.game.name != self.config.game.name:
                raise ValueError(
                    f"{name!r} {_played(config)}, and this is a table of {self.config.game.name}: "
                    "only players of the same game can meet."
                )
            # The same model that is told the same: then it is in memory only once.
            if _seat(config) == _seat(self.config):
                return checkpoint.answer_of_run(name, self.table, self.start)
            other = tables.table(config)
            return checkpoint.answer_of_run(name, other, other.game.initial_policy())
        settings = replace(self.config.game, wording=None)
        config = replace(self.config, model=ModelConfig(name), game=settings)
        return tables.table(config).game.initial_policy()


def _played(config: Config) -> str:
    return f"plays {config.game.name}" if config.game.name else "answers prompts"


def _seat(config: Config) -> tuple[Any, ...]:
    """What decides how a model sits at the table: the model, what it is told, its first weights."""
    told = (config.game.wording, config.game.chat)
    return config.model, *told, config.generation, config.step, config.seed
