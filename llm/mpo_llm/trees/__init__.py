"""Games of hidden information that language models play: the trees of the core, told in tokens.

An information state is a prompt, an action is an answer to it. A network's play is a point of the
tree, so gaps are exact, and the mirror step is the tree's own closed form; the network is fitted
to it (`fitting.py`).

Shapes in this folder: `states` counts the information states of both players, `sequences` their
sequences, the empty ones included, as in `mpo_games.policies.tree`.
"""

from mpo_llm.trees.drawing import Speaker as Speaker
from mpo_llm.trees.english import kuhn as kuhn
from mpo_llm.trees.english import leduc as leduc
from mpo_llm.trees.english import leduc_signs as leduc_signs
from mpo_llm.trees.english import liars_dice as liars_dice
from mpo_llm.trees.episodes import Log as Log
from mpo_llm.trees.episodes import balanced as balanced
from mpo_llm.trees.episodes import counted_deals as counted_deals
from mpo_llm.trees.episodes import own_ratios as own_ratios
from mpo_llm.trees.fitting import Fit as Fit
from mpo_llm.trees.game import TextTreeGame as TextTreeGame
from mpo_llm.trees.game import legal as legal
from mpo_llm.trees.policy import TreePolicy as TreePolicy
from mpo_llm.trees.preset import ON_EPISODES as ON_EPISODES
from mpo_llm.trees.preset import ON_TREES as ON_TREES
from mpo_llm.trees.selfplay import Pooled as Pooled
from mpo_llm.trees.wording import Compact as Compact
from mpo_llm.trees.wording import Wording as Wording
from mpo_llm.trees.wording import compact as compact
from mpo_llm.trees.wording import verbatim as verbatim
