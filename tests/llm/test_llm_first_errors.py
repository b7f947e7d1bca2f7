"""What a first script gets wrong is answered in a sentence that says what to write instead."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from languages import FIXED, transformer
from mpo_games.choices.geometry import smoothed

MODULE = ml.SmallTransformer(6, 5)
START = ml.TokenPolicy.of(transformer(), FIXED)


def game(prompts: object = ((4,),)) -> ml.TextPreferenceGame:
    def decode(ids: ml.responses.Ids) -> str:
        return " ".join(map(str, ids))

    def judge(prompts: object, a: list[str], b: object) -> np.ndarray:
        return np.full(len(a), 0.5)

    return ml.TextPreferenceGame(prompts, START, judge, decode, samples=4)  # type: ignore[arg-type]


def measured(**changes: object) -> object:
    arguments = {
        "game": game(),
        "policy": START,
        "against": {"start": START},
        "samples": 4,
        "rng": np.random.default_rng(0),
    }
    return ml.evaluate(**{**arguments, **changes})  # type: ignore[arg-type]


class Bare(torch.nn.Module):
    """It does not say which ids it can read."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(6, 6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a text for a prompt": (lambda: game(("hello",)), "token ids"),
    "a text for prompts": (lambda: game("hello"), "token ids"),
    "no prompt": (lambda: game(()), "^There is no prompt: pass at least one, as token ids"),
    "numbers that are no ids": (lambda: game(((4.5,),)), "whole numbers .*, and one holds a float"),
    "an id below 0": (lambda: game(((4,), (4, -1))), "^Prompt 1 holds the token id -1"),
    "an id that the network does not know": (
        lambda: game(((4,), (1, 6))),
        "^Prompt 1 holds the token id 6, and the network knows the ids 0 to 5",
    ),
    "an id for samples": (
        lambda: ml.sample(START, [(6,)], 2, np.random.default_rng(0)),
        "^Prompt 0 holds the token id 6",
    ),
    "an id that a bare module does not know": (
        lambda: ml.sample(
            ml.TokenPolicy.of(ml.PlainNetwork(Bare()), FIXED), [(6,)], 2, np.random.default_rng(0)
        ),
        "a token id or a row of tokens that the module has no place for",
    ),
    "a prompt without room": (lambda: game(((1, 2, 3),)), "take 6 tokens, .* context is 5"),
    "a prompt without room in a module": (
        lambda: ml.EnumerableGame(
            ml.TokenPolicy.of(ml.PlainNetwork(MODULE), FIXED), ((1,) * 4,), np.full((27, 27), 0.5)
        ),
        "reads 6 tokens, .* its context is 5: shorten prompts or `max_tokens`",
    ),
    "responses of unknown ids": (
        lambda: ml.TokenPolicy.of(ml.PlainNetwork(MODULE), ml.Decoding(2, vocabulary=7)),
        "^`decoding.vocabulary` is 7, and the network knows 6 ids",
    ),
    "a text for responses": (
        lambda: ml.judges.Table(["?"], "abc", np.full((3, 3), 0.5)),
        "^`responses` must be a list of texts, got 'abc'",
    ),
    "a policy for those to compare with": (
        lambda: measured(against=START),
        r'^`against` must be policies by name, like `{"start": game.start}`, got a TokenPolicy',
    ),
    "names without policies": (lambda: measured(against={"start": "start"}), "got 'start'"),
    "a policy for a game": (lambda: measured(game=START), "^`game` must be a game of texts"),
    "a game for a policy": (lambda: measured(policy=game()), "^`policy` must be a policy, like"),
    "a seed for a generator": (lambda: measured(rng=0), "^`rng` must be a generator"),
    "a module for a network": (lambda: ml.TokenPolicy.of(MODULE, FIXED), r"`PlainNetwork\(module"),
    "a name for a model": (lambda: ml.TransformersNetwork("gpt2"), "from_pretrained"),
    "a geometry that needs tables": (
        lambda: mg.solve(game(), mg.MMD(1.0, 0.1, geometry=smoothed), 2),
        "`smoothed",
    ),
    "a schedule that needs the gap": (
        lambda: mg.solve(game(), mg.MMD(1.0, 0.1, magnet=mg.WhenGapFell(0.5, 1)), 1),
        r"use `Every\(period\)`",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(mistake: str) -> None:
    make, answer = MISTAKES[mistake]
    with pytest.raises(ValueError, match=answer):
        make()
