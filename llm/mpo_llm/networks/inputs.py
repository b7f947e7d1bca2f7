"""The rows that a network is run over to get the states before the tokens of responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mpo_llm.responses import Responses, left_aligned


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """R left-aligned rows that begin with prompts, and the M positions whose states are asked for.

    All tensors are int64, on the network's device.
    """

    ids: Tensor
    """Token ids `(R, W)`."""
    lengths: Tensor
    """Tokens of each row, `(R,)`."""
    row: Tensor
    """The row of each position, `(M,)`."""
    column: Tensor
    """The column of each position, `(M,)`."""
    prompts: Tensor
    """The X different prompts that rows begin with, left-aligned ids `(X, P)`."""
    sizes: Tensor
    """Tokens of each prompt, `(X,)`."""
    prompt_of: Tensor
    """The index of the prompt that each row begins with, `(R,)`."""

    @classmethod
    def of_responses(cls, responses: Responses, device: torch.device) -> Self:
        """The inputs whose M states predict the tokens of the responses, one after the other."""
        ids, lengths, where, columns = responses.input_rows()
        row, t = np.nonzero(responses.mask)
        begun = np.empty(len(ids), dtype=np.int64)
        begun[where] = responses.prompt_of
        # Only prompts that are answered here: a micro-batch has few of a game's prompts.
        asked, prompt_of = np.unique(begun, return_inverse=True)
        prompts, sizes = left_aligned([responses.prompts[x] for x in asked])
        arrays = (ids, lengths, where[row], columns[row, t], prompts, sizes, prompt_of)
        return cls(*(torch.from_numpy(a).to(device) for a in arrays))

    @classmethod
    def whole(cls, ids: Tensor, lengths: Tensor) -> Self:
        """The inputs for the state at the last token of each row `(R, W)` of `lengths` `(R,)`."""
        each = torch.arange(len(ids), device=ids.device)
        return cls(ids, lengths, each, lengths - 1, ids, lengths, each)

    def take(self, rows: Tensor) -> Self:
        """The inputs of the rows where `rows` `(R,)` is True, with the prompts that these have."""
        kept, chosen = rows.nonzero()[:, 0], rows[self.row]
        asked, prompt_of = torch.unique(self.prompt_of[kept], return_inverse=True)
        return type(self)(
            self.ids[kept],
            self.lengths[kept],
            (rows.cumsum(0) - 1)[self.row[chosen]],
            self.column[chosen],
            self.prompts[asked, : int(self.sizes[asked].max())],
            self.sizes[asked],
            prompt_of,
        )
