"""Magnetic Preference Optimization of language models: the solvers of `mpo_games` on tokens.

A run is `mg.solve(game, mg.MPO(eta, alpha, period), budget)` with a `TextPreferenceGame`.

This folder holds the nouns: policy, game, engines, feedback, magnets. Its subfolders hold the
machinery behind them. Shapes everywhere: N responses, T tokens in the longest of them, X prompts, V
ids of the vocabulary, d coordinates of a hidden state. Token ids and indices are int64.
Log-probabilities and KLs are in nats, advantages are in units of preference.

A name is imported when it is first asked for: the command line answers without torch.
"""

import typing as _typing
from importlib.util import find_spec as _find_spec

if _missing := [
    name
    for name in ("torch", "transformers", "accelerate", "peft", "safetensors", "yaml")
    if _find_spec(name) is None
]:
    raise ImportError(f'`mpo_llm` needs {", ".join(_missing)}: run `pip install "mpo-games[llm]"`.')

from mpo_games import __version__ as __version__
from mpo_llm.on_demand import exported as _exported

if _typing.TYPE_CHECKING:
    # Earlier names, for scripts written before release 0.2.
    from mpo_llm import divergence as divergence
    from mpo_llm import judges as judges
    from mpo_llm import preferences as preferences
    from mpo_llm import trees as trees
    from mpo_llm.averages import WeightAveraged as WeightAveraged
    from mpo_llm.engines import Autoregressive as Autoregressive
    from mpo_llm.engines import Colocated as Colocated
    from mpo_llm.engines import Drawn as Drawn
    from mpo_llm.engines import Engine as Engine
    from mpo_llm.engines import Generator as Generator
    from mpo_llm.engines import Server as Server
    from mpo_llm.engines import sample as sample
    from mpo_llm.enumerable import EnumerableGame as EnumerableGame
    from mpo_llm.enumerable import all_responses as all_responses
    from mpo_llm.feedback import Pool as Pool
    from mpo_llm.feedback import Replayed as Replayed
    from mpo_llm.game import TextPreferenceGame as TextPreferenceGame
    from mpo_llm.gap import Payoffs as Payoffs
    from mpo_llm.gap import estimated_gap as estimated_gap
    from mpo_llm.judges.protocol import Judge as Judge
    from mpo_llm.magnets import WeightEma as WeightEma
    from mpo_llm.measures.report import Report as Report
    from mpo_llm.measures.report import evaluate as evaluate
    from mpo_llm.networks.base import Network as Network
    from mpo_llm.networks.hugging_face import TransformersNetwork as TransformersNetwork
    from mpo_llm.networks.plain import PlainNetwork as PlainNetwork
    from mpo_llm.networks.small_transformer import SmallTransformer as SmallTransformer
    from mpo_llm.policy import TokenPolicy as TokenPolicy
    from mpo_llm.preset import ON_EXACT_TOKENS as ON_EXACT_TOKENS
    from mpo_llm.preset import ON_TOKENS as ON_TOKENS
    from mpo_llm.pulls import ByNovelty as ByNovelty
    from mpo_llm.pulls import SolvedBy as SolvedBy
    from mpo_llm.repeats import ByRepeats as ByRepeats
    from mpo_llm.responses import Decoding as Decoding
    from mpo_llm.responses import Responses as Responses
    from mpo_llm.results.export import export_policy as export_policy
    from mpo_llm.revisits import Revisited as Revisited
    from mpo_llm.step import kl_forms as kl_forms
    from mpo_llm.step.following import Following as Following
    from mpo_llm.step.guard import Guard as Guard
    from mpo_llm.step.likelihood import CrossEntropy as CrossEntropy
    from mpo_llm.step.minimisers import LBFGS as LBFGS
    from mpo_llm.step.minimisers import Adam as Adam
    from mpo_llm.step.minimisers import constant as constant
    from mpo_llm.step.minimisers import falling as falling
    from mpo_llm.step.objectives import Logistic as Logistic
    from mpo_llm.step.objectives import SequenceLevel as SequenceLevel
    from mpo_llm.step.objectives import Squared as Squared
    from mpo_llm.step.objectives import TokenLevel as TokenLevel
    from mpo_llm.step.proximal import Proximal as Proximal
    from mpo_llm.step.rates import Reaching as Reaching
    from mpo_llm.step.rollouts import Rollouts as Rollouts
    from mpo_llm.strength import ByNoise as ByNoise
    from mpo_llm.trees.game import TextTreeGame as TextTreeGame
    from mpo_llm.trees.policy import TreePolicy as TreePolicy
    from mpo_llm.trees.preset import ON_EPISODES as ON_EPISODES
    from mpo_llm.trees.preset import ON_TREES as ON_TREES

__getattr__, __dir__ = _exported(__name__)
__all__ = [name for name in __dir__() if not name.startswith("_")]
