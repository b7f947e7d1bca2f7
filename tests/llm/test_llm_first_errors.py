"""What a first script gets wrong is answered in a sentence that says what to write instead."""

from collections.abc import Callable

import numpy as np
import pytest

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


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a text for a prompt": (lambda: game(("hello",)), "token ids"),
    "a text for prompts": (lambda: game("hello"), "token ids"),
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
