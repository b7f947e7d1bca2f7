"""From a host's completions to responses, each checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpo_llm.engines.protocol import Drawn, EngineError
from mpo_llm.engines.vllm.hosts import Completion, Job
from mpo_llm.responses import Responses


def drawn(job: Job, found: Sequence[Sequence[Completion]]) -> Drawn:
    """The completions of a job as an engine returns them.

    `EngineError` if they are not what the job asked for.
    """
    rows = [completion for each in found for completion in each]
    if [len(each) for each in found] != [job.count] * len(job.prompts):
        raise EngineError(
            f"The engine was asked for {job.count} responses to each of {len(job.prompts)} "
            f"prompts, and gave {len(rows)}."
        )
    allowed = None if job.allowed is None else frozenset(job.allowed)
    for row in rows:
        _require_response(row, job)
        if allowed is not None and not allowed.issuperset(row.ids):
            raise EngineError("The engine gave a token that may not be produced.")
    responses = Responses.of_ids(
        job.prompts,
        np.repeat(np.arange(len(job.prompts)), job.count).tolist(),
        [row.ids for row in rows],
    )
    log_probs = np.zeros(responses.tokens.shape)
    for i, row in enumerate(rows):
        log_probs[i, : len(row.ids)] = row.log_probs
    return Drawn(responses, log_probs)


def _require_response(row: Completion, job: Job) -> None:
    """`EngineError` unless a completion is a response by the decoding."""
    decoding, ids = job.decoding, row.ids
    if len(row.log_probs) != len(ids):
        raise EngineError(f"The engine gave {len(row.log_probs)} numbers for {len(ids)} tokens.")
    ended = [t for t, i in enumerate(ids) if i in decoding.ends]
    short = len(ids) < decoding.max_tokens and not ended
    if not ids or len(ids) > decoding.max_tokens or short or (ended and ended[0] < len(ids) - 1):
        raise EngineError(
            f"A response must end with the first of the tokens {decoding.ends}, or after "
            f"{decoding.max_tokens} tokens, and the engine gave one of {len(ids)} tokens that does "
            "not."
        )
    if not all(np.isfinite(row.log_probs)):
        raise EngineError("The engine gave log-probabilities that are not finite.")
