"""What a run trains on: texts that a judge compares, or a game of hidden information.

The loop of `train.py` is the same for both. What differs stands behind these verbs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mpo_games.protocol import Game, Solver, State
from mpo_llm.networks.base import Network
from mpo_llm.training.checkpoint import Kept
from mpo_llm.training.comparison import Comparison
from mpo_llm.training.fingerprint import Identity
from mpo_llm.training.ledger import Ledger
from mpo_llm.training.played import Played


class Subject(Protocol):
    """What a run trains on."""

    @property
    def game(self) -> Game[Any, Any]:
        """The game that is played; the ledger counts what it costs."""
        ...

    @property
    def solver(self) -> Solver:
        """The solver that the configuration chooses."""
        ...

    @property
    def network(self) -> Network:
        """The network that is trained."""
        ...

    @property
    def identity(self) -> Identity:
        """What makes the run this run."""
        ...

    @property
    def start(self) -> Kept:
        """The policy as it was loaded: checkpoints are read onto it."""
        ...

    @property
    def known(self) -> dict[bytes, float]:
        """What a judge has said and the run has to remember; empty if nothing."""
        ...

    def first(self, ledger: Ledger) -> Kept | None:
        """The policy that steps start from, made now; None for `start`."""
        ...

    def count(self, state: State[Any], ledger: Ledger) -> None:
        """Tell the ledger what it cannot count by itself."""
        ...

    def row(self, state: State[Any], ledger: Ledger) -> Mapping[str, Any]:
        """The metrics of the state after a step, with an evaluation where one is due."""
        ...

    def entries(self, ledger: Ledger) -> Sequence[Mapping[str, Any]]:
        """Entries of the table of samples; empty if responses are not drawn."""
        ...

    def compared(self, state: State[Any]) -> Comparison | Played:
        """The last policy beside the start."""
        ...
