"""A judge whose comparisons are divided among the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpo_games.protocol import Array
from mpo_llm.judges.protocol import Judge, ask, raised
from mpo_llm.networks.processes import Processes, share


def shared(processes: Processes, judge: Judge) -> Judge:
    """A judge whose N comparisons are divided among the processes; every process gets all answers.

    With one process it is `judge` itself. An exception in one process is raised in all of them.
    """

    def together(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Array:
        part = share(processes, len(prompts))
        answers = processes.gather(_ask(judge, prompts[part], a[part], b[part]))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return np.concatenate(answers)

    return judge if processes.size == 1 else together


def _ask(judge: Judge, *comparisons: Sequence[str]) -> Any:
    """The answers to this process's share, or the exception that the judge raised."""
    # A process that raised here, alone, would leave the others waiting in `gather`.
    try:
        return ask(judge, *comparisons)
    except Exception as error:
        # As a sentence: not every exception can be sent to another process.
        return raised(error)
