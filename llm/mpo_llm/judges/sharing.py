"""A judge whose work is shared among processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpo_games.protocol import Array
from mpo_llm.judges.protocol import Judge
from mpo_llm.networks.processes import Processes, share


def shared(team: Processes, judge: Judge) -> Judge:
    """The judge, asked by every process about its share of the pairs."""

    def together(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        part = share(team, len(prompts))
        mine = _said(judge, prompts[part], a[part], b[part])
        said = team.gather(mine)
        for answer in said:  # what failed for one has failed for all
            if isinstance(answer, Exception):
                raise answer
        return np.concatenate(said)

    return judge if team.size == 1 else together


def _said(judge: Judge, *pairs: Sequence[str]) -> Any:
    if not pairs[0]:
        return np.zeros(0)
    try:
        return np.asarray(judge(*pairs), dtype=np.float64)
    except Exception as error:
        return error
