"""A run at a game's table: the model plays both seats, and every distance is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpo_games.capabilities import answer_of
from mpo_games.protocol import Solver, State
from mpo_llm.config import Config
from mpo_llm.networks.base import Network
from mpo_llm.networks.processes import Processes
from mpo_llm.training import fingerprint, played, tables
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.ledger import Ledger
from mpo_llm.training.played import Played
from mpo_llm.training.tables import Table
from mpo_llm.trees.episodes import Log
from mpo_llm.trees.game import TextTreeGame
from mpo_llm.trees.policy import TreePolicy


@dataclass(frozen=True, slots=True, eq=False)
class AtTable:
    """What a run on a game of hidden information trains on."""

    config: Config
    table: Table
    solver: Solver
    identity: Identity
    start: TreePolicy
    """What the model plays as it was loaded."""

    @classmethod
    def of(
        cls,
        config: Config,
        ledger: Ledger,
        device: torch.device,
        processes: Processes,
        *,
        shard: bool = False,
    ) -> AtTable:
        """Load the game and the model, and compute what it plays."""
        table = tables.table(config, device, processes, shard=shard, meter=ledger.engine)
        identity = fingerprint.of_table(config, table)
        drawn = table.game.speaker is not None
        # Nobody judges, and mostly nothing is drawn from the model.
        for name in ("judge_calls", "judge_failures", *(() if drawn else ("samples", "tokens"))):
            del ledger.counts[name]
        for name in ("judging", *(() if drawn else ("generation",))):
            del ledger.seconds[name]
        if drawn:
            ledger.counts["illegal"] = 0
        if config.game.episodes is not None:
            ledger.counts["episodes"] = 0
        solver = tables.chosen(config, table.game)
        return cls(config, table, solver, identity, table.game.initial_policy())

    @property
    def game(self) -> TextTreeGame:
        """The game that is played."""
        return self.table.game

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.start.network

    @property
    def known(self) -> dict[bytes, float]:
        """There is no judge."""
        return {}

    def first(self, ledger: Ledger) -> TreePolicy:
        """The model after its lessons: it has learned which answers the rules allow."""
        policy, uniform = self.start, self.game.tree.initial_policy()
        for _ in range(self.config.game.lessons):
            with ledger.time("step"):
                policy = policy.towards(uniform)
            assert policy.report is not None
            ledger.counts["gradient_steps"] += policy.report.gradients
        return policy

    def count(self, state: State[TreePolicy], ledger: Ledger) -> None:
        """The episodes that the state remembers, and the illegal answers of the last ones."""
        log = Log.remembered(state.memory)
        if log is not None:
            ledger.counts["episodes"] = round(log.episodes)
        speaker = self.game.speaker
        if speaker is not None:
            ledger.counts["illegal"] += speaker.illegal
            speaker.illegal = 0

    def row(self, state: State[TreePolicy], ledger: Ledger) -> Mapping[str, Any]:
        """The strength of the step and the loss of its fit; and exactly, where an evaluation is
        due, how far the answer is from equilibrium and how much of it is legal."""
        report = ledger.report
        row: dict[str, Any] = {
            "evaluations": state.evaluations,
            "eta": None if state.eta is None else float(state.eta),
            "alpha": None if state.alpha is None else float(state.alpha),
            "moved_at": state.moved_at,
            "loss": None if report is None else report.loss,
        }
        if state.step % self.config.evaluation.every == 0:
            policy = self.answer(state)
            row |= {
                "exploitability": played.exploitability(self.table, policy),
                "iterate_exploitability": played.exploitability(self.table, state.policy),
                "legal": float(np.mean(policy.legal)),
                "least_legal": float(np.min(policy.legal)),
            }
        return row

    def entries(self, ledger: Ledger) -> Sequence[Mapping[str, Any]]:
        """No responses are drawn: the whole strategy is known."""
        return ()

    def answer(self, state: State[TreePolicy]) -> TreePolicy:
        """What the solver answers with: the last iterate, or an average of weights."""
        return answer_of(self.solver, self.game, state)

    def compared(self, state: State[TreePolicy]) -> Played:
        """The play of the answer and of the start."""
        return played.beside(self.table, self.answer(state), {"start": self.start})
