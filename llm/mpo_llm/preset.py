r"""What `AutoMPO` is on games of texts: MPO with nothing to choose, for one prompt or many.

Each ingredient is a value of one of `MMD`'s choices, which can be used alone, and removes one
obstacle on which fixed settings fail.

| choice | value | what it is for |
| --- | --- | --- |
| feedback | `Revisited` | few responses a step, and prompts that a network forgets |
| magnet weight | `ByNoise` | the pull that many prompts need is too strong for one prompt |
| magnet | `WeightEma(.02)` | a mean of networks is one network |
| pull | `SolvedBy` | the step is solved well: 16 gradients of Adam, one descent through all steps |
| its cost | `ByRepeats` | long texts seldom come back, so those of earlier steps say little |
| which solve | `ByNovelty` | where all texts are new, a good fit says little of other texts |
| its guard | `Guard` | a late step that goes far too far |
| its rate | `Reaching` | the rate that suits a network depends on its width |

The step size is 1.6 in units of `1 / (P - 1/2)`. The answer is the last iterate. The average of
weights beside it, `state.memory["average"]`, is better where nothing that is learned at one prompt
helps at another.

**Observations.** All of this was found by trials on languages with exact gaps, and no theorem says
that it converges. In a simulation of these trials one game in five broke down late without the
guard, and Nash-MD with the same feedback and magnet was level where prompts are alike. So the lead
over published methods comes from feedback, magnet and solve, and not from the opponent.
"""

from __future__ import annotations

from mpo_games.choices.feedback import optimistic
from mpo_games.solvers.magnetic import MMD
from mpo_llm.averages import WeightAveraged
from mpo_llm.magnets import WeightEma
from mpo_llm.pulls import ACCURATELY, ByNovelty
from mpo_llm.revisits import Revisited
from mpo_llm.strength import ByNoise

ETA, DRIFT, MEAN = 1.6, 0.02, 0.05
"""The step size, and the rates of the magnet's and the answer's averages of weights."""

ON_TOKENS = WeightAveraged(MMD(ETA, ByNoise(), WeightEma(DRIFT), Revisited(), ByNovelty()), MEAN)
"""`AutoMPO` on games of texts."""

# All responses are known, so there is nothing to revisit and no noise: the least pull will do.
ON_EXACT_TOKENS = WeightAveraged(
    MMD(ETA, ByNoise().least, WeightEma(DRIFT), optimistic, ACCURATELY), MEAN
)
"""`AutoMPO` on enumerable languages with exact feedback."""
