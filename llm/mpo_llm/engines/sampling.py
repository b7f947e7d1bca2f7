"""Responses of a policy, for evaluation and chat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpo_games.checks import (
    require_callable,
    require_count,
    require_generator,
    require_kind,
)
from mpo_llm.engines.autoregressive import Autoregressive
from mpo_llm.engines.protocol import Engine, draw
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids, Responses


def sample(
    policy: TokenPolicy,
    prompts: Sequence[Ids],
    count: int,
    rng: np.random.Generator,
    engine: Engine = Autoregressive(),
) -> Responses:
    """`count` responses of `policy` to each prompt, prompt by prompt.

    Errors are those of `draw`; and `ValueError` for a policy, a count or a generator of another
    kind.
    """
    require_kind("policy", policy, TokenPolicy, "a policy, like `TokenPolicy.of(network)`")
    policy.require_readable(prompts)
    require_count("count", count)
    require_generator(rng)
    require_callable("engine", engine, "`Autoregressive()`")
    return draw(engine, policy, prompts, count, rng).responses
