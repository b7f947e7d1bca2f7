"""Factories of judges, which a configuration names: `judge.factory: mpo_llm.judges:everyday`.

Their arguments are `judge.options` in the configuration. Every judge that they return remembers its
answers and asks again after failures. `device` is a device as torch names it; None is a CUDA device
if there is one, and the CPU otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mpo_llm import http
from mpo_llm.judges import criteria, votes
from mpo_llm.judges.answers import Answers
from mpo_llm.judges.classifier import RewardModel
from mpo_llm.judges.endpoint import Endpoint
from mpo_llm.judges.language_model import QUESTION, RUBRIC, LanguageModelJudge
from mpo_llm.judges.pairwise import PreferenceModel
from mpo_llm.judges.protocol import Judge
from mpo_llm.judges.scores import BradleyTerry, Score
from mpo_llm.judges.servers import ChatJudge, Classified, Plain, ServedScore
from mpo_llm.judges.wrappers import Cached, OrderDebiased, Retried
from mpo_llm.networks import loading as model_loading

MEANS, SPREADS = (0.51, -270.0, 0.485), (0.44, 66.0, 0.19)
"""Means and standard deviations of positivity, brevity and relevance, each in its own unit.

They are those of 96 answers of SmolLM2-135M-Instruct, of at most 64 tokens each, to 24 everyday
prompts. In these units 38, 27 and 31 of the answers are best at positivity, brevity and relevance.
"""


def everyday(vote: Literal["majority", "mean"] = "majority", device: str | None = None) -> Judge:
    """The offline default: positivity, brevity and relevance to the prompt have one vote each.

    With `majority`, the response with more votes wins with probability 1, and preferences can be
    cyclic. With `mean`, the probability is the share of the votes; the same responses win, but less
    surely. `ValueError` for any other `vote`.
    """
    # The options of a configuration have not been checked against the annotation.
    rules = {"majority": votes.majority, "mean": votes.mean}
    if vote not in rules:
        raise ValueError(f"`vote` must be majority or mean, got {vote!r}.")
    return patient(criteria.everyday(rules[vote], _device(device)))


def second_opinion() -> Judge:
    """A majority vote like `everyday`, with the same three aims measured by other instruments.

    It judges policies that were trained on `everyday`.
    """
    return patient(criteria.second_opinion())


def rock_paper_scissors(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> Judge:
    """A judge with a known equilibrium: a response counts as the criterion at which it is best.

    The criteria are those of `everyday`, each measured from its mean in units of its spread. Of two
    responses, relevant beats brief, brief beats positive, and positive beats relevant. In every
    equilibrium a third of the responses is best at each. `ValueError` unless there are three finite
    means and three finite spreads above 0.
    """
    return patient(criteria.RockPaperScissors(standardised(device, means, spreads)))


def mean_score(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> Judge:
    """A Bradley-Terry judge of one reward: the mean of the everyday criteria in standard units.

    It is transitive, for comparison with `rock_paper_scissors`, and has the same errors.
    """
    return patient(BradleyTerry(standardised(device, means, spreads)))


def reward_model(
    path: str, device: str | None = None, scale: float = 1.0, **settings: Any
) -> Judge:
    """A Bradley-Terry judge made of a reward model, a sequence classifier of transformers.

    `path` is a folder or a name. `scale` is the difference of rewards that means odds of e to 1.
    `settings` are the remaining fields of `RewardModel`.
    """
    model = RewardModel.load(model_loading.folder(path), device=_device(device), **settings)
    return patient(BradleyTerry(model, scale))


def score(path: str, device: str | None = None, **settings: Any) -> Score:
    """A score and no judge, for `mpo-llm evaluate --score`: a reward or a cost.

    It is one output of a sequence classifier; `settings` are the remaining fields of `RewardModel`.
    """
    return RewardModel.load(model_loading.folder(path), device=_device(device), **settings)


def preference_model(path: str, device: str | None = None, batch: int = 32) -> Judge:
    """A judge that `mpo-llm fit-preferences` has saved in the folder `path`, of either kind."""
    return patient(PreferenceModel.load(path, device=_device(device), batch=batch))


def language_model(
    path: str, rubric: str = RUBRIC, device: str | None = None, **settings: Any
) -> Judge:
    """A local language model that is asked, in both orders, which response is better.

    `rubric` is the criterion: a sentence, or a .txt or .md file that holds it. `settings` are the
    remaining fields of `LanguageModelJudge`.
    """
    judge = LanguageModelJudge.load(
        model_loading.folder(path), device=_device(device), rubric=_text(rubric), **settings
    )
    return patient(OrderDebiased(judge))


def chat_server(
    url: str,
    model: str,
    rubric: str = RUBRIC,
    question: str = QUESTION,
    settings: Mapping[str, Any] | None = None,
    **requests: Any,
) -> Judge:
    """A chat model behind any OpenAI-compatible server, asked in both orders.

    `url` is the address that ends with `/v1`, or `$NAME`, the environment variable that holds it;
    `model` is the model's name there. `rubric` and `question` are as in `ChatJudge`, each a text,
    or a .txt or .md file that holds it. `settings` are fields of the request, such as
    `{max_tokens: 2000}` for a model that thinks; a field that is null is left out. `requests` are
    as in `endpoint_of`.
    """
    judge = ChatJudge(
        endpoint_of(url, "/chat/completions", **requests),
        model,
        _text(rubric),
        _text(question),
        settings or {},
    )
    # The endpoint remembers each request, so nothing needs to remember comparisons as well.
    return Retried(OrderDebiased(judge))


def reward_server(url: str, model: str = "", scale: float = 1.0, **requests: Any) -> Judge:
    """A Bradley-Terry judge made of the scores of a server, see `server_score`.

    `scale` is the difference of scores that means odds of e to 1.
    """
    return Retried(BradleyTerry(server_score(url, model, **requests), scale))


def server_score(url: str, model: str = "", **requests: Any) -> ServedScore:
    """A score and no judge, for `mpo-llm evaluate --score`: a reward model behind HTTP.

    Without `model`, `url` is the whole address, which takes `{"prompt": text, "response": text}`
    and answers `{"score": number}`. With `model`, it is the address of a vLLM server that serves a
    reward model of that name, whose `/classify` is asked. `requests` are as in `endpoint_of`.
    """
    if not model:
        return ServedScore(endpoint_of(url, "", **requests), Plain())
    # Only the endpoints of OpenAI stand below `/v1`.
    root = http.address(url).removesuffix("/v1")
    return ServedScore(endpoint_of(root, "/classify", **requests), Classified(model))


def endpoint_of(url: str, path: str, cache: str | None = None, **settings: Any) -> Endpoint:
    """The endpoint at `path` of an address, for the factories of judges behind HTTP.

    `cache` is a folder for all answers, which later runs need not ask for again; without it they
    are remembered until the process ends. `settings` are fields of `Endpoint`: `key_env`, the name
    of the environment variable that holds the key, and `at_once`, `timeout`, `tries`, `pause`.
    """
    known = Answers(None if cache is None else Path(cache))
    return Endpoint(http.address(url, path), answers=known, **settings)


def patient(judge: Judge) -> Judge:
    """The judge in wrappers that remember its answers and ask again after failures."""
    # `Cached` is inside, because outside it would remember the tie of a failed comparison.
    return Retried(Cached(judge))


def standardised(
    device: str | None = None,
    means: Sequence[float] = MEANS,
    spreads: Sequence[float] = SPREADS,
) -> criteria.Standardised:
    """Positivity, brevity and relevance, in this order, in standard units."""
    scores = (criteria.positivity, criteria.brevity, criteria.Relevance.minilm(_device(device)))
    return criteria.Standardised(scores, tuple(means), tuple(spreads))


def _text(text: str) -> str:
    """The text, or that of the .txt or .md file which it names."""
    if not text.endswith((".txt", ".md")):
        return text
    return Path(text).read_text(encoding="utf-8").strip()


def _device(name: str | None) -> str:
    return name or model_loading.device().type
