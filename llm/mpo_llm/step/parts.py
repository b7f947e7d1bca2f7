"""How responses are split into parts whose activations are in memory at the same time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpo_games.protocol import Indices
from mpo_llm.responses import Responses


@dataclass(frozen=True, slots=True)
class Limits:
    """What a part may have at most; None is no limit. A part has at least one response."""

    rows: int | None = None
    """Responses."""
    tokens: int | None = None
    """Tokens that are run, padding included."""

    def split(self, responses: Responses, *, shared: bool) -> list[Indices]:
        """The indices of the responses in each part; every response is in one part.

        With a limit of tokens, parts have responses of similar length, so that little of them is
        padding. `shared`: a prompt is run once for all its responses in a part.
        """
        count = len(responses)
        if self.tokens is None:
            size = self.rows or max(1, count)
            return [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
        sizes = np.array([len(prompt) for prompt in responses.prompts])[responses.prompt_of]
        orders = [np.lexsort((responses.prompt_of, sizes + responses.lengths))]
        if shared:
            # Together the responses to a prompt have more padding, but the prompt is run once.
            orders.append(np.lexsort((responses.lengths, responses.prompt_of, sizes)))
        found = [self._cut(responses, sizes, order, shared) for order in orders]
        return min(found, key=lambda split: split[0])[1]

    def _cut(
        self, responses: Responses, sizes: Indices, order: Indices, shared: bool
    ) -> tuple[int, list[Indices]]:
        """Parts of responses in this order, as large as may be, and all tokens that they run."""
        parts: list[list[int]] = [[]]
        total = cost = size = length = 0
        asked: set[int] = set()
        for row in order.tolist():
            of, own, answer = (
                int(responses.prompt_of[row]),
                int(sizes[row]),
                int(responses.lengths[row]),
            )
            # The last token of a response is not run.
            while True:
                widest, longest = max(size, own), max(length, answer - 1 + (0 if shared else own))
                prompts = len(asked | {of}) * widest if shared else 0
                more = prompts + (len(parts[-1]) + 1) * longest
                full = self.rows is not None and len(parts[-1]) >= self.rows
                assert self.tokens is not None
                if not parts[-1] or not (full or more > self.tokens):
                    break
                parts.append([])
                total, cost, size, length, asked = total + cost, 0, 0, 0, set()
            parts[-1].append(row)
            cost, size, length = more, widest, longest
            asked.add(of)
        return total + cost, [np.array(part) for part in parts if part]
