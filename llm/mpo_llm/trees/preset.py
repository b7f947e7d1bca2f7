r"""What `AutoMPO` is on trees that networks play, with nothing to choose.

Two of the core's choices differ. `reflected` takes the place of `alternating_popov`, whose base
point would be a network of its own that no network quite reaches; and the magnet moves when the gap
has halved (`Leap` needs a point that is no network's).

A step starts where the last fit ended, so the errors of fits add up, and play walks about the point
that the steps lead to. The answer is therefore an average of weights: a network as well, in which
the errors of ten steps cancel in part.
"""

from __future__ import annotations

from mpo_games.choices.feedback import reflected
from mpo_games.choices.geometry import smoothed
from mpo_games.choices.magnets import Every, WhenGapFell
from mpo_games.choices.strength import Anchored, Measured
from mpo_games.solvers.magnetic import MMD
from mpo_llm.averages import WeightAveraged
from mpo_llm.trees.selfplay import Pooled

MEAN = 0.1
"""The rate of the answer's average of weights."""

ON_TREES = WeightAveraged(
    MMD(Measured(0.45), Anchored(), WhenGapFell(0.5, 1), reflected, geometry=smoothed),
    MEAN,
    answers=True,
)
"""`AutoMPO` on `TextTreeGame`."""

# A gap of an estimate that still changes decides nothing, and neither does a step size measured on
# it. The smoothed geometry is in units of payoff, so 1 is a step size for any game.
ON_EPISODES = MMD(1.0, Anchored(), Every(30), Pooled(), geometry=smoothed)
"""`AutoMPO` on `TextTreeGame` with `episodes`."""
