"""The trie of some rows: a token that several rows begin with alike is there once.

In a causal network the state at a token depends on the tokens before it alone. So it is enough to
compute it once for all rows that begin alike, if attention looks at a token's ancestors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor, nn

from mpo_llm.networks.inputs import Inputs, to_device


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """N different beginnings of R rows, each with its last token. Tensors of numbers are int64."""

    tokens: Tensor
    """The last token of each beginning, `(N,)`."""
    depths: Tensor
    """The column in which it stands, `(N,)`."""
    above: Tensor
    """The beginnings that each one begins with, the shortest first and itself last, `(N, W)`."""
    known: Tensor
    """True where there is one, and False at padding, `(N, W)`."""
    where: Tensor
    """The beginning that ends at each of the M positions that are asked for, `(M,)`."""

    @classmethod
    def of(cls, inputs: Inputs) -> Self:
        """The trie of the inputs' rows."""
        ids, lengths, row, column = (
            part.cpu().numpy() for part in (inputs.ids, inputs.lengths, inputs.row, inputs.column)
        )
        there = np.arange(ids.shape[1]) < lengths[:, None]
        marked = np.where(there, ids, -1)
        order = np.lexsort(marked.T[::-1])
        marked, there = marked[order], there[order]
        # A row has in common with the one before it what stands before the first difference.
        new = np.ones(marked.shape, dtype=bool)
        new[1:] = np.logical_or.accumulate(marked[1:] != marked[:-1], axis=1)
        new &= there
        count = np.cumsum(new).reshape(new.shape) - 1
        # Numbers grow from row to row, so the last new one of a column is the largest so far.
        node = np.maximum.accumulate(np.where(new, count, -1), axis=0)
        node = np.where(there, node, -1)
        r, c = np.nonzero(new)
        above = np.where(np.arange(ids.shape[1]) <= c[:, None], node[r], -1)
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        tokens, depths, ancestors, known, where = to_device(
            [marked[r, c], c, np.maximum(above, 0), 1 * (above >= 0), node[back[row], column]],
            inputs.ids.device,
        )
        return cls(tokens, depths, ancestors, known.bool(), where)


@runtime_checkable
class Branching(Protocol):
    """A module that can be run on a trie."""

    def on_trie(self, trie: Trie, /) -> Tensor:
        """Next-token logits after each of the N beginnings, `(N, V)`."""
        ...


def attention(q: Tensor, k: Tensor, v: Tensor, trie: Trie) -> Tensor:
    """Attention of each token to its ancestors and itself; all are `(N, heads, d)`."""
    count, width = trie.above.shape
    flat = trie.above.reshape(-1)
    # `index_select` adds gradients up much faster than an index does.
    keys, values = (x.index_select(0, flat).view(count, width, *x.shape[1:]) for x in (k, v))
    scores = (q[:, None] * keys).sum(-1) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~trie.known[..., None], float("-inf"))
    mixed: Tensor = (nn.functional.softmax(scores, dim=1)[..., None] * values).sum(1)
    return mixed
