"""A drop-in for OpenSpiel's `MMDDilatedEnt`: the same iterates from this library's solver."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mpo_games.checks import require_positive, require_weight
from mpo_games.games import openspiel
from mpo_games.games.sequence_form import SequenceFormGame
from mpo_games.policies.treeplex import TreeplexPolicy
from mpo_games.protocol import Array, State
from mpo_games.solvers.magnetic import MMD

if TYPE_CHECKING:
    import pyspiel


class MMDDilatedEnt:
    r"""Magnetic mirror descent with dilated entropy (Sokota et al., ICLR 2023, section 4).

    It has the methods of `open_spiel.python.algorithms.mmd_dilated.MMDDilatedEnt`, so a script only
    changes one import. Its policies converge to the $\alpha$-reduced-normal-form QRE. `alpha` and
    `stepsize` may be assigned between updates, to anneal them.
    """

    def __init__(self, game: pyspiel.Game, alpha: float, stepsize: float | None = None) -> None:
        r"""Compile `game`, a `pyspiel.Game` or a game string, and start at uniform play.

        The default `stepsize` is $\alpha / \max|A|^2$. `ValueError` for `alpha < 0`, for
        `alpha = 0` without a `stepsize`, and for a game that cannot be compiled.
        """
        require_weight("alpha", alpha)
        if stepsize is None and alpha == 0:
            raise ValueError("`stepsize` must be given if `alpha` is 0: its default would be 0.")
        # OpenSpiel's class has attributes `game`, `alpha` and `stepsize`, too: scripts use them.
        self.game = openspiel.turn_based(game)
        self.compiled: SequenceFormGame = openspiel.compile_game(self.game)
        self.alpha = float(alpha)
        self.stepsize = (
            self.alpha / float(self.compiled.bound) ** 2 if stepsize is None else stepsize
        )
        require_positive("stepsize", self.stepsize)
        self.uniform = self.compiled.initial_policy()
        # OpenSpiel's class has no magnet: its pull is the entropy's own, towards its minimiser.
        self.state = State(self.uniform, self.compiled.center())
        self.avg_plan: Array = self.uniform.plan
        self.solver = MMD(self.stepsize, self.alpha)

    @property
    def iteration_count(self) -> int:
        """The number of iterates in the average: the first, and one per update."""
        return self.state.step + 1

    def update_sequences(self) -> None:
        """One step of magnetic mirror descent for both players at once."""
        # The settings are attributes that a script may have assigned since the last update.
        if (self.solver.eta, self.solver.alpha) != (self.stepsize, self.alpha):
            self.solver = MMD(self.stepsize, self.alpha)
        self.state = self.solver.step(self.compiled, self.state)
        self.avg_plan = (
            self.avg_plan + (self.state.policy.plan - self.avg_plan) / self.iteration_count
        )

    def get_gap(self) -> float:
        """The saddle-point gap of the regularised game; the duality gap if `alpha` is 0."""
        state = self.state
        return float(self.compiled.regularised_gap(state.policy, state.magnet, self.alpha))

    def current_sequences(self) -> list[Array]:
        """Each player's realisation plan, in the order of `infoset_actions_to_seq`."""
        return self._by_player(self.state.policy.plan)

    def get_avg_sequences(self) -> list[Array]:
        """Each player's average realisation plan, in the order of `infoset_actions_to_seq`."""
        return self._by_player(self.avg_plan)

    def get_policies(self) -> Any:
        """The current policy, an OpenSpiel `TabularPolicy`."""
        return self._table_of(self.state.policy)

    def get_avg_policies(self) -> Any:
        """The policy of the average plan, an OpenSpiel `TabularPolicy`.

        It is uniform at states that the plan does not reach.
        """
        return self._table_of(self.uniform.at(self.avg_plan))

    @cached_property
    def infoset_actions_to_seq(self) -> list[dict[str, int]]:
        """For each player, the place of each `"information state -=- action"` in its sequences."""
        tree = self.compiled.tree
        names = [f"***EMPTY_INFOSET_ACTION_P{player}***" for player in (0, 1)]
        labels = (tree.labels[j] for j in tree.state_of[2:])
        names += [f"{j} -=- {a}" for j, a in zip(labels, tree.actions[2:], strict=True)]
        return [
            {names[s]: place for place, s in enumerate(np.flatnonzero(tree.owner == player))}
            for player in (0, 1)
        ]

    def _by_player(self, plan: Array) -> list[Array]:
        owner = self.compiled.tree.owner
        return [plan[owner == player] for player in (0, 1)]

    @cached_property
    def _blank(self) -> Any:
        """A table to copy, since OpenSpiel walks the whole game to lay out a new one."""
        return openspiel.to_openspiel(self.game, self.compiled, self.state.policy)

    def _table_of(self, policy: TreeplexPolicy) -> Any:
        return openspiel.write_table(copy.copy(self._blank), self.compiled, policy)
