"""The judges' earlier address, kept for scripts that import them from here."""

from mpo_llm.judges.adapters import FromPairwiseJudge as FromPairwiseJudge
from mpo_llm.judges.adapters import OneByOne as OneByOne
from mpo_llm.judges.classifier import RewardModel as RewardModel
from mpo_llm.judges.criteria import Relevance as Relevance
from mpo_llm.judges.criteria import RockPaperScissors as RockPaperScissors
from mpo_llm.judges.criteria import Standardised as Standardised
from mpo_llm.judges.criteria import brevity as brevity
from mpo_llm.judges.criteria import echo as echo
from mpo_llm.judges.criteria import everyday as everyday
from mpo_llm.judges.criteria import fewer_words as fewer_words
from mpo_llm.judges.criteria import positivity as positivity
from mpo_llm.judges.criteria import second_opinion as second_opinion
from mpo_llm.judges.criteria import tone as tone
from mpo_llm.judges.fit import Fit as Fit
from mpo_llm.judges.fit import Fitted as Fitted
from mpo_llm.judges.fit import fit_both as fit_both
from mpo_llm.judges.language_model import LanguageModelJudge as LanguageModelJudge
from mpo_llm.judges.pairs import Pair as Pair
from mpo_llm.judges.pairs import pairs as pairs
from mpo_llm.judges.pairwise import Encoder as Encoder
from mpo_llm.judges.pairwise import PreferenceModel as PreferenceModel
from mpo_llm.judges.scores import BradleyTerry as BradleyTerry
from mpo_llm.judges.scores import Higher as Higher
from mpo_llm.judges.scores import Score as Score
from mpo_llm.judges.table import Table as Table
from mpo_llm.judges.votes import Vote as Vote
from mpo_llm.judges.votes import majority as majority
from mpo_llm.judges.votes import mean as mean
from mpo_llm.judges.wrappers import Cached as Cached
from mpo_llm.judges.wrappers import OrderDebiased as OrderDebiased
from mpo_llm.judges.wrappers import Retried as Retried
from mpo_llm.judges.wrappers import tally as tally

Reader = Encoder
"""The encoder's earlier name."""
