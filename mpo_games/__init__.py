"""Magnetic Preference Optimization as a game-theory toolkit.

`import mpo_games as mg`, then
`mg.solve(mg.load("comal"), mg.MPO(eta=0.3, alpha=0.1, period=50), budget=3000)`.
"""

import sys as _sys

from mpo_games import cyclicity as cyclicity
from mpo_games import exact as exact
from mpo_games import metrics as metrics
from mpo_games import plot as plot
from mpo_games import theory as theory
from mpo_games.baselines import baselines as baselines
from mpo_games.choices import feedback as _feedback
from mpo_games.choices import magnets as _magnets
from mpo_games.choices import pull as _pull
from mpo_games.choices.feedback import AgainstMixture as AgainstMixture
from mpo_games.choices.feedback import alternating as alternating
from mpo_games.choices.feedback import alternating_popov as alternating_popov
from mpo_games.choices.feedback import current as current
from mpo_games.choices.feedback import half_step as half_step
from mpo_games.choices.feedback import optimistic as optimistic
from mpo_games.choices.feedback import popov as popov
from mpo_games.choices.feedback import reflected as reflected
from mpo_games.choices.geometry import as_given as as_given
from mpo_games.choices.geometry import smoothed as smoothed
from mpo_games.choices.magnets import Ema as Ema
from mpo_games.choices.magnets import Every as Every
from mpo_games.choices.magnets import Fixed as Fixed
from mpo_games.choices.magnets import Leap as Leap
from mpo_games.choices.magnets import WhenGapFell as WhenGapFell
from mpo_games.choices.magnets import WhenInnerSolved as WhenInnerSolved
from mpo_games.choices.pull import in_reward as in_reward
from mpo_games.choices.pull import mutation as mutation
from mpo_games.choices.pull import proximal as proximal
from mpo_games.choices.pull import squared as squared
from mpo_games.choices.strength import Adaptive as Adaptive
from mpo_games.choices.strength import Anchored as Anchored
from mpo_games.choices.strength import Decaying as Decaying
from mpo_games.choices.strength import Measured as Measured
from mpo_games.compare import compare as compare
from mpo_games.comparison import Comparison as Comparison

# Earlier names, for scripts written before release 0.2.
from mpo_games.compat import mmd_dilated as _mmd_dilated
from mpo_games.compat.earlier_names import AverageOf as AverageOf
from mpo_games.compat.earlier_names import Mixed as Mixed
from mpo_games.compat.earlier_names import WhenSettled as WhenSettled
from mpo_games.compat.earlier_names import WhenSolved as WhenSolved
from mpo_games.compat.earlier_names import build as build
from mpo_games.explained import explain as _explain
from mpo_games.games import builders as builders
from mpo_games.games import catalogue as catalogue
from mpo_games.games import families as families
from mpo_games.games.battles import Battles as Battles
from mpo_games.games.behavioural import BehaviouralGame as BehaviouralGame
from mpo_games.games.behavioural import counterfactual_values as counterfactual_values
from mpo_games.games.behavioural import q_values as q_values
from mpo_games.games.catalogue import load as load
from mpo_games.games.gambit.write import to_efg as to_efg
from mpo_games.games.gambit.write import to_nfg as to_nfg
from mpo_games.games.matrix import MatrixGame as MatrixGame
from mpo_games.games.noisy import BanditGame as BanditGame
from mpo_games.games.noisy import NoisyGame as NoisyGame
from mpo_games.games.noisy import SampledGame as SampledGame
from mpo_games.games.outcome_sampling import OutcomeSampling as OutcomeSampling
from mpo_games.games.preference import PreferenceGame as PreferenceGame
from mpo_games.games.sequence_form import SequenceFormGame as SequenceFormGame
from mpo_games.games.tree_builder import Chance as Chance
from mpo_games.games.tree_builder import Decision as Decision
from mpo_games.games.tree_builder import Payoff as Payoff
from mpo_games.games.tree_builder import build_tree as build_tree
from mpo_games.method import Method as Method
from mpo_games.policies import dilation as dilation
from mpo_games.policies.dilated_entropy import DilatedEntropy as DilatedEntropy
from mpo_games.policies.mirror_maps import Entropy as Entropy
from mpo_games.policies.mirror_maps import Euclidean as Euclidean
from mpo_games.policies.mirror_maps import SmoothedEntropy as SmoothedEntropy
from mpo_games.policies.tabular import TabularPolicy as TabularPolicy
from mpo_games.policies.tabular import probabilities as probabilities
from mpo_games.policies.tree import Tree as Tree
from mpo_games.policies.treeplex import TreeplexPolicy as TreeplexPolicy
from mpo_games.protocol import ExactGame as ExactGame
from mpo_games.protocol import Game as Game
from mpo_games.protocol import MagnetSchedule as MagnetSchedule
from mpo_games.protocol import Mixture as Mixture
from mpo_games.protocol import Policy as Policy
from mpo_games.protocol import Solver as Solver
from mpo_games.protocol import State as State
from mpo_games.ranking.rank import rank as rank
from mpo_games.ranking.result import Ranking as Ranking
from mpo_games.rivals import Baseline as Baseline
from mpo_games.solution import Solution as Solution
from mpo_games.solve import iterate as iterate
from mpo_games.solve import log_spaced as log_spaced
from mpo_games.solve import solve as solve
from mpo_games.solvers.averaged import Averaged as Averaged
from mpo_games.solvers.averaged import PlayedAverage as PlayedAverage
from mpo_games.solvers.classic import FictitiousPlay as FictitiousPlay
from mpo_games.solvers.classic import GradientAscent as GradientAscent
from mpo_games.solvers.magnetic import APMD as APMD
from mpo_games.solvers.magnetic import EGPO as EGPO
from mpo_games.solvers.magnetic import M2WU as M2WU
from mpo_games.solvers.magnetic import MMD as MMD
from mpo_games.solvers.magnetic import MPO as MPO
from mpo_games.solvers.magnetic import MPO_RT as MPO_RT
from mpo_games.solvers.magnetic import AnnealedMMD as AnnealedMMD
from mpo_games.solvers.magnetic import Extragradient as Extragradient
from mpo_games.solvers.magnetic import MirrorDescent as MirrorDescent
from mpo_games.solvers.magnetic import NashMD as NashMD
from mpo_games.solvers.magnetic import OptimisticMD as OptimisticMD
from mpo_games.solvers.magnetic import OptimisticMPO as OptimisticMPO
from mpo_games.solvers.regret import CFR as CFR
from mpo_games.solvers.regret import DCFR as DCFR
from mpo_games.solvers.regret import HSDCFR as HSDCFR
from mpo_games.solvers.regret import CFRPlus as CFRPlus
from mpo_games.solvers.regret import ExtragradientRMPlus as ExtragradientRMPlus
from mpo_games.solvers.regret import HSPCFRPlus as HSPCFRPlus
from mpo_games.solvers.regret import PCFRPlus as PCFRPlus
from mpo_games.solvers.regret import PDCFRPlus as PDCFRPlus
from mpo_games.solvers.regret import RegretMatching as RegretMatching
from mpo_games.solvers.regret import RTCFRPlus as RTCFRPlus
from mpo_games.solvers.regret import SmoothPRMPlus as SmoothPRMPlus
from mpo_games.solvers.restarts import Restarted as Restarted
from mpo_games.solvers.self_tuning import AutoMPO as AutoMPO
from mpo_games.table import Table as Table
from mpo_games.trace import Trace as Trace

__version__ = "0.2.0"

__all__ = [
    "APMD",
    "CFR",
    "DCFR",
    "EGPO",
    "HSDCFR",
    "M2WU",
    "MMD",
    "MPO",
    "MPO_RT",
    "Adaptive",
    "AgainstMixture",
    "Anchored",
    "AnnealedMMD",
    "AutoMPO",
    "Averaged",
    "BanditGame",
    "Baseline",
    "Battles",
    "BehaviouralGame",
    "CFRPlus",
    "Chance",
    "Comparison",
    "Decaying",
    "Decision",
    "DilatedEntropy",
    "Ema",
    "Entropy",
    "Euclidean",
    "Every",
    "ExactGame",
    "Extragradient",
    "ExtragradientRMPlus",
    "FictitiousPlay",
    "Fixed",
    "Game",
    "GradientAscent",
    "HSPCFRPlus",
    "Leap",
    "MagnetSchedule",
    "MatrixGame",
    "Measured",
    "Method",
    "MirrorDescent",
    "Mixture",
    "NashMD",
    "NoisyGame",
    "OptimisticMD",
    "OptimisticMPO",
    "OutcomeSampling",
    "PCFRPlus",
    "PDCFRPlus",
    "Payoff",
    "PlayedAverage",
    "Policy",
    "PreferenceGame",
    "RTCFRPlus",
    "Ranking",
    "RegretMatching",
    "Restarted",
    "SampledGame",
    "SequenceFormGame",
    "SmoothPRMPlus",
    "SmoothedEntropy",
    "Solution",
    "Solver",
    "State",
    "Table",
    "TabularPolicy",
    "Trace",
    "Tree",
    "TreeplexPolicy",
    "WhenGapFell",
    "WhenInnerSolved",
    "alternating",
    "alternating_popov",
    "as_given",
    "baselines",
    "build_tree",
    "builders",
    "catalogue",
    "compare",
    "counterfactual_values",
    "current",
    "cyclicity",
    "dilation",
    "exact",
    "families",
    "half_step",
    "in_reward",
    "iterate",
    "load",
    "log_spaced",
    "metrics",
    "mutation",
    "optimistic",
    "plot",
    "popov",
    "probabilities",
    "proximal",
    "q_values",
    "rank",
    "reflected",
    "smoothed",
    "solve",
    "squared",
    "theory",
    "to_efg",
    "to_nfg",
]

_explain(globals()[_name] for _name in __all__)

# More earlier names: of `exact.trees`, and two functions of `catalogue`.
describe = catalogue.describe
exact_trees = exact.trees
names = catalogue.names

# Earlier addresses that the reference gave, for scripts with `from mpo_games.solvers.pull import
# ...`. Modules there would import what stands above them.
for _address, _module in {
    "games.mmd_dilated": _mmd_dilated,
    "magnets": _magnets,
    "solvers.feedback": _feedback,
    "solvers.pull": _pull,
}.items():
    _room, _, _name = f"mpo_games.{_address}".rpartition(".")
    setattr(_sys.modules[_room], _name, _module)
    _sys.modules[f"{_room}.{_name}"] = _module
