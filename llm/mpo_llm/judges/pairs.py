"""Preference data: comparisons of two responses to a prompt, one of which was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpo_games.labelled import ordered, shown
from mpo_games.protocol import Indices
from mpo_llm.conversations import encodable, parsed, transcript


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison and its outcome, as texts."""

    prompt: str
    chosen: str
    rejected: str


def pairs(rows: Sequence[Mapping[str, Any]], label: str = "better_response_id") -> list[Pair]:
    """The comparisons of a data set in one of two formats, which its columns tell apart.

    - `prompt`, `chosen` and `rejected`, each a text or a conversation, also in ShareGPT's form.
      Without a column `prompt`, the prompt is the column `conversations`, or all messages of
      `chosen` but the last.
    - PKU-SafeRLHF's: `prompt`, `response_0`, `response_1`, and the column named by `label`, which
      holds the number of the better response, 0 or 1.

    `ValueError` for no rows, and for a row of any other form; the message gives the row's number,
    from 1.
    """
    found, _ = ordered(rows, "rows")
    if not found:
        raise ValueError("There are no comparisons.")
    return [_pair(row, number, label) for number, row in enumerate(found, 1)]


def clusters(found: Sequence[Pair]) -> Indices:
    """The cluster of each of N comparisons, `(N,)`: its prompt's number.

    Comparisons of one prompt depend on each other, so they are held out together and counted as one
    in standard errors. With fewer than ten prompts every comparison is its own cluster.
    """
    # Fewer clusters could neither be divided by shares nor give a standard error.
    names = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt for p in found))}
    return np.array([names[p.prompt] for p in found] if len(names) >= 10 else range(len(found)))


def split(cluster_of: Indices, share: float, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """The comparisons to learn from and those held out, as two arrays of indices.

    `cluster_of`, `(N,)`, numbers the cluster of each comparison. Whole clusters are held out, about
    `share` of them. `ValueError` if either part would be empty.
    """
    order = rng.permutation(np.unique(cluster_of))
    out = np.isin(cluster_of, order[: round(share * len(order))])
    if out.all() or not out.any():
        raise ValueError(
            f"{len(cluster_of)} comparisons are too few to hold {share:.0%} of them out."
        )
    return np.flatnonzero(~out), np.flatnonzero(out)


def _pair(row: Mapping[str, Any], number: int, label: str) -> Pair:
    if not isinstance(row, Mapping):
        raise ValueError(f"Row {number} must map columns to values, got {shown(row)}.")
    if "chosen" in row and "rejected" in row:
        named = next((name for name in ("prompt", "conversations") if name in row), None)
        asked = row[named] if named else _before(row["chosen"], number)
        return Pair(
            _text(asked, "prompt", number),
            _text(row["chosen"], "chosen", number),
            _text(row["rejected"], "rejected", number),
        )
    if "response_0" in row and "response_1" in row:
        if row.get(label) not in (0, 1):
            raise ValueError(
                f"Row {number}: `{label}` must be 0 or 1, got {shown(row.get(label))}."
            )
        better = int(row[label])
        x, y, z = (
            _text(row.get(name), name, number)
            for name in ("prompt", f"response_{better}", f"response_{1 - better}")
        )
        return Pair(x, y, z)
    raise ValueError(
        f"Row {number} has the columns {', '.join(map(str, row))}: needed are prompt, chosen and "
        f"rejected, or prompt, response_0, response_1 and {label}."
    )


def _text(value: Any, column: str, number: int) -> str:
    """The text in a cell. A conversation gives its last message, or all of them in `prompt`."""
    if not isinstance(value, str) and not (
        isinstance(value, Sequence | Mapping | np.ndarray) and len(value)
    ):
        raise ValueError(
            f"Row {number}: `{column}` must be a text or a conversation, got {shown(value)}."
        )
    # ShareGPT's comparisons have a single message for each response.
    single = isinstance(value, Mapping) and all(isinstance(part, str) for part in value.values())
    found = parsed(f"Row {number}: `{column}`", [value] if single else value)
    # `chosen` and `rejected` repeat the prompt; only their last message is the response.
    whole = found if isinstance(found, str) else transcript(found)
    text = whole if isinstance(found, str) or column == "prompt" else found[-1]["content"]
    if not encodable(text):
        raise ValueError(
            f"Row {number}: `{column}` holds half of a surrogate pair (\\ud800 to \\udfff), which "
            f"is no character: {shown(text)}."
        )
    return text


def _before(conversation: Any, number: int) -> Any:
    if isinstance(conversation, str | Mapping) or not isinstance(conversation, Sequence):
        raise ValueError(
            f"Row {number} has no `prompt`, and `chosen` is not a conversation that holds it."
        )
    return conversation[:-1]
