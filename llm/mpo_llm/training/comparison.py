"""The result of a run beside the model that it started from, on the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from mpo_llm.engines import sample
from mpo_llm.estimates import Estimate, clustered
from mpo_llm.game import TextPreferenceGame
from mpo_llm.measures import START
from mpo_llm.measures.tournament import Entrants, Tournament, meet
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Responses

PROMPTS = 16
"""Training prompts on which a run without held-out prompts is compared, from the first."""

RESULT = "result"
"""The name of the last policy among the entrants."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Responses of the start and of the last policy to the same prompts, all pairs judged."""

    held_out: bool
    """Whether the prompts are held out; else they are among those that were trained on."""
    prompts: Sequence[str]
    """X prompts, as the judge reads them."""
    texts: Entrants
    """The responses of `START` and of `RESULT`: for each prompt, K texts."""
    table: Tournament
    """The judge's verdicts."""
    kl: Estimate
    """The KL divergence of the last policy from the start, in nats a response."""

    @property
    def samples(self) -> int:
        """K."""
        return len(self.texts[START][0])

    def pairs(self, count: int) -> list[tuple[str, str, str]]:
        """`count` prompts, each with a response of the start and one of the last policy."""
        before, after = ([answers[0] for answers in self.texts[n]] for n in (START, RESULT))
        return list(zip(self.prompts, before, after, strict=True))[:count]


def compare(
    game: TextPreferenceGame,
    policy: TokenPolicy,
    samples: int,
    rng: np.random.Generator,
    *,
    held_out: bool,
) -> Comparison:
    """Draw `samples` responses of the start and of `policy` to each prompt, and judge all pairs."""
    start = game.initial_policy()
    drawn = {
        name: sample(entrant, game.prompts, samples, rng, game.engine)
        for name, entrant in ((START, start), (RESULT, policy))
    }
    prompts = [game.decode(prompt) for prompt in game.prompts]
    texts = {name: _texts(game, responses) for name, responses in drawn.items()}
    own = drawn[RESULT]
    kl = clustered(policy.kl(start, own).sum(axis=1), own.prompt_of, (0.0, inf))
    return Comparison(held_out, prompts, texts, meet(game.judge, prompts, texts), kl)


def _texts(game: TextPreferenceGame, responses: Responses) -> list[list[str]]:
    """The responses to each prompt, as the judge reads them."""
    content = game.start.decoding.content
    texts: list[list[str]] = [[] for _ in game.prompts]
    for i, x in enumerate(responses.prompt_of.tolist()):
        texts[x].append(game.decode(content(responses.ids(i))))
    return texts
