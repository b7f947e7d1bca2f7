r"""What `AutoMPO` is on games of texts: there is nothing to choose.

Each ingredient is a value of one of `MMD`'s choices, and can be used alone.
"""

from __future__ import annotations

from mpo_games.choices.feedback import optimistic
from mpo_games.solvers.magnetic import MMD
from mpo_llm.averages import WeightAveraged
from mpo_llm.magnets import WeightEma
from mpo_llm.pulls import SolvedBy
from mpo_llm.revisits import Revisited
from mpo_llm.step.guard import Guard
from mpo_llm.step.minimisers import Adam, constant
from mpo_llm.strength import ByNoise

INNER = SolvedBy(
    Adam(16, 3e-3, constant, (0.9, 0.99), keep_first=True),
    guard=Guard(),
)

ON_TOKENS = WeightAveraged(MMD(1.6, ByNoise(), WeightEma(0.02), Revisited(), INNER))
"""`AutoMPO` on games of texts."""

ON_EXACT_TOKENS = WeightAveraged(MMD(1.6, ByNoise().least, WeightEma(0.02), optimistic, INNER))
"""`AutoMPO` on enumerable languages with exact feedback: it has no noise."""
