"""Families of language games with one prompt or many, for the transformer's figures.

With many prompts, 81 of them form a grid of 9 x 9; 64 are trained on, and 17 are held out. A
response has two tokens, each one of V: there are 16 (V = 4) or 64 (V = 8) to each prompt. With one
prompt a response has three tokens, each one of 4: there are 64. Gaps are exact, means over prompts
and in units of `2 P - 1`, at most 2. Torch is imported in the functions that need it, so that
figures can be drawn without it.

| family | the games |
| --- | --- |
| `styles`, one prompt | five styles, each of which beats the next two, and a quality |
| `low_rank`, one prompt | a skew-symmetric matrix of rank 4 plus scores, squashed |
| `smooth` | styles whose weight, and qualities which, depend linearly on the prompt |
| `low_rank` | embeddings and scores that depend linearly on the prompt |
| `unrelated` | another game at each prompt: styles at the even ones, low rank at the odd ones |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.lab.enumerable_languages import preferences

GRID = [(i, j) for i in range(9) for j in range(9)]
"""The prompts, as places on the grid."""
_ORDER = np.random.default_rng(7).permutation(len(GRID))
TRAINED, HELD_OUT = np.sort(_ORDER[:64]), np.sort(_ORDER[64:])
"""The prompts that are trained on, and the others."""


def styles(seed: int, responses: int = 64) -> Any:
    """`P(row preferred to column)` of five styles, `(responses, responses)`."""
    return preferences(seed, responses)


def low_rank(seed: int, responses: int = 64, rank: int = 4, scale: float = 1.5) -> Any:
    """`P(row preferred to column)` by a skew-symmetric matrix of low rank and scores."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(responses, rank))
    scores = 0.5 * rng.normal(size=responses)
    return _squashed(scale * _turned(places) / np.sqrt(rank / 2), scores)


def smooth_styles(seed: int, responses: int) -> Any:
    """Styles whose weight and qualities are linear in the prompt, `(81, responses, responses)`."""
    rng = np.random.default_rng(seed)
    style = rng.permutation(np.arange(responses) % 5)
    behind = (style[:, None] - style) % 5
    beats = np.where(behind == 0, 0, np.where(behind <= 2, 1, -1))
    constant, along, across = rng.normal(size=(3, responses))
    found = []
    for u, v in _places():
        quality = 0.5 * (constant + along * u + across * v)
        better = quality[:, None] - quality
        found.append(0.5 + 0.5 * np.tanh((1 + 0.3 * u) * beats + better))
    return np.stack(found)


def smooth_low_rank(seed: int, responses: int, rank: int = 4, scale: float = 1.5) -> Any:
    """Low rank with embeddings and scores that are linear in the prompt."""
    rng = np.random.default_rng(seed + 5000)
    places = rng.normal(size=(3, responses, rank))
    scores = 0.5 * rng.normal(size=(3, responses))
    found = []
    for u, v in _places():
        # .83 is the mean of u^2 + v^2 over the grid.
        here = (places[0] + u * places[1] + v * places[2]) / np.sqrt(1 + 0.83)
        score = scores[0] + u * scores[1] + v * scores[2]
        found.append(_squashed(scale * _turned(here) / np.sqrt(rank / 2), score))
    return np.stack(found)


def unrelated(seed: int, responses: int) -> Any:
    """Another game at each prompt: held-out prompts say nothing."""
    seeds = [seed * 100 + x + 10**7 for x in range(len(GRID))]
    games = (low_rank, preferences)
    return np.stack([games[x % 2 == 0](s, responses) for x, s in enumerate(seeds)])


def _places() -> list[tuple[float, float]]:
    return [((i - 4) / 4, (j - 4) / 4) for i, j in GRID]


def _turned(places: Any) -> Any:
    """`E R E'` with R a rotation by a right angle in each plane."""
    turned = np.empty_like(places)
    turned[:, 0::2], turned[:, 1::2] = -places[:, 1::2], places[:, 0::2]
    return turned @ places.T


def _squashed(cycles: Any, scores: Any) -> Any:
    return 1 / (1 + np.exp(-(cycles + scores[:, None] - scores)))


ONE: dict[str, Callable[[int], Any]] = {"styles": styles, "low_rank": low_rank}
MANY: dict[str, Callable[[int, int], Any]] = {
    "smooth": smooth_styles,
    "low_rank": smooth_low_rank,
    "unrelated": unrelated,
}


@dataclass(frozen=True)
class Language:
    """A game to learn, and the same game at prompts that are held out, if there are any."""

    game: Any
    held_out: Any = None

    def gaps(self, policy: Any) -> tuple[float, float]:
        """The gap on the prompts of training, and on the others (NaN without them)."""
        held = np.nan if self.held_out is None else 2.0 * float(self.held_out.duality_gap(policy))
        return 2.0 * float(self.game.duality_gap(policy)), held


def one_prompt(family: str, seed: int, samples: int, width: int = 32) -> Language:
    """A game of 64 responses to one prompt."""
    import mpo_llm as ml

    start = _start(seed, 6, 5, ml.Decoding(max_tokens=3, vocabulary=4), width)
    return Language(ml.EnumerableGame(start, ((4,),), ONE[family](seed), samples))


def many_prompts(
    family: str,
    seed: int,
    symbols: int = 4,
    samples: int = 8,
    prompts_per_step: int = 8,
    width: int = 32,
) -> Language:
    """A game of `symbols`^2 responses to each of 64 prompts, with 17 prompts held out."""
    import mpo_llm as ml

    decoding = ml.Decoding(max_tokens=2, vocabulary=symbols)
    start = _start(seed, symbols + 9, 4, decoding, width)
    table = MANY[family](seed, symbols**2)

    def prompts(rows: Any) -> Any:
        return tuple((symbols + GRID[x][0], symbols + GRID[x][1]) for x in rows)

    game = ml.EnumerableGame(start, prompts(TRAINED), table[TRAINED], samples, prompts_per_step)
    return Language(game, ml.EnumerableGame(start, prompts(HELD_OUT), table[HELD_OUT]))


def play(language: Language, solver: Any, steps: int, seed: int, every: int = 25) -> list[Any]:
    """A run: `(step, gaps of the last iterate, gaps of the average of weights)`, every few steps.

    Gaps are those on the prompts of training and on the others. Without an average the last iterate
    stands for it. A run that breaks has the largest gap from then on.
    """
    import mpo_games as mg

    found: list[Any] = []
    rng = np.random.default_rng(seed)
    try:
        for state in mg.iterate(language.game, solver, rng=rng):
            if state.step % every == 0 or state.step >= steps:
                average = state.memory.get("average", state.policy)
                gaps = (language.gaps(state.policy), language.gaps(average))
                found.append((state.step, *gaps))
            if state.step >= steps:
                break
    except FloatingPointError:
        found += [(t, (2.0, 2.0), (2.0, 2.0)) for t in range(every * len(found), steps + 1, every)]
    return found


def _start(seed: int, vocabulary: int, context: int, decoding: Any, width: int) -> Any:
    import torch

    import mpo_llm as ml

    # Several threads add up in another order, and results must not depend on the machine.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = ml.PlainNetwork(ml.SmallTransformer(vocabulary, context, width=width))
    return ml.TokenPolicy.of(network, decoding)
