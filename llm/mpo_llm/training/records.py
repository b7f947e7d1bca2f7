"""The records of a run: the numbers in a line of metrics, and the entries of the sample table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpo_games.atomic import write_bytes
from mpo_games.protocol import State
from mpo_llm.estimates import Estimate
from mpo_llm.game import TextPreferenceGame
from mpo_llm.measures.report import Report
from mpo_llm.policy import TokenPolicy
from mpo_llm.responses import Ids
from mpo_llm.rows import complete_lines
from mpo_llm.step.proximal import StepReport
from mpo_llm.step.rollouts import Rollouts
from mpo_llm.strength import NOISE
from mpo_llm.templates import Said

TABLE_PROMPTS = 4
"""The number of prompts in an entry of the sample table."""


def response_metrics(q: Rollouts) -> dict[str, float | None]:
    """Measures of a step's responses: lengths in tokens, entropy, mismatch in nats a response and
    as the mean ratio of token probabilities, the estimated gap of the policy that drew them; with
    `auto` also the chance that the next response is a new one."""
    lengths, surprise = q.responses.lengths, -q.behaviour.sum(axis=1)
    # The width of the rows is the length of the longest response.
    whole = q.responses.tokens.shape[1]
    return {
        "length": float(q.weights @ lengths),
        "longest": float(q.weights @ (lengths == whole)),
        "entropy": float(q.weights @ surprise),
        "distinct": len(q.responses),
        "advantage_std": float(np.sqrt(q.weights @ q.advantages[:, 0] ** 2)),
        "mismatch": q.mismatch,
        "mismatch_ratio": q.mismatch_ratio,
        **_with_ends("estimated_gap", q.gap),
        # Only `auto` estimates it.
        **({} if q.unseen is None else {"unseen": q.unseen}),
    }


def step_metrics(report: StepReport) -> dict[str, float | None]:
    """The size of a mirror step, as KLs in nats a response.

    `kl_step` is the KL to the old policy after all updates but the last. It is None in a step of
    one gradient, which is computed at the old policy, where the KL is always 0. `kl_magnet` is the
    KL of the old policy to the magnet, if the magnet pulled.
    """
    names = ("kl_step", "kl_magnet")
    moved = report.last_kls[0] if report.gradients > 1 else None
    return dict(zip(names, (moved, *report.first_kls[1:]), strict=False))


def tuning_metrics(state: State[TokenPolicy], report: StepReport) -> dict[str, float | None]:
    """What a solver without settings has set: the weight of the magnet, from the share of noise in
    the advantages (None until a prompt has been asked twice); the learning rate (None until it is
    measured); and the share of the step that its guard kept, 1 where it did not go back."""
    return {
        "alpha": None if state.alpha is None else float(state.alpha),
        "noise": state.memory.get(NOISE),
        "rate": state.policy.moments.rate or None,
        "kept": report.kept,
    }


def evaluation_metrics(report: Report) -> dict[str, float | None]:
    """Win rate against the start and estimated gap with their intervals, KL in nats, length in
    tokens, cycles.

    `averaged_exploitability` and `averaging_loss` are as in `Averaging`.
    """
    cyclic, averaging = report.cyclic_share, report.averaging
    return {
        **_with_ends("win_rate", report.win_rate["start"]),
        "kl_start": report.kl["start"].value,
        "held_out_length": report.length.value,
        **_with_ends("held_out_gap", report.gap),
        # JSON has no NaN, which stands for prompts without three distinct responses.
        "cyclic_share": None if math.isnan(cyclic) else cyclic,
        "averaged_exploitability": averaging.averaged.value,
        "averaging_loss": averaging.lost.value,
    }


def _with_ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    """An estimate and the ends of its interval, or None where they are not known."""
    numbers = (None,) * 3 if found is None else (found.value, *found.interval)
    known = (None if n is None or math.isnan(n) else n for n in numbers)
    return dict(zip((name, f"{name}_low", f"{name}_high"), known, strict=True))


def sample_table(
    game: TextPreferenceGame, q: Rollouts, read: Callable[[Ids], Said]
) -> Iterator[dict[str, Any]]:
    """Entries of the sample table: some of the prompts with all their responses, the best first.

    `read` finds the thoughts of a response, which has an entry of its own if it has any.
    """
    decoding = game.initial_policy().decoding
    for x in np.unique(q.responses.prompt_of)[:TABLE_PROMPTS]:
        rows = np.flatnonzero(q.responses.prompt_of == x)
        yield {
            "prompt": game.decode(game.prompts[x]),
            "responses": [
                {
                    # As the judge reads it, without an end that is no special token.
                    "text": game.decode(decoding.content(q.responses.ids(int(row)))),
                    **_thoughts(read(decoding.content(q.responses.ids(int(row))))),
                    "share": float(q.weights[row]),
                    "advantage": float(q.advantages[row, 0]),
                }
                for row in rows[np.argsort(-q.advantages[rows, 0], kind="stable")]
            ],
        }


def _thoughts(said: Said) -> dict[str, str]:
    return {"thoughts": said.thoughts} if said.thoughts or not said.ended else {}


def truncate(path: Path, step: int) -> None:
    """Drop the lines of a record after `step`, and a last line that is incomplete."""
    if not path.is_file():
        return
    try:
        kept = [line for line in complete_lines(path) if json.loads(line)["step"] <= step]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"{str(path)!r} holds a line that no run has written: mend it, or move the file away."
        ) from error
    write_bytes(path, b"".join(line + b"\n" for line in kept))
