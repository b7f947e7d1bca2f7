"""The names from before release 0.2, for scripts and saved files that use them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from mpo_games.checks import require_positive, require_ratio
from mpo_games.choices.feedback import AgainstMixture
from mpo_games.choices.magnets import WhenGapFell, WhenInnerSolved
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.games.tree_builder import Node, build_tree
from mpo_games.policies.dilation import unit
from mpo_games.protocol import Game, P, State
from mpo_games.solvers.averaged import PlayedAverage
from mpo_games.written import written

Mixed = AgainstMixture
WhenSolved = WhenGapFell
AverageOf = PlayedAverage

SPELLINGS = {
    r"\bMixed\(": "AgainstMixture(",
    r"\bWhenSolved\(": "WhenGapFell(",
    r"\bAverageOf\(": "PlayedAverage(",
    # Only with the solver's own `alpha` is it the schedule of today.
    r"\balpha=([^,]+), magnet=WhenSettled\(ratio=([^,]+), alpha=\1, ": (
        r"alpha=\1, magnet=WhenInnerSolved(ratio=\2, "
    ),
}
"""Regular expressions for earlier spellings in the text of a solver, and today's spellings."""


@dataclass(frozen=True, slots=True)
class WhenSettled:
    """`WhenInnerSolved`, when it had to be told the solver's `alpha` a second time."""

    ratio: float
    alpha: float
    check: int = 10

    __repr__ = written

    def __post_init__(self) -> None:
        require_ratio(self.ratio, self.check)
        require_positive("alpha", self.alpha)

    def __call__(self, game: Game[P, Any], state: State[P]) -> State[P]:
        # The solver's own weight may differ: it must not be lost, nor used here.
        told = replace(state, alpha=self.alpha)
        return replace(WhenInnerSolved(self.ratio, self.check)(game, told), alpha=state.alpha)


def build(root: Node, weights: Dilation = unit) -> SequenceFormGame:
    """`build_tree` by its earlier name and with its earlier parameter `weights`."""
    return build_tree(root, weights)


def respelled(solver: str) -> str:
    """The text of a solver from a saved run, in today's names."""
    for earlier, today in SPELLINGS.items():
        solver = re.sub(earlier, today, solver)
    return solver
