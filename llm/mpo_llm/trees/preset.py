r"""What `AutoMPO` is on trees that networks play, with nothing to choose.

Two of the core's choices differ. `reflected` takes the place of `alternating_popov`, whose base
point would be a network of its own that no network quite reaches; and the magnet moves when the gap
has halved (`Leap` needs a point that is no network's).
"""

from __future__ import annotations

from mpo_games.choices.feedback import reflected
from mpo_games.choices.geometry import smoothed
from mpo_games.choices.magnets import Every, WhenGapFell
from mpo_games.choices.strength import Anchored, Measured
from mpo_games.solvers.magnetic import MMD
from mpo_llm.trees.selfplay import Pooled

ON_TREES = MMD(Measured(0.45), Anchored(), WhenGapFell(0.5, 1), reflected, geometry=smoothed)
"""`AutoMPO` on `TextTreeGame`."""

# A gap of an estimate that still changes decides nothing, and neither does a step size measured on
# it. The smoothed geometry is in units of payoff, so 1 is a step size for any game.
ON_EPISODES = MMD(1.0, Anchored(), Every(30), Pooled(), geometry=smoothed)
"""`AutoMPO` on `TextTreeGame` with `episodes`."""
