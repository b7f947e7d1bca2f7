"""The rows that a network is run over to get the states before the tokens of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mpo_games.protocol import Array, Indices, Mask
from mpo_llm.responses import Responses, left_aligned


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """R left-aligned rows that begin with prompts, and M positions in them, in the host's memory.

    All arrays are int64.
    """

    ids: Indices
    """Token ids `(R, W)`."""
    lengths: Indices
    """Tokens of each row, `(R,)`."""
    row: Indices
    """The row of each position, `(M,)`."""
    column: Indices
    """The column of each position, `(M,)`."""
    prompts: Indices
    """The X different prompts that rows begin with, left-aligned ids `(X, P)`."""
    sizes: Indices
    """Tokens of each prompt, `(X,)`."""
    prompt_of: Indices
    """The index of the prompt that each row begins with, `(R,)`."""

    @classmethod
    def of_responses(cls, responses: Responses) -> Self:
        """The fewest rows, and the M positions that predict the responses' tokens in order."""
        ids, lengths, where, columns = responses.input_rows()
        row, t = np.nonzero(responses.mask)
        begun = np.empty(len(ids), dtype=np.int64)
        begun[where] = responses.prompt_of
        # Only prompts that are answered here: a micro-batch has few of a game's prompts.
        asked, prompt_of = np.unique(begun, return_inverse=True)
        prompts, sizes = left_aligned([responses.prompts[x] for x in asked])
        return cls(ids, lengths, where[row], columns[row, t], prompts, sizes, prompt_of)

    def take(self, rows: Mask) -> Self:
        """The rows where `rows` `(R,)` is True, with their positions and prompts."""
        chosen = rows[self.row]
        asked, prompt_of = np.unique(self.prompt_of[rows], return_inverse=True)
        return replace(
            self,
            ids=self.ids[rows],
            lengths=self.lengths[rows],
            row=(np.cumsum(rows) - 1)[self.row[chosen]],
            column=self.column[chosen],
            prompts=self.prompts[asked, : self.sizes[asked].max()],
            sizes=self.sizes[asked],
            prompt_of=prompt_of,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """The same rows with each prompt (stem) once, and the rest of each row (branch) behind it.

    Stems are right-aligned, so that a branch follows its stem at once.
    """

    stems: Tensor
    """The ids of the X prompts, `(X, P)`."""
    known: Tensor | None
    """True at their tokens and False at padding, `(X, P)`; None if nothing is padding."""
    stem_positions: Tensor | None
    """The positions of their tokens, `(X, P)`; None if these are the columns."""
    stem_of: Tensor
    """The index of the stem of each branch, `(R,)`."""
    ids: Tensor
    """The ids of the branches, left-aligned `(R, L)`."""
    positions: Tensor
    """The positions of their tokens, `(R, L)`."""
    where: Tensor
    """The index of each of the M positions among the X P of the stems and the R L of the branches
    behind them, `(M,)`."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Inputs:
    """R left-aligned rows, and the M positions whose states are asked for, on the network's device.

    Tensors of numbers are int64.
    """

    ids: Tensor
    """Token ids `(R, W)`."""
    lengths: Tensor
    """Tokens of each row, `(R,)`."""
    row: Tensor
    """The row of each position, `(M,)`."""
    column: Tensor
    """The column of each position, `(M,)`."""
    branches: Branches | None = None
    """The rows with their prompts apart; None if that is not known."""
    rows: Rows | None = None
    """The rows in the host's memory, to be looked at without waiting; None if they are not there.
    """

    @classmethod
    def of_responses(cls, responses: Responses, device: torch.device) -> Self:
        """The inputs whose M states predict the tokens of the responses, one after the other."""
        return cls.of_rows(Rows.of_responses(responses), device)

    @classmethod
    def of_rows(cls, rows: Rows, device: torch.device) -> Self:
        """The inputs of rows, which go to the device in one copy."""
        stems, known, stem_positions = (
            found.numpy()
            for found in right_aligned(torch.from_numpy(rows.prompts), torch.from_numpy(rows.sizes))
        )
        sizes, width = rows.sizes[rows.prompt_of], stems.shape[1]
        # Where responses have one token, no row goes on; a model still needs a column to run.
        longest = max(1, int((rows.lengths - sizes).max(initial=0)))
        there = np.minimum(sizes[:, None] + np.arange(longest), rows.ids.shape[1] - 1)
        # A position within the prompt has its state in the stem, a later one in the branch.
        ahead = rows.column - sizes[rows.row]
        stem = (rows.prompt_of[rows.row] + 1) * width + ahead
        branch = stems.size + rows.row * longest + ahead
        where = np.where(ahead < 0, stem, branch)
        ids, lengths, row, column, *others = to_device(
            [
                *(rows.ids, rows.lengths, rows.row, rows.column, stems, known, stem_positions),
                *(rows.prompt_of, np.take_along_axis(rows.ids, there, 1), there, where),
            ],
            device,
        )
        stem_ids, mask, positions, *branches = others
        padded = not known.all()
        stems_are = (stem_ids, mask.bool() if padded else None, positions if padded else None)
        return cls(ids, lengths, row, column, Branches(*stems_are, *branches), rows)

    @classmethod
    def whole(cls, ids: Tensor, lengths: Tensor) -> Self:
        """The inputs for the state at the last token of each row `(R, W)` of `lengths` `(R,)`."""
        return cls(ids, lengths, torch.arange(len(ids), device=ids.device), lengths - 1)


def to_device(arrays: Sequence[Array | Indices], device: torch.device) -> list[Tensor]:
    """Arrays of one type as tensors on the device, which get there in one copy."""
    whole = torch.from_numpy(np.concatenate([np.ravel(a) for a in arrays]))
    if device.type != "cpu":
        # From pinned memory the copy goes on while the host does something else.
        whole = whole.pin_memory()
    parts = torch.split(whole.to(device, non_blocking=True), [np.size(a) for a in arrays])
    return [part.view(np.shape(a)) for part, a in zip(parts, arrays, strict=True)]


def right_aligned(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left-aligned `rows` `(N, P)` of `lengths` `(N,)`, moved to the right: ids, mask, positions.

    What follows a row then follows its last token at once. Attention windows, biases by distance
    and recurrent layers, which count columns, count tokens. Masked columns have position 0.
    """
    columns = torch.arange(rows.shape[1], device=rows.device)
    positions = columns - (rows.shape[1] - lengths)[:, None]
    mask, positions = positions >= 0, positions.clamp(min=0)
    return rows.gather(1, positions), mask, positions
