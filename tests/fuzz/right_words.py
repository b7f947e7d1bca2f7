"""A right call of every constructor of the adapter that takes a user's data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from right import Call

import mpo_games as mg
import mpo_llm as ml
from mpo_llm.judges import criteria, protocol, scores
from mpo_llm.judges.pairs import pairs

PROMPTS = ((4,), (3, 4))
FIXED = ml.Decoding(2, eos=0, vocabulary=3)
torch.manual_seed(0)
START = ml.TokenPolicy.of(ml.PlainNetwork(ml.SmallTransformer(6, 6, width=4, heads=1)), FIXED)
RESPONSES = ml.Responses.of_ids(PROMPTS, (0, 1), ((1, 0), (2,)))


def score(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """The length of each response."""
    return [float(len(text)) for text in responses]


STANDARD = criteria.Standardised((score,), (1.0,), (1.0,))


def judge(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[float]:
    """Ties."""
    return [0.5] * len(a)


def text(ids: ml.responses.Ids) -> str:
    """The ids as text."""
    return " ".join(map(str, ids))


def asked(made: Any) -> Any:
    """The answers of a judge that could be made."""
    texts = ["a", "b", "a"]
    return protocol.judged(made, ["x"] * 3, texts, texts[::-1])


def constructors() -> Iterator[Call]:
    """Judges, settings and data."""
    yield lambda **k: asked(scores.BradleyTerry(**k)), {"score": score, "scale": 1.0}
    yield lambda **k: asked(scores.Higher(**k)), {"score": score, "tie": 0.1}
    yield (
        lambda **k: asked(ml.judges.Vote(**k)),
        {"judges": (judge, judge), "rule": ml.judges.votes.mean},
    )
    yield lambda **k: asked(ml.judges.OneByOne(**k)), {"function": lambda prompt, a, b: 0.5}
    yield lambda **k: asked(ml.judges.OrderDebiased(**k)), {"judge": judge}
    yield lambda **k: asked(ml.judges.Cached(**k)), {"judge": judge, "size": 2}
    yield (
        lambda **k: asked(ml.judges.Retried(**k)),
        {"judge": judge, "times": 1, "most": 0.1, "pause": 0.0, "errors": (OSError,)},
    )
    half = [[0.5, 0.9], [0.1, 0.5]]
    yield (
        lambda **k: asked(ml.judges.Table(**k)),
        {"prompts": ["x"], "responses": ["a", "b"], "preferences": half},
    )
    yield (
        criteria.Standardised,
        {"scores": (score, score), "means": (0.0, 1.0), "spreads": (1.0, 1.0)},
    )
    yield lambda **k: asked(criteria.RockPaperScissors(**k)), {"criteria": STANDARD}
    yield pairs, {"rows": [{"prompt": "x", "chosen": "a", "rejected": "b"}]}
    yield (
        ml.Decoding,
        {"max_tokens": 2, "eos": 0, "temperature": 1.0, "vocabulary": 3, "unused": (1,)},
    )
    yield ml.all_responses, {"decoding": FIXED}
    yield lambda **k: ml.all_responses(ml.Decoding(**k)), {"max_tokens": 2, "vocabulary": 3}
    nouns = {"prompts": PROMPTS, "prompt_of": (0, 1)}
    yield ml.Responses.of_ids, {**nouns, "responses": ((1, 0), (2,))}
    yield ml.Responses, {**nouns, "tokens": RESPONSES.tokens, "lengths": RESPONSES.lengths}
    yield (
        ml.Adam,
        {
            "epochs": 2,
            "rate": 1e-3,
            "schedule": ml.falling,
            "betas": (0.9, 0.99),
            "epsilon": 1e-8,
            "clip": 1.0,
        },
    )
    yield ml.LBFGS, {"iterations": 2, "tolerance": 1e-9}
    yield (
        ml.Proximal,
        {"objective": ml.TokenLevel(), "minimise": ml.Adam(), "minibatches": 2, "micro_batch": 2},
    )
    yield ml.Replayed, {"feedback": mg.current, "steps": 3}
    yield ml.WeightEma, {"rate": 0.1}
    yield ml.Autoregressive, {"batch": 2}
    yield ml.SmallTransformer, {"vocabulary": 3, "context": 4, "width": 4, "heads": 1}
    yield ml.PlainNetwork, {"module": ml.SmallTransformer(3, 4, width=4, heads=1)}
    yield (
        ml.TokenPolicy.of,
        {"network": START.network, "decoding": FIXED, "proximal": ml.Proximal()},
    )
    yield (
        ml.TextPreferenceGame,
        {
            "prompts": PROMPTS,
            "start": START,
            "judge": judge,
            "decode": text,
            "samples": 2,
            "prompts_per_step": 1,
            "truncation": 4.0,
            "engine": ml.Autoregressive(),
        },
    )
    size = len(ml.all_responses(FIXED))
    yield (
        ml.EnumerableGame,
        {
            "start": START,
            "prompts": PROMPTS,
            "preferences": np.full((size, size), 0.5),
            "samples": 2,
        },
    )
    yield (
        ml.sample,
        {"policy": START, "prompts": PROMPTS, "count": 2, "rng": np.random.default_rng(0)},
    )
