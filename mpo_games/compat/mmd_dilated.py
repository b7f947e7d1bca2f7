"""A drop-in for OpenSpiel's `mmd_dilated`: the same iterates from this library's solver."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mpo_games.checks import require_steps, require_weight
from mpo_games.compat.openspiel_sequences import (
    EMPTY_ACTIONS,
    EMPTY_STATES,
    OpenSpielSequences,
    openspiel_sequences,
)
from mpo_games.games import openspiel
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, Indices, Mask, State
from mpo_games.solvers.magnetic import MMD

if TYPE_CHECKING:
    import pyspiel

ASSIGNABLE = ("alpha", "stepsize", "sequences", "avg_sequences", "iteration_count", "state")
"""What a script may assign, between updates."""

NEVER = -1e6
"""The log-probability of an action that a script has set to 0. The mirror step of the entropy
cannot leave 0, and this number stays far below every other."""


class MMDDilatedEnt:
    r"""Magnetic mirror descent with dilated entropy (Sokota et al., ICLR 2023, section 4).

    It has the methods and attributes of `open_spiel.python.algorithms.mmd_dilated.MMDDilatedEnt`,
    so a script only changes one import. Its policies converge to the $\alpha$-reduced-normal-form
    QRE. `alpha`, `stepsize`, `sequences`, `avg_sequences` and `iteration_count` may be assigned
    between updates. `AttributeError` for any other attribute, since it would have no effect.
    """

    game: pyspiel.Game
    """The game; turn-based if a simultaneous one was given."""
    compiled: SequenceFormGame
    """The same game in this library's sequence form."""

    def __init__(self, game: pyspiel.Game, alpha: float, stepsize: float | None = None) -> None:
        r"""Compile `game`, a `pyspiel.Game` or a game string, and start at uniform play.

        The default `stepsize` is $\alpha / \max|A|^2$. A warning if that is 0: updates then move
        nothing. `ValueError` for `alpha < 0`, and for a game that cannot be compiled.
        """
        source = openspiel.turn_based(game)
        kind = source.get_type()
        # As in OpenSpiel's class, whose names and payoffs these are.
        if kind.utility.name != "ZERO_SUM" or not kind.provides_information_state_string:
            raise ValueError(f"`game` must be zero-sum with information-state strings: {source}.")
        # A string, and not the object that was made of it, finds the compiled game on the disk.
        compiled = openspiel.compile_game(game if isinstance(game, str) else source)
        vars(self).update(game=source, compiled=compiled)
        self.alpha = alpha
        if stepsize is None:
            bound = float(compiled.bound)
            if alpha and not bound:
                raise ValueError(
                    "`stepsize` must be given: its default is infinite, as all payoffs are 0."
                )
            stepsize = self.alpha / bound**2 if alpha else 0.0
        self.stepsize = stepsize
        if not stepsize:
            warnings.warn(
                "`stepsize` is 0, so updates move nothing: its default is 0 if `alpha` is 0.",
                stacklevel=2,
            )
        self._uniform = compiled.initial_policy()
        # OpenSpiel's class has no magnet: its pull is the entropy's own, towards its minimiser.
        self.state = State(self._uniform, compiled.center())
        self._average = self._uniform.plan
        self._average_shown: _Shown | None = None
        self._solver: MMD | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        # A class that a user derives from this one may have attributes of its own.
        own = type(self) is MMDDilatedEnt or hasattr(self, name)
        if own and not name.startswith("_") and name not in ASSIGNABLE:
            raise AttributeError(
                f"Assigning `{name}` has no effect on the updates. These can be assigned: "
                f"{', '.join(f'`{known}`' for known in ASSIGNABLE)}."
            )
        super().__setattr__(name, value)

    @property
    def alpha(self) -> float:
        """The weight of the entropy, at least 0."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        require_weight("alpha", alpha)
        self._alpha, self._solver = float(alpha), None

    @property
    def stepsize(self) -> float:
        """The step size; 0 moves nothing."""
        return self._stepsize

    @stepsize.setter
    def stepsize(self, stepsize: float) -> None:
        require_weight("stepsize", stepsize)
        self._stepsize, self._solver = float(stepsize), None

    @property
    def state(self) -> State[TreeplexPolicy]:
        """The state of the solver: the policy, and the magnet."""
        self._take()
        return self._state

    @state.setter
    def state(self, state: State[TreeplexPolicy]) -> None:
        self._state = state
        self._shown: _Shown | None = None
        self._zeros: Mask | None = None

    @property
    def iteration_count(self) -> int:
        """The number of iterates in the average: the first, and one per update."""
        return self._state.step + 1

    @iteration_count.setter
    def iteration_count(self, count: int) -> None:
        require_steps("iteration_count", count)
        self._state = replace(self._state, step=int(count) - 1)

    @property
    def sequences(self) -> list[Array]:
        """Each player's realisation plan, in the order of `infoset_actions_to_seq`.

        A script may assign it, or write into it: the next update starts there. `ValueError` for
        anything that is not a realisation plan. A sequence of 0 stays 0.
        """
        if self._shown is None:
            self._shown = _Shown.of(self._state.policy.plan, self._tables)
        return self._shown.parts

    @sequences.setter
    def sequences(self, parts: Sequence[ArrayLike]) -> None:
        plan = self._tables.joined(parts, "sequences")
        self._move(plan)
        self._shown = _Shown(_list(parts), plan)

    @property
    def avg_sequences(self) -> list[Array]:
        """Each player's average realisation plan; a script may assign it, or write into it."""
        if self._average_shown is None:
            self._average_shown = _Shown.of(self._average, self._tables)
        return self._average_shown.parts

    @avg_sequences.setter
    def avg_sequences(self, parts: Sequence[ArrayLike]) -> None:
        self._average = self._tables.joined(parts, "avg_sequences")
        self._average_shown = _Shown(_list(parts), self._average)

    def update_sequences(self) -> None:
        """One step of magnetic mirror descent for both players at once."""
        state = self.state
        if self._stepsize:
            if self._solver is None:
                self._solver = MMD(self._stepsize, self._alpha)
            zeros = self._zeros
            self.state = self._solver.step(self.compiled, state)
            if zeros is not None:
                self._close(zeros)
        else:
            self._state = replace(state, step=state.step + 1)
        self.update_avg_sequences()

    def update_avg_sequences(self) -> None:
        """Take the current iterate into the average, with a weight of `1 / iteration_count`."""
        plan, average = self.state.policy.plan, self._averaged()
        self._average = average + (plan - average) / self.iteration_count
        if self._average_shown is not None:
            # OpenSpiel's list of averages is one object for the whole run.
            parts = self._average_shown.parts
            parts[:] = self._tables.split(self._average)
            self._average_shown = _Shown(parts, self._average)

    def get_gap(self) -> float:
        """The saddle-point gap of the regularised game; the duality gap if `alpha` is 0."""
        state = self.state
        return float(self.compiled.regularised_gap(state.policy, state.magnet, self.alpha))

    def current_sequences(self) -> list[Array]:
        """Each player's realisation plan, `sequences`."""
        return self.sequences

    def get_avg_sequences(self) -> list[Array]:
        """Each player's average realisation plan, `avg_sequences`."""
        return self.avg_sequences

    def get_policies(self) -> Any:
        """The current policy, an OpenSpiel `TabularPolicy`; uniform where play does not lead."""
        return self._table_of(self.state.policy.plan)

    def get_avg_policies(self) -> Any:
        """The policy of the average plan, an OpenSpiel `TabularPolicy`, likewise."""
        return self._table_of(self._averaged())

    def get_parent_seq(self, player: int, infostate: str) -> float:
        """The entry of `sequences` that leads to an information state."""
        above = self.infoset_parent_map[player][infostate]
        if above is None:
            raise ValueError(f"Nothing leads to {infostate!r}: it is the empty sequence.")
        return float(self.sequences[player][self.infoset_actions_to_seq[player][above]])

    def get_infostate_seq(self, player: int, infostate: str) -> Array:
        """The entries of `sequences` at the actions of an information state."""
        place = self.infoset_actions_to_seq[player]
        keys = self.infoset_action_maps[player][infostate]
        return np.array([self.sequences[player][place[key]] for key in keys], dtype=np.float64)

    def dgf_eval(self) -> list[float]:
        """The dilated negative entropy of each player's sequences."""
        policy, own = self.state.policy, self.compiled.tree.own
        terms = policy.plan * policy.log_probs
        return [float(terms[own(player)].sum()) for player in (0, 1)]

    def dgf_grads(self) -> list[Array]:
        """The gradient of `dgf_eval`, in the order of the sequences.

        `-inf` at a sequence of 0, and 0 at the information states that no play leads to.
        """
        tree, policy = self.compiled.tree, self.state.policy
        plan = policy.plan
        below = np.bincount(tree.parent, minlength=tree.sequences)
        grads = np.where(plan > 0.0, policy.log_probs + 1.0 - below, -np.inf)
        grads[:2] = 0.0
        grads[plan[self._above] == 0.0] = 0.0
        return self._tables.split(grads)

    @property
    def empy_state_action_keys(self) -> list[str]:
        """The names of the empty sequences; the spelling is OpenSpiel's."""
        return list(EMPTY_ACTIONS)

    @property
    def empty_infoset_keys(self) -> list[str]:
        """The names of the information states above the empty sequences."""
        return list(EMPTY_STATES)

    @property
    def infosets(self) -> list[dict[str, int]]:
        """For each player, the number of each information state."""
        return self._tables.infosets

    @property
    def infoset_actions_to_seq(self) -> list[dict[str, int]]:
        """For each player, the place of each `"information state -=- action"` in its sequences."""
        return self._tables.infoset_actions_to_seq

    @property
    def infoset_action_maps(self) -> list[dict[str, list[str]]]:
        """For each player, the `"information state -=- action"` of each information state."""
        return self._tables.infoset_action_maps

    @property
    def infoset_parent_map(self) -> list[dict[str, str | None]]:
        """For each player, the `"information state -=- action"` above each information state."""
        return self._tables.infoset_parent_map

    @property
    def infoset_actions_children(self) -> list[dict[str, list[str]]]:
        """For each player, the information states below `"information state -=- action"`."""
        return self._tables.infoset_actions_children

    @cached_property
    def payoff_mat(self) -> Array:
        """What player 0 pays, by both players' sequences; dense and read-only."""
        game, tables = self.compiled, self._tables
        place = np.empty(game.tree.sequences, dtype=np.int64)
        for order in tables.order:
            place[order] = np.arange(order.size)
        matrix = np.zeros([order.size for order in tables.order])
        rows = np.repeat(np.arange(game.tree.sequences), np.diff(game.row))
        matrix[place[rows], place[game.column]] = -game.payoff
        matrix.setflags(write=False)
        return matrix

    @cached_property
    def _tables(self) -> OpenSpielSequences:
        """OpenSpiel's names. Only who reads sequences needs them, and they take a walk."""
        return openspiel_sequences(self.game, self.compiled)

    @cached_property
    def _above(self) -> Indices:
        """The sequence above each sequence; the empty ones are above themselves."""
        tree = self.compiled.tree
        return np.append([0, 1], np.repeat(tree.parent, np.diff(tree.offset)))

    @cached_property
    def _blank(self) -> Any:
        """A table to copy, since OpenSpiel walks the whole game to lay out a new one."""
        return openspiel.to_openspiel(self.game, self.compiled, self._uniform)

    def _table_of(self, plan: Array) -> Any:
        table = copy.copy(self._blank)
        return openspiel.write_table(table, self.compiled, self._uniform.at(plan))

    def _take(self) -> None:
        """Go to what a script has written into `sequences` since they were shown."""
        if self._shown is not None:
            plan = self._tables.joined(self._shown.parts, "sequences")
            if not np.array_equal(plan, self._shown.plan):
                shown = _Shown(self._shown.parts, plan)
                self._move(plan)
                self._shown = shown

    def _averaged(self) -> Array:
        """The average plan, with what a script has written into `avg_sequences`."""
        if self._average_shown is not None:
            self._average = self._tables.joined(self._average_shown.parts, "avg_sequences")
        return self._average

    def _move(self, plan: Array) -> None:
        """Make `plan` the current iterate."""
        found = self._uniform.at(plan)
        # An empty step normalises the logarithms exactly as the steps do. Therefore the gap of a
        # policy that is its own regularised best response is 0, without rounding errors.
        found = found.mirror_step(np.zeros_like(plan), None, eta=1.0, alpha=0.0)
        self.state = replace(self._state, policy=found)
        reached = self._state.policy.plan
        zeros = (reached == 0.0) & (reached[self._above] > 0.0)
        if zeros.any():
            self._close(zeros)

    def _close(self, zeros: Mask) -> None:
        """Keep the actions `zeros` at probability 0, in this step and the next."""
        policy = self._state.policy
        coordinates = np.where(zeros, NEVER, policy.coordinates)
        self.state = replace(self._state, policy=policy.replace(coordinates))
        self._zeros = zeros


@dataclass(frozen=True, slots=True)
class _Shown:
    """Sequences that a script holds and may write into, and the plan that they were."""

    parts: list[Array]
    plan: Array

    @classmethod
    def of(cls, plan: Array, tables: OpenSpielSequences) -> _Shown:
        return cls(tables.split(plan), plan)


def neg_entropy(probs: ArrayLike) -> Any:
    """The negative entropy of `probs` in nats, along the first axis, after it is normalised."""
    p = np.asarray(probs, dtype=np.float64)
    p = p / p.sum(axis=0)
    return np.sum(p * np.log(np.where(p > 0.0, p, 1.0)), axis=0)


def softmax(x: ArrayLike) -> Array:
    """`exp(x)`, normalised to sum to 1 over all entries."""
    x = np.asarray(x, dtype=np.float64)
    weights = np.exp(x - x.max())
    return np.asarray(weights / weights.sum())


def divergence(x: Array, y: Array, psi_x: float, psi_y: float, grad_psi_y: Array) -> float:
    """The Bregman divergence of `psi` from `y` to `x`: `psi(x) - psi(y) - <grad psi(y), x - y>`."""
    return psi_x - psi_y - np.dot(grad_psi_y, x - y)  # type: ignore[no-any-return]


def dilated_dgf_divergence(mmd_1: MMDDilatedEnt, mmd_2: MMDDilatedEnt) -> float:
    """The Bregman divergence of the dilated entropy from `mmd_2` to `mmd_1`, over both players.

    It is infinite if `mmd_1` plays what `mmd_2` never does. `ValueError` if the two have different
    games.
    """
    ours, theirs = mmd_1.state.policy, mmd_2.state.policy
    if ours.plan.shape != theirs.plan.shape:
        raise ValueError("`mmd_1` and `mmd_2` must be of one game.")
    if (ours.plan[theirs.plan == 0.0] > 0.0).any():
        return np.inf
    return float(mmd_1.compiled.divergence(ours, theirs))


def _list(parts: Sequence[ArrayLike]) -> list[Any]:
    """The list itself, because a script may write into it after it has assigned it."""
    return parts if isinstance(parts, list) else list(parts)
