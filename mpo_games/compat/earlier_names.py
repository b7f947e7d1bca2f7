"""The names from before release 0.2, for scripts and saved files that use them."""

from __future__ import annotations

import re

from mpo_games.checks import require_positive
from mpo_games.choices.feedback import AgainstMixture
from mpo_games.choices.magnets import WhenGapFell, WhenInnerSolved
from mpo_games.games.sequence_form import Dilation, SequenceFormGame
from mpo_games.games.tree_builder import Node, build_tree
from mpo_games.policies.dilation import unit
from mpo_games.solvers.averaged import PlayedAverage

Mixed = AgainstMixture
WhenSolved = WhenGapFell
AverageOf = PlayedAverage

SPELLINGS = {
    r"\bMixed\(": "AgainstMixture(",
    r"\bWhenSolved\(": "WhenGapFell(",
    r"\bAverageOf\(": "PlayedAverage(",
    r"\bWhenSettled\(ratio=([^,]+), alpha=[^,]+, ": r"WhenInnerSolved(ratio=\1, ",
}
"""Regular expressions for earlier spellings in the text of a solver, and today's spellings."""


def WhenSettled(ratio: float, alpha: float, check: int = 10) -> WhenInnerSolved:
    """`WhenInnerSolved` by its earlier name and with its earlier parameter `alpha`."""
    # Today the schedule reads `alpha` from the state, so it is only checked here.
    require_positive("alpha", alpha)
    return WhenInnerSolved(ratio, check)


def build(root: Node, weights: Dilation = unit) -> SequenceFormGame:
    """`build_tree` by its earlier name and with its earlier parameter `weights`."""
    return build_tree(root, weights)


def respelled(solver: str) -> str:
    """The text of a solver from a saved run, in today's names."""
    for earlier, today in SPELLINGS.items():
        solver = re.sub(earlier, today, solver)
    return solver
