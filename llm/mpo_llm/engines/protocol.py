"""Engines draw responses: their protocol, and the door through which all of them are asked.

Shapes: X prompts with `count` responses each, N = X count responses, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch

from mpo_games.checks import has_verbs
from mpo_games.protocol import Array
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids, Responses

MOST = 2**26
"""The most tokens of a call: some 2 GiB with the numbers that they are drawn by."""


UNEMBEDDED = "index out of range in self"
"""What torch says on a CPU of a number that an embedding does not have."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Responses as an engine has drawn them."""

    responses: Responses
    """`count` responses to each prompt, prompt by prompt."""
    log_probs: Array
    """The log-probability of each token by the engine, `(N, T)` in nats, 0 at padding. It differs
    from the network's if the engine computes in another way or in half precision."""


class Engine(Protocol):
    """Draws `count` responses of `policy` to each prompt, with random numbers from `rng` alone.

    A response ends with the first of `policy.decoding.ends` that is drawn, and holds it.
    If several processes share a run, each of them calls its engine with the same arguments, and all
    must get the same responses.
    """

    def __call__(
        self, policy: TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator, /
    ) -> Drawn: ...


class Together(Protocol):
    """An engine that draws for several policies in one batch."""

    def __call__(
        self, policy: TokenPolicy, prompts: Sequence[Ids], count: int, rng: np.random.Generator, /
    ) -> Drawn:
        (drawn,) = self.each([policy], prompts, count, rng)
        return drawn

    def each(
        self,
        policies: Sequence[TokenPolicy],
        prompts: Sequence[Ids],
        count: int,
        rng: np.random.Generator,
    ) -> list[Drawn]:
        """What each of the policies draws, the same as if they drew in turn."""
        ...


class EngineError(ValueError):
    """An engine raised an error, or what it drew is not what it was asked for."""


def draw(
    engine: Engine,
    policy: TokenPolicy,
    prompts: Sequence[Ids],
    count: int,
    rng: np.random.Generator,
) -> Drawn:
    """What an engine draws, checked: `count` responses to each prompt, prompt by prompt.

    `EngineError` for anything else, and for errors of the engine that are no sentences;
    `ValueError` for more than `MOST` tokens.
    """
    _require_few(policy, prompts, count)
    with _sentences():
        found = engine(policy, prompts, count, rng)
    return _checked(found, prompts, count)


def draw_each(
    engine: Engine,
    policies: Sequence[TokenPolicy],
    prompts: Sequence[Ids],
    count: int,
    rng: np.random.Generator,
) -> list[Drawn]:
    """What an engine draws for each of several policies, checked as in `draw`.

    They draw in one batch if the engine is `Together`, and otherwise in turn.
    """
    if not has_verbs(engine, "each"):
        return [draw(engine, policy, prompts, count, rng) for policy in policies]
    together = cast(Together, engine)
    for policy in policies:
        _require_few(policy, prompts, count)
    with _sentences():
        found = together.each(policies, prompts, count, rng)
    if len(found) != len(policies):
        raise EngineError(f"The engine drew for {len(found)} of {len(policies)} policies.")
    return [_checked(each, prompts, count) for each in found]


def _require_few(policy: TokenPolicy, prompts: Sequence[Ids], count: int) -> None:
    tokens = len(prompts) * count * policy.decoding.max_tokens
    if tokens > MOST:
        raise ValueError(
            f"{count} responses of {policy.decoding.max_tokens} tokens to {len(prompts)} prompts "
            f"may have {tokens:.2g} tokens, more than {MOST:.2g}: draw fewer at a time."
        )


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn errors of an engine that are no sentences into `EngineError`."""
    try:
        yield
    except (ValueError, ArithmeticError, OSError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
        if str(error) == UNEMBEDDED:
            reason += ", as for a token id or a row of tokens that the module has no place for"
        raise EngineError(f"The engine raised {reason}.") from error


def _checked(drawn: Drawn, prompts: Sequence[Ids], count: int) -> Drawn:
    if not isinstance(drawn, Drawn):
        raise EngineError(f"The engine must return a `Drawn`, got a {type(drawn).__name__}.")
    rows = drawn.responses
    # In another order, responses would count as answers to each other's prompts.
    if rows.prompts != tuple(prompts) or not np.array_equal(
        rows.prompt_of, np.repeat(np.arange(len(prompts)), count)
    ):
        raise EngineError(
            f"The engine must return {count} responses to each of the {len(prompts)} prompts, "
            f"prompt by prompt and in their order, got {len(rows)} responses to "
            f"{len(np.unique(rows.prompt_of))} prompts."
        )
    if np.shape(drawn.log_probs) != rows.tokens.shape:
        raise EngineError(
            f"The engine must return a log-probability for each token, {rows.tokens.shape}, got "
            f"the shape {np.shape(drawn.log_probs)}."
        )
    return drawn
