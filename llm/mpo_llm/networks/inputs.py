"""What a network is run over, to know what stands before each token of some responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mpo_llm.responses import Responses, left_aligned


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Left-aligned rows that begin with prompts, and where states are read: M places."""

    ids: Tensor
    """Token ids `(R, W)`."""
    lengths: Tensor
    """Tokens of each row, `(R,)`."""
    row: Tensor
    """For each place, `(M,)`, its row and"""
    column: Tensor
    """its column."""
    prompts: Tensor
    """Left-aligned ids `(X, P)` that rows begin with, each once."""
    sizes: Tensor
    """Tokens of each prompt, `(X,)`."""
    of: Tensor
    """Which prompt a row begins with, `(R,)`."""

    @classmethod
    def of_responses(cls, responses: Responses, device: torch.device) -> Self:
        """Read before each token of the responses, one after the other; no row begins another."""
        ids, lengths, where, columns = responses.written_out()
        row, t = np.nonzero(responses.mask)
        begun = np.empty(len(ids), dtype=np.int64)
        begun[where] = responses.of
        asked, of = np.unique(begun, return_inverse=True)
        prompts, sizes = left_aligned([responses.prompts[x] for x in asked])
        arrays = (ids, lengths, where[row], columns[row, t], prompts, sizes, of)
        return cls(*(torch.from_numpy(a).to(device) for a in arrays))

    @classmethod
    def whole(cls, ids: Tensor, lengths: Tensor) -> Self:
        """Read at the last token of each of the given rows, each a prompt of its own."""
        each = torch.arange(len(ids), device=ids.device)
        return cls(ids, lengths, each, lengths - 1, ids, lengths, each)
