"""Judges: functions that give the probability that one response is preferred to another.

All judges follow one protocol, `Judge`. Most files hold one kind of judge: scores, votes, tables,
classifiers, learned preference models, language models, servers, and judges of other libraries.
`endpoint`, `verdicts` and `answers` are the parts of a judge behind HTTP. `wrappers` change how any
judge is asked. `named` holds the factories that a configuration names.

Shapes in this folder: N comparisons or responses in one call, S judges or scores, X known prompts,
Y known responses, d the width of an encoder.
"""

from mpo_llm.judges.adapters import FromPairwiseJudge as FromPairwiseJudge
from mpo_llm.judges.adapters import OneByOne as OneByOne
from mpo_llm.judges.answers import Answers as Answers
from mpo_llm.judges.classifier import RewardModel as RewardModel
from mpo_llm.judges.criteria import Relevance as Relevance
from mpo_llm.judges.criteria import RockPaperScissors as RockPaperScissors
from mpo_llm.judges.criteria import Standardised as Standardised
from mpo_llm.judges.criteria import brevity as brevity
from mpo_llm.judges.criteria import echo as echo
from mpo_llm.judges.criteria import fewer_words as fewer_words
from mpo_llm.judges.criteria import positivity as positivity
from mpo_llm.judges.criteria import tone as tone
from mpo_llm.judges.endpoint import Endpoint as Endpoint
from mpo_llm.judges.fit import Fit as Fit
from mpo_llm.judges.fit import Fitted as Fitted
from mpo_llm.judges.fit import fit_both as fit_both
from mpo_llm.judges.language_model import LanguageModelJudge as LanguageModelJudge
from mpo_llm.judges.named import chat_server as chat_server
from mpo_llm.judges.named import everyday as everyday
from mpo_llm.judges.named import language_model as language_model
from mpo_llm.judges.named import mean_score as mean_score
from mpo_llm.judges.named import preference_model as preference_model
from mpo_llm.judges.named import reward_model as reward_model
from mpo_llm.judges.named import reward_server as reward_server
from mpo_llm.judges.named import rock_paper_scissors as rock_paper_scissors
from mpo_llm.judges.named import score as score
from mpo_llm.judges.named import second_opinion as second_opinion
from mpo_llm.judges.named import server_score as server_score
from mpo_llm.judges.pairs import Pair as Pair
from mpo_llm.judges.pairs import pairs as pairs
from mpo_llm.judges.pairwise import Encoder as Encoder
from mpo_llm.judges.pairwise import PreferenceModel as PreferenceModel
from mpo_llm.judges.protocol import Judge as Judge
from mpo_llm.judges.protocol import JudgeError as JudgeError
from mpo_llm.judges.scores import BradleyTerry as BradleyTerry
from mpo_llm.judges.scores import Higher as Higher
from mpo_llm.judges.scores import Score as Score
from mpo_llm.judges.servers import ChatJudge as ChatJudge
from mpo_llm.judges.servers import Classified as Classified
from mpo_llm.judges.servers import Plain as Plain
from mpo_llm.judges.servers import ServedScore as ServedScore
from mpo_llm.judges.table import Table as Table
from mpo_llm.judges.votes import Vote as Vote
from mpo_llm.judges.votes import majority as majority
from mpo_llm.judges.votes import mean as mean
from mpo_llm.judges.wrappers import Cached as Cached
from mpo_llm.judges.wrappers import OrderDebiased as OrderDebiased
from mpo_llm.judges.wrappers import Retried as Retried
from mpo_llm.judges.wrappers import tally as tally
